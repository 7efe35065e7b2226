"""How each provider last failed: for the eyes of admins, and no part of the books."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from aipipe.errors import LedgerUnavailable
from aipipe.ledger.database import Database
from aipipe.ledger.types import Failure

AGAIN_AFTER = 1.0  # seconds: a provider that refuses all day is written about once a second at most


class Failures:
    """The last failure of every provider, as all workers of the ledger have noted them."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock
        self._noted: dict[tuple[str, int], float] = {}  # by provider and status, by this worker

    def note(self, provider: str, status: int, message: str) -> None:
        """Never raises for a ledger that can't be reached: there are graver things then."""
        now = self._clock()
        if abs(now - self._noted.get((provider, status), 0)) < AGAIN_AFTER:
            return
        self._noted[provider, status] = now
        with suppress(LedgerUnavailable):
            self._database.write(
                lambda execute: execute(
                    "INSERT INTO provider_error (provider, time, status, message) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (provider) DO UPDATE SET time = excluded.time, status = excluded.status,"
                    " message = excluded.message",
                    [provider, now, status, message],
                )
            )

    def last(self) -> dict[str, Failure]:
        """The last failure by provider; those that never failed are left out."""
        rows = self._database.read("SELECT provider, time, status, message FROM provider_error")
        return {provider: Failure(*rest) for provider, *rest in rows}
