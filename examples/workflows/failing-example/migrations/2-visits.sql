CREATE TABLE visit (
    member INTEGER NOT NULL REFERENCES member (id),
    day    TEXT NOT NULL
);
CREATE INDEX visit_by_member ON visit (member);
