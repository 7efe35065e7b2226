"""SQLite as the ledger's database: one connection a process, short transactions, cooperative waiting.

SQLite calls block the whole worker, so a transaction never waits inside one: when another process is
writing, `BEGIN IMMEDIATE` fails at once and is tried again after a sleep that lets other requests run.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from aipipe.errors import LedgerUnavailable
from aipipe.ledger.schema import COST_VIEW, SCHEMA, VERSION

T = TypeVar("T")
Row = tuple[Any, ...]
PATIENCE = 5.0

log = logging.getLogger(__name__)


class Execute(Protocol):
    """Runs one statement and returns all of its rows."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Row]: ...


class SQLite:
    """A database file. `write` and `read` may be called from any greenlet or thread of the process that made it."""

    def __init__(self, path: str) -> None:
        self.folder = Path(f"{path}-workers").absolute()
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
        self.write(self._make_tables)

    def _make_tables(self, execute: Execute) -> None:
        for statement in SCHEMA:
            execute(statement.format(key="INTEGER PRIMARY KEY AUTOINCREMENT"))
        execute(COST_VIEW.format(if_missing="IF NOT EXISTS"))
        if not execute("SELECT version FROM schema_version"):
            execute("INSERT INTO schema_version VALUES (?)", [VERSION])

    def write(self, work: Callable[[Execute], T]) -> T:
        """Runs `work` in one transaction: everything it executed is kept, or nothing if it raises.

        `work` must not sleep, wait or do anything else that lets another greenlet run.

        Raises:
            LedgerUnavailable: the database stayed locked for five seconds, or can't be written.
        """
        return self._patiently(lambda: self._transaction(work))

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
        """The rows of one query, read as the database stood at one moment."""

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


def unavailable(error: apsw.Error) -> LedgerUnavailable:
    log.error("The ledger does not answer: %s", error)
    return LedgerUnavailable()
