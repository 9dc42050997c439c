# Reads day,email and writes SQL. Who comes for the first time joins.
BEGIN { FS = ","; print "BEGIN;" }
NR > 1 {
    gsub(/'/, "''")
    if (!($2 in id)) {
        id[$2] = ++last
        printf "INSERT INTO member (id, email, joined) VALUES (%d, '%s', '%s');\n", last, $2, $1
    }
    printf "INSERT INTO visit (member, day) VALUES (%d, '%s');\n", id[$2], $1
}
END { print "COMMIT;" }
