"""The one SQLite connection, and its tables.

It belongs to the event loop's thread: every statement is short, and a worker thread never sees
it. So what a handler does between two `await`s is one step that no other request can enter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_oci.home import damaged, disk_full

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


# Primary result codes (sqlite.org/rescode.html). ERROR is a table that is none of ours.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_NOT_WRITTEN = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class Database:
    """A SQLite file in write-ahead mode: a kill at any instant loses no committed change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        with self._translated():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        """Run one statement; outside `transaction` it commits at once.

        Raises:
            DiskFullError: there is no space for it; nothing has changed.
            StateError: the file is damaged.
        """
        with self._translated():
            return self._connection.execute(statement, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the statements inside one change: all of them, or none after an exception.

        Inside another transaction they are part of that.

        Raises:
            DiskFullError, StateError: as `execute`.
        """
        if self._connection.in_transaction:
            yield
            return
        with self._translated():
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

    def check(self) -> None:
        """Read all of the file.

        Raises:
            StateError: it is damaged.
        """
        with self._translated():
            (first,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if first != "ok":
            raise damaged(self.path, first)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _NOT_WRITTEN:
                raise disk_full(self.path) from error
            if code in _DAMAGED:
                raise damaged(self.path, error) from error
            raise
