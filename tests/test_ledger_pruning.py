"""Old entries are summed up: totals stay, the books balance, and nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from ledgers import ALICE, BOB, DAY, LONG_AGO, NOON, Clock, hold, open_at, settle

from aipipe.ledger import Day, Ledger, pruning

PI_DAY, END = date(2026, 3, 14), date(9999, 12, 31)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(store: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """One with some months in it, whose batches are small."""
    monkeypatch.setattr(pruning, "BATCH", 3)
    ledger = open_at(store, clock)
    for month in range(3):
        clock.now = NOON + month * 30 * DAY
        for email in (ALICE, BOB):
            for model in ("a", "b", "b"):
                settle(ledger, hold(ledger, email=email, model=model), cost=10 + month)
        ledger.adjust(ALICE, PI_DAY, 5 * (month + 1))  # of either sign, and of the day they adjust, not of today's
    ledger.top_up([Day(BOB, "2026-03-14", 1000)])
    yield ledger
    assert ledger.balanced()
    ledger.close()


def sums(ledger: Ledger) -> list[object]:
    """All that is told of the past but the entries themselves."""
    columns = ("email", "date", "provider", "model", "app")
    by = [ledger.totals(columns[:places], LONG_AGO, END) for places in range(1, 6)]
    return [ledger.daily(None, LONG_AGO, END), *by, ledger.spent(ALICE, LONG_AGO)]


def test_sums_stay_when_entries_go(ledger: Ledger, clock: Clock) -> None:
    before = sums(ledger)
    assert ledger.pruning.fold(NOON + DAY) == 7
    assert sums(ledger) == before
    assert ledger.balanced()
    assert [entry.cost for entry in ledger.entries(BOB)] == [1000, 12, 12, 12, 11, 11, 11]
    assert ledger.pruning.fold(NOON + DAY) == 0
    assert ledger.pruning.fold(clock.now + DAY) == 14
    assert sums(ledger) == before


def test_what_was_imported_is_not_imported_again_after_pruning(ledger: Ledger, clock: Clock) -> None:
    ledger.pruning.fold(clock.now + DAY)
    assert ledger.top_up([Day(BOB, "2026-03-14", 1000)]) == []
    assert [entry.ended for entry in ledger.entries(BOB)] == ["imported"]


def test_a_day_can_be_adjusted_and_spent_on_after_its_entries_are_gone(ledger: Ledger, clock: Clock) -> None:
    ledger.pruning.fold(clock.now + DAY)
    assert ledger.adjust(ALICE, PI_DAY, 100) == 85
    settle(ledger, hold(ledger, model="a"), cost=7)
    assert ledger.daily(ALICE, PI_DAY, PI_DAY) == [Day(ALICE, "2026-03-14", 100)]


def test_books_that_lack_an_entry_which_was_not_pruned_do_not_balance(ledger: Ledger) -> None:
    ledger.pruning.fold(NOON + DAY)
    entries = ledger._database.read("SELECT id, cost FROM entry ORDER BY id")
    ledger._database.write(lambda execute: execute("UPDATE entry SET cost = cost + 1 WHERE id = ?", [entries[0][0]]))
    assert not ledger.balanced()
    ledger._database.write(lambda execute: execute("UPDATE entry SET cost = cost - 1 WHERE id = ?", [entries[0][0]]))


def test_two_that_prune_at_once_sum_each_entry_up_once_while_others_spend(
    ledger: Ledger, store: str, clock: Clock
) -> None:
    before, done = ledger.spent(ALICE, LONG_AGO), threading.Event()

    def spends() -> int:
        charged = 0
        while not done.is_set() or not charged:
            assert settle(ledger, hold(ledger, limit=10**9), cost=1)
            charged += 1
        return charged

    other = open_at(store, clock)
    with ThreadPoolExecutor(3) as threads:
        spending = threads.submit(spends)
        folding = [threads.submit(one.pruning.fold, clock.now) for one in (ledger, other)]
        assert sum(one.result(30) for one in folding) == 14
        done.set()
        charged = spending.result(30)
    assert ledger.spent(ALICE, LONG_AGO) == before + charged
    other.close()
