"""SQLite as the ledger's database: one connection a process, short transactions, cooperative waiting.

SQLite calls block the whole worker, so a transaction never waits inside one: when another process is
writing, `BEGIN IMMEDIATE` fails at once and is tried again after a sleep that lets other requests run.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from aipipe.errors import LedgerUnavailable
from aipipe.ledger.database import PATIENCE, Execute, Row, unavailable
from aipipe.ledger.schema import newest, prepare
from aipipe.ledger.workers import FileWorker

T = TypeVar("T")
MANY_ENTRIES = 100_000
NAMES = "SELECT name FROM sqlite_master"
DIALECT = {"{key}": "INTEGER PRIMARY KEY AUTOINCREMENT", "{clustered}": "WITHOUT ROWID"}


class SQLite:
    """A `Database` in a file, with one connection: only one process writes at a time."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._file = str(self._path)
        self._folder = Path(f"{self._path}-workers")
        self._lock = threading.Lock()
        if Path(f"{self._path}-wal").exists() and not self._path.exists():
            raise LedgerUnavailable(f"{self._path} is gone, and {self._path.name}-wal is not: put it back beside that.")
        try:
            self._connection = apsw.Connection(path)
            # A commit is in the operating system's hands before the call returns, so it outlives the
            # process; see docs/decisions/003-durability.md for what a power cut may cost.
            self._patiently(lambda: self._connection.pragma("journal_mode", "wal"))
            self._connection.pragma("synchronous", "normal")
            self._connection.set_busy_timeout(1)
        except apsw.Error as error:
            raise unavailable(error) from error
        self._place = self._where()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        try:
            self.write(lambda execute: prepare(execute, NAMES, DIALECT))
        except LedgerUnavailable:
            if self.read("SELECT version FROM schema_version") != [(newest(),)]:
                raise
            # All is there, and somebody else is writing.
        self._look_for_statistics()

    def _look_for_statistics(self) -> None:
        """With statistics SQLite reads a long window person by person, in half the time that sorting its days takes.

        They are made where they are missing or old, in a tenth of a second; if not now, then at the next start. None of
        few entries: they would advise to read them all, and go on to when they are many.
        https://www.sqlite.org/pragma.html#pragma_optimize
        """
        last = self.read("SELECT MAX(id) FROM entry")[0][0] or 0
        if last > MANY_ENTRIES:
            with suppress(apsw.Error):
                self._connection.execute("PRAGMA optimize=0x10002")

    def _where(self) -> tuple[int, int] | None:
        """What tells the file that has our path now from every other."""
        try:
            found = os.stat(self._file)  # noqa: PTH116 - at every transaction, and three times as quick as a Path's
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_place(self) -> None:
        """What is written to a file that was moved or replaced would be lost; and an empty one is no ledger."""
        if self._where() != self._place:
            raise apsw.CantOpenError("its file was moved or replaced: put it back, or restart AI Pipe with the new one")

    def write(self, work: Callable[[Execute], T], *_names: str) -> T:
        return self._patiently(lambda: self._transaction(work))

    def worker(self, _clock: Callable[[], float]) -> FileWorker:
        try:
            return FileWorker(self._folder)
        except OSError as error:
            raise LedgerUnavailable(f"AI Pipe can't write to {self._folder}: {error.strerror}.") from error

    def _transaction(self, work: Callable[[Execute], T]) -> T:
        with self._lock:
            self._check_place()
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
                self._check_place()
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
