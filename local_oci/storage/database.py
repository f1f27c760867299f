"""The one SQLite connection, and its tables.

It belongs to the event loop's thread: every statement is short, and a worker thread never sees
it. So what a handler does between two `await`s is one step that no other request can enter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retry_tokens (
    operation TEXT NOT NULL,
    token TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    time_used REAL NOT NULL,
    PRIMARY KEY (operation, token)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_entries (
    sequence INTEGER PRIMARY KEY,
    log_id TEXT NOT NULL,
    time REAL NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS log_entries_by_time ON log_entries (log_id, time);
"""


class Database:
    """A SQLite file in write-ahead mode: a kill at any instant loses no committed change."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        """Run one statement; outside `transaction` it commits at once."""
        return self._connection.execute(statement, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the statements inside one change: all of them, or none after an exception.

        Inside another transaction they are part of that.
        """
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite ends it itself when the disk is full
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
