"""Ledgers for tests: with a clock that the test turns, and with what most tests put into them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from aipipe.errors import BudgetExceeded
from aipipe.ledger import Funds, Grant, Hold, Ledger, Purpose, Usages, Wait, open_database

ALICE, BOB = "alice@example.com", "bob@example.com"
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
LONG_AGO = date(2000, 1, 1)
FOREVER = NOON * 2


@dataclass
class Clock:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


def open_at(store: Path | str, clock: Callable[[], float] = time.time) -> Ledger:
    """The ledger in the file, or at the URL, `store`."""
    return Ledger(open_database(f"sqlite:///{store}" if isinstance(store, Path) else store), clock=clock)


def purpose(email: str = ALICE, *, app: str = "", model: str = "gpt-4.1-nano") -> Purpose:
    return Purpose(email, app, "openai", model, "v1/chat/completions")


def give(amount: int, estimate: int = 0) -> Callable[[Funds], Grant]:
    """Decides to set `amount` aside if it is there, and refuses otherwise."""

    def decide(funds: Funds) -> Grant:
        if amount > funds.available:
            raise BudgetExceeded("not enough")
        return Grant(amount, estimate, Usages(7, 5))

    return decide


def give_or_wait(amount: int, estimate: int = 0) -> Callable[[Funds], Grant | Wait]:
    """As `give`, but waits in line while others hold the money or wait for it."""

    def decide(funds: Funds) -> Grant | Wait:
        if amount <= funds.available and not funds.ahead:
            return Grant(amount, estimate, Usages(7, 5))
        return Wait() if funds.held or funds.ahead else give(amount)(funds)

    return decide


def hold(
    ledger: Ledger,
    amount: int = 100,
    *,
    email: str = ALICE,
    estimate: int = 40,
    limit: int = 1000,
    expires: float = FOREVER,
    app: str = "",
    model: str = "gpt-4.1-nano",
) -> Hold:
    """An admitted request."""
    found = ledger.admit(
        purpose(email, app=app, model=model), give(amount, estimate), limit=limit, since=LONG_AGO, expires=expires
    )
    assert isinstance(found, Hold)
    return found


def line_up(ledger: Ledger, email: str = ALICE) -> int:
    """A place in line."""
    found = ledger.admit(purpose(email), lambda funds: Wait(), limit=1000, since=LONG_AGO, expires=FOREVER)
    assert isinstance(found, Wait)
    return found.ticket


def settle(ledger: Ledger, held: Hold, cost: int = 30, answer_id: str = "") -> bool:
    """Settles a complete answer; whether anything was booked."""
    settled = ledger.settle(
        held, cost=cost, usages=Usages(10, 20, 3), status=200, ended="complete", answer_id=answer_id
    )
    return settled is not None
