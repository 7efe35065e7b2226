"""The ledger in every order of events, and under many threads of several processes at once."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.managers import SyncManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import databases
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from ledgers import ALICE, BOB, DAY, FOREVER, LONG_AGO, Clock, give_or_wait, hold, open_at, purpose, settle
from waiting import eventually

from aipipe.errors import BudgetExceeded
from aipipe.ledger import Hold, Wait
from aipipe.ledger.books import date_of, day_of

LIMIT = 1000
PATIENCE = 30.0
people = st.sampled_from([ALICE, BOB])
amounts = st.integers(0, LIMIT)


class Orders(RuleBasedStateMachine):
    """Anything may happen to any hold at any time, as often as it likes. What the ledger must hold is kept apart."""

    holds = Bundle("holds")
    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.clock = Clock()
        self.ledger = open_at(self.store(), self.clock)
        self.live: dict[int, tuple[Hold, float]] = {}
        self.line: dict[int, tuple[str, float]] = {}
        self.booked: Counter[tuple[str, str]] = Counter()

    def store(self) -> Path | str:
        return Path(self.folder.name) / "ledger.db"

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def available(self, email: str) -> int:
        held = sum(one.grant.amount for one, _ in self.live.values() if one.purpose.email == email)
        return LIMIT - held - sum(cost for (who, _), cost in self.booked.items() if who == email)

    def enter(self, email: str, amount: int, lasts: float, ticket: int) -> Hold | Wait | None:
        expires = self.clock.now + lasts
        try:
            found = self.ledger.admit(
                purpose(email),
                give_or_wait(amount, amount // 2),
                limit=LIMIT,
                since=LONG_AGO,
                expires=expires,
                ticket=ticket,
            )
        except BudgetExceeded:
            assert amount > self.available(email)
            return None
        if isinstance(found, Hold):
            assert amount <= self.available(email)
            self.live[found.id] = (found, expires)
        return found

    @rule(target=holds, email=people, amount=amounts, lasts=st.sampled_from([60, 4 * DAY]))
    def admit(self, email: str, amount: int, lasts: float) -> Any:
        found = self.enter(email, amount, lasts, 0)
        if isinstance(found, Wait):
            self.line[found.ticket] = (email, self.clock.now + lasts)
        return found

    @rule(target=holds, amount=amounts)
    def next_in_line(self, amount: int) -> Any:
        for ticket, (email, _) in self.line.items():
            if self.ledger.is_next(email, ticket):
                found = self.enter(email, amount, 60, ticket)
                assert found is None or isinstance(found, Hold) or found.ticket == ticket
                if isinstance(found, Hold):
                    del self.line[ticket]
                return found
        return None

    @rule()
    def leave_the_line(self) -> None:
        if self.line:
            ticket, _ = self.line.popitem()
            assert self.ledger.release(ticket)
            assert not self.ledger.release(ticket)

    @rule(held=holds, share=st.floats(0, 1))
    def settle(self, held: Any, share: float) -> None:
        if isinstance(held, Hold):
            cost = int(held.grant.amount * share)
            assert settle(self.ledger, held, cost) is (held.id in self.live)
            if self.live.pop(held.id, None):
                self.booked[held.purpose.email, day_of(held.created)] += cost

    @rule(held=holds)
    def release(self, held: Any) -> None:
        if isinstance(held, Hold):
            assert self.ledger.release(held.id) is (self.live.pop(held.id, None) is not None)

    @rule(seconds=st.sampled_from([-5, 1, 61, DAY]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def sweep(self) -> None:
        lost = [held for held, expires in self.live.values() if expires < self.clock.now]
        left = [ticket for ticket, (_, expires) in self.line.items() if expires < self.clock.now]
        assert self.ledger.sweep() == len(lost) + len(left)
        for held in lost:
            del self.live[held.id]
            self.booked[held.purpose.email, day_of(held.created)] += held.grant.estimate
        for ticket in left:
            del self.line[ticket]

    @rule(email=people, share=st.floats(0, 1))
    def adjust(self, email: str, share: float) -> None:
        for (who, day), total in self.booked.items():
            if who == email:
                cost = int(total * share)
                assert self.ledger.adjust(email, date_of(day), cost) == cost - total
                self.booked[who, day] = cost
                return

    @invariant()
    def the_ledger_holds_what_it_must(self) -> None:
        assert {one.id for one in self.ledger.holds()} == self.live.keys() | self.line.keys()
        days = self.ledger.daily(None, LONG_AGO, date_of("9999-12-31"))
        assert {(day.email, day.date): day.cost for day in days if day.cost} == {
            key: cost for key, cost in self.booked.items() if cost
        }
        assert self.ledger.balanced()

    @invariant()
    def nobody_passes_the_limit(self) -> None:
        assert self.available(ALICE) >= 0
        assert self.available(BOB) >= 0


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_all_of_that_holds_in_postgresql_too(postgres: str) -> None:
    class OrdersInPostgreSQL(Orders):
        def store(self) -> str:
            databases.empty(postgres)
            return postgres

    run_state_machine_as_test(
        OrdersInPostgreSQL, settings=settings(max_examples=12, stateful_step_count=30, deadline=None)
    )


# Many at once

PROCESSES, THREADS, REQUESTS = 3, 6, 15


@pytest.fixture(scope="module")
def processes() -> Any:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def manager() -> Any:
    with multiprocessing.get_context("spawn").Manager() as manager:
        yield manager


def everywhere(processes: ProcessPoolExecutor, work: Callable[..., int], store: str, *rest: Any) -> list[int]:
    """What `work` returns, once for each process, all of them begun."""
    begun = [processes.submit(work, store, number, *rest) for number in range(PROCESSES)]
    return [one.result(PATIENCE) for one in begun]


def in_threads(work: Callable[[int], int]) -> int:
    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(work, range(THREADS)))


def spend(store: str, process: int, most: int) -> int:
    """Requests, one after another in each thread, each charged at most what it holds; returns what was charged."""
    ledger = open_at(store)

    def thread(number: int) -> int:
        charged = 0
        dice = random.Random(f"{process}/{number}")
        for _ in range(REQUESTS):
            try:
                held = hold(ledger, dice.randint(1, most), limit=LIMIT)
            except BudgetExceeded:
                continue
            if dice.random() < 0.2:
                assert ledger.release(held.id)
                continue
            cost = dice.randint(0, held.grant.amount)
            assert settle(ledger, held, cost)
            charged += cost
        return charged

    total = in_threads(thread)
    ledger.close()
    return total


@pytest.mark.parametrize("most", [LIMIT // 3, 40])
def test_charges_never_pass_the_limit_and_every_one_is_booked(
    most: int, processes: ProcessPoolExecutor, store: str
) -> None:
    charged = sum(everywhere(processes, spend, store, most))
    ledger = open_at(store)
    assert ledger.spent(ALICE, LONG_AGO) == charged
    assert 0 < charged <= LIMIT
    assert ledger.holds() == []
    assert ledger.balanced()
    ledger.close()


def resolve(store: str, process: int, holds: list[Hold], barrier: threading.Barrier) -> int:
    """Tries to resolve every hold, in each thread in another way; returns how many it was the first to resolve."""
    ledger = open_at(store)

    def thread(number: int) -> int:
        barrier.wait(PATIENCE)
        if number == 0:
            return ledger.sweep()
        ways = (lambda one: ledger.release(one.id), lambda one: settle(ledger, one))
        return sum(ways[number % 2](one) for one in random.Random(number).sample(holds, len(holds)))

    resolved = in_threads(thread)
    ledger.close()
    return resolved


def test_a_hold_is_resolved_once_however_many_try_at_once(
    processes: ProcessPoolExecutor, manager: SyncManager, store: str
) -> None:
    ledger = open_at(store)
    holds = [hold(ledger, 1, estimate=30, expires=1.0) for _ in range(60)]
    resolved = everywhere(processes, resolve, store, holds, manager.Barrier(PROCESSES * THREADS))
    assert sum(resolved) == len(holds)
    assert ledger.holds() == []
    assert ledger.spent(ALICE, LONG_AGO) == 30 * len(ledger.entries(ALICE))
    assert ledger.balanced()
    ledger.close()


def queue_up(store: str, process: int) -> int:
    """In each thread one request that needs most of the money, and waits until it has it; returns how many had to."""
    ledger = open_at(store)
    pause = threading.Event()

    def thread(number: int) -> int:
        ticket = 0
        while True:
            found = ledger.admit(
                purpose(), give_or_wait(LIMIT - 100), limit=LIMIT, since=LONG_AGO, expires=FOREVER, ticket=ticket
            )
            if isinstance(found, Hold):
                assert settle(ledger, found, 1)
                return bool(ticket)
            ticket = found.ticket
            while not ledger.is_next(ALICE, ticket):
                pause.wait(0.005)

    waited = in_threads(thread)
    ledger.close()
    return waited


def test_requests_that_exclude_each_other_all_have_their_turn(processes: ProcessPoolExecutor, store: str) -> None:
    ledger = open_at(store)
    first = hold(ledger, LIMIT)
    begun = [processes.submit(queue_up, store, number) for number in range(PROCESSES)]
    eventually(lambda: len(ledger.holds()) == 1 + PROCESSES * THREADS, "all stand in line", PATIENCE)
    ledger.release(first.id)
    assert [one.result(PATIENCE) for one in begun] == [THREADS] * PROCESSES
    assert ledger.spent(ALICE, LONG_AGO) == PROCESSES * THREADS
    assert ledger.holds() == []
    ledger.close()
