"""How often somebody came of late, and how many of them are still here, on whatever worker or machine.

A storage for https://limits.readthedocs.io, kept in the ledger's database: nothing else is needed to count together.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from limits.storage import MovingWindowSupport, Storage

from aipipe.errors import LedgerUnavailable
from aipipe.ledger.database import Database, Execute, Row

TIDY_EVERY = 100  # visits: then those of everybody that have expired are thrown away

Ask = Callable[..., list[Row]]


class Visits(Storage, MovingWindowSupport):
    """One row a visit, which counts until it expires or ends. Raises LedgerUnavailable as the ledger does."""

    STORAGE_SCHEME = None
    base_exceptions = LedgerUnavailable

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._database, self._clock = database, clock

    def enter(self, key: str, most: int, seconds: float, amount: int = 1) -> int | None:
        """Begins a visit that counts for so many seconds, and returns its number; None where `most` have not expired.

        Who is refused costs a look, and no transaction.
        """
        if self._count(self._database.read, key) + amount > most:
            return None

        def work(execute: Execute) -> int | None:
            if self._count(execute, key) + amount > most:
                return None
            number = 0
            for _ in range(amount):
                values = [key, self._clock() + seconds]
                number = int(execute("INSERT INTO visit (name, expires) VALUES (?, ?) RETURNING id", values)[0][0])
            if number % TIDY_EVERY == 0:
                execute("DELETE FROM visit WHERE expires <= ?", [self._clock()])
            return number

        return self._database.write(work, key)

    def leave(self, number: int) -> None:
        """Ends a visit before it expires."""
        self._database.write(lambda execute: execute("DELETE FROM visit WHERE id = ?", [number]))

    def _count(self, ask: Ask, key: str) -> int:
        rows = ask("SELECT COUNT(*) FROM visit WHERE name = ? AND expires > ?", [key, self._clock()])
        return int(rows[0][0])

    # As `limits` asks for it

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.enter(key, limit, expiry, amount) is not None

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        return self.get_expiry(key) - expiry, self.get(key)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        self.enter(key, 2**63, expiry, amount)
        return self.get(key)

    def get(self, key: str) -> int:
        return self._count(self._database.read, key)

    def get_expiry(self, key: str) -> float:
        now = self._clock()
        rows = self._database.read("SELECT MIN(expires) FROM visit WHERE name = ? AND expires > ?", [key, now])
        return float(rows[0][0] or now)

    def check(self) -> bool:
        self._database.read("SELECT 1 FROM visit WHERE id = 0")
        return True

    def clear(self, key: str) -> None:
        self._database.write(lambda execute: execute("DELETE FROM visit WHERE name = ?", [key]))

    def reset(self) -> int | None:
        return len(self._database.write(lambda execute: execute("DELETE FROM visit RETURNING id")))
