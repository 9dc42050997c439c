PRAGMA journal_mode = WAL;

CREATE TABLE account (
    id      INTEGER PRIMARY KEY,
    owner   TEXT NOT NULL UNIQUE,
    balance INTEGER NOT NULL CHECK (balance >= 0)
) STRICT;

CREATE TABLE transfer (
    id     INTEGER PRIMARY KEY,
    source INTEGER NOT NULL REFERENCES account (id),
    target INTEGER NOT NULL REFERENCES account (id),
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;
