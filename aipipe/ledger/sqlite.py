"""SQLite as the ledger's database: one connection a process, short transactions, cooperative waiting.

SQLite calls block the whole worker, so a transaction never waits inside one: when another process is
writing, `BEGIN IMMEDIATE` fails at once and is tried again after a sleep that lets other requests run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from aipipe.errors import LedgerUnavailable
from aipipe.ledger.database import PATIENCE, Execute, Row, unavailable
from aipipe.ledger.schema import prepare
from aipipe.ledger.workers import FileWorker

T = TypeVar("T")
NAMES = "SELECT name FROM sqlite_master"
DIALECT = {"{key}": "INTEGER PRIMARY KEY AUTOINCREMENT"}


class SQLite:
    """A `Database` in a file, with one connection: only one process writes at a time."""

    def __init__(self, path: str) -> None:
        self._folder = Path(f"{path}-workers").absolute()
        self._lock = threading.Lock()
        try:
            self._connection = apsw.Connection(path)
            # A commit is in the operating system's hands before the call returns, so it outlives the
            # process; see docs/decisions/003-durability.md for what a power cut may cost.
            self._patiently(lambda: self._connection.pragma("journal_mode", "wal"))
            self._connection.pragma("synchronous", "normal")
            self._connection.set_busy_timeout(1)
        except apsw.Error as error:
            raise unavailable(error) from error
        try:
            self.write(lambda execute: prepare(execute, NAMES, DIALECT))
        except BaseException:
            self.close()
            raise

    def write(self, work: Callable[[Execute], T], *_people: str) -> T:
        return self._patiently(lambda: self._transaction(work))

    def worker(self, _clock: Callable[[], float]) -> FileWorker:
        try:
            return FileWorker(self._folder)
        except OSError as error:
            raise LedgerUnavailable(f"AI Pipe can't write to {self._folder}: {error.strerror}.") from error

    def _transaction(self, work: Callable[[Execute], T]) -> T:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._execute)
                self._connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT or a full disk may have ended the transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        def once() -> list[Row]:
            with self._lock:
                return self._execute(sql, values)

        return self._patiently(once)

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return list(self._connection.execute(sql, tuple(values)))

    def _patiently(self, action: Callable[[], T]) -> T:
        patience = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except apsw.BusyError as error:
                if time.monotonic() > patience:
                    raise unavailable(error) from error
            except apsw.ConstraintError:
                raise
            except apsw.Error as error:
                raise unavailable(error) from error
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - spreads the retries, guards nothing

    def close(self) -> None:
        with self._lock:
            self._connection.close()
