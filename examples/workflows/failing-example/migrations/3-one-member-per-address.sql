-- People write their address now so, now so; it is the same one.
UPDATE member SET email = lower(trim(email));
CREATE UNIQUE INDEX member_by_email ON member (email);
