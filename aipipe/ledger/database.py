"""What the ledger asks of a database, whichever it is: SQLite for one machine, PostgreSQL for several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from aipipe.errors import LedgerUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]
PATIENCE = 5.0  # seconds that the database may be locked, or gone

log = logging.getLogger(__name__)


class Execute(Protocol):
    """Runs one statement, with `?` for its values, and returns all of its rows."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Row]: ...


class Worker(Protocol):
    """This process, as the other workers of the same ledger see it: alive until it ends, in whatever way."""

    @property
    def name(self) -> str: ...

    def dead(self, names: Collection[str]) -> set[str]:
        """Those of the workers `names` that are surely gone. Raises LedgerUnavailable when that can't be told."""

    def bury(self) -> None:
        """Forgets the dead. Sweep their holds first."""

    def close(self) -> None: ...


class Database(Protocol):
    """Tables and transactions. Its methods may be called from any greenlet or thread of the process that made it."""

    def write(self, work: Callable[[Execute], T], *names: str) -> T:
        """Runs `work` in one transaction: everything it executed is kept, or nothing if it raises.

        Transactions that name the same, such as a person's email, run one after another: what one of them reads of that
        person stays true until it ends.
        `work` may run more than once, and must not sleep, wait or do anything else that lets another greenlet run.

        Raises:
            LedgerUnavailable: the database stayed locked for five seconds, can't be written, or is gone. Where it is
                lost at the very end, the work may have been kept all the same.
        """

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of one query, read as the database stood at one moment. Raises LedgerUnavailable."""

    def worker(self, clock: Callable[[], float]) -> Worker:
        """This process among the ledger's workers. Raises LedgerUnavailable."""

    def close(self) -> None: ...


def unavailable(error: Exception) -> LedgerUnavailable:
    log.error("The ledger does not answer: %s", error)
    return LedgerUnavailable()
