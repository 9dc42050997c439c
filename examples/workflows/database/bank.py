#!/usr/bin/env python3
"""bank.py DATABASE PORT: accounts and transfers over HTTP, kept in SQLite.

GET /accounts                          {"ada": 100, …}
POST /transfers {from, to, amount}     201; 404: no such account; 409: not enough on it; 400: not understood
"""

from __future__ import annotations

import json
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST = 10_000


class Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def connect(path: str) -> sqlite3.Connection:
    """One for each request: a connection belongs to its thread."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def transfer(db: sqlite3.Connection, source: str, target: str, amount: int) -> None:
    # Immediate: of two transfers at once, one waits, and both see what the other has done.
    db.execute("BEGIN IMMEDIATE")
    try:
        ids = dict(db.execute("SELECT owner, id FROM account WHERE owner IN (?, ?)", (source, target)))
        if {source, target} - ids.keys():
            raise Refused(404, "no such account")
        db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, ids[source]))
        db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, ids[target]))
        db.execute(
            "INSERT INTO transfer (source, target, amount) VALUES (?, ?, ?)",
            (ids[source], ids[target], amount),
        )
        db.execute("COMMIT")
    except sqlite3.IntegrityError as e:
        db.execute("ROLLBACK")
        raise Refused(409, str(e)) from e
    except BaseException:
        db.execute("ROLLBACK")
        raise


class Handler(BaseHTTPRequestHandler):
    database: str

    def do_GET(self) -> None:
        if self.path != "/accounts":
            return self.answer(404, {"error": "not found"})
        db = connect(self.database)
        accounts = dict(db.execute("SELECT owner, balance FROM account ORDER BY owner"))
        db.close()
        self.answer(200, accounts)

    def do_POST(self) -> None:
        db = connect(self.database)
        try:
            length = int(self.headers.get("Content-Length", 0))
            if self.path != "/transfers" or length > LARGEST:
                raise Refused(404, "not found")
            wanted = json.loads(self.rfile.read(length))
            transfer(db, wanted["from"], wanted["to"], int(wanted["amount"]))
            self.answer(201, {"transferred": wanted["amount"]})
        except Refused as e:
            self.answer(e.status, {"error": str(e)})
        except (ValueError, KeyError, TypeError) as e:
            self.answer(400, {"error": f"not understood: {e}"})
        finally:
            db.close()

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    Handler.database, port = sys.argv[1], int(sys.argv[2])
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.serve_forever()
