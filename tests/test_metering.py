"""Metering with a real ledger: who waits, who gets in, what an answer is charged, and what is put right later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from asking import BUDGET, SCHOOL, call
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import ALICE, BOB, LONG_AGO, give, line_up, open_at, purpose

from aipipe.budgets import Budget
from aipipe.errors import BudgetExceeded, LedgerUnavailable, RateLimited
from aipipe.formats import Reading
from aipipe.ledger import Hold, Ledger, Purpose, sqlite
from aipipe.metering import Bill, Charge, ClientGone, Keeper, Metering, assess
from aipipe.providers.openrouter import OPENROUTER
from aipipe.tokens import Identity
from aipipe.usage_parsing import Usage

PATIENCE = 10.0
ME = Identity(ALICE)
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
MOST = {"max_tokens": 99_000}  # takes nearly all of a budget of 1,000,000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(store: str) -> Iterator[Ledger]:
    ledger = open_at(store)
    yield ledger
    assert ledger.balanced()
    assert ledger.holds() == []
    ledger.close()


@pytest.fixture
def metering(ledger: Ledger) -> Iterator[Metering]:
    metering = Metering(ledger, patience=PATIENCE, request_limit=60)
    yield metering
    metering.close()


@pytest.fixture
def keeper(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """One that looks after the ledger when the test says so, and not by itself."""
    monkeypatch.setattr(Keeper, "start", lambda self: None)
    return Keeper(ledger)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def stays() -> bool:
    return False


def admit(metering: Metering, identity: Identity = ME, *, budget: Budget = BUDGET, **asked: Any) -> Charge:
    return metering.admit(identity, budget, call(budget=budget, **asked), stays)


def charge(ledger: Ledger, keeper: Keeper, amount: int = 1000, **asked: Any) -> Charge:
    """An admitted request that holds `amount`, whose settlement `keeper` carries out."""
    hold = ledger.admit(purpose(), give(amount, amount), limit=10**9, since=LONG_AGO, expires=10**10)
    assert isinstance(hold, Hold)
    return Charge(ledger, keeper, call(**asked), hold, BUDGET, LONG_AGO)


def told(input_tokens: int, output_tokens: int, **more: int) -> Reading:
    """What was read of an answer that tells its usage."""
    return Reading(usage=Usage({"input_tokens": input_tokens, "output_tokens": output_tokens, **more}))


@contextmanager
def locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else writes to the ledger, and goes on longer than anybody waits."""
    with closing(apsw.Connection(str(path))) as connection, monkeypatch.context() as patch:
        patch.setattr(sqlite, "PATIENCE", 0.01)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


# Admission and settlement


def test_a_request_holds_its_bound_until_it_is_charged_what_it_cost(metering: Metering, ledger: Ledger) -> None:
    charge = admit(metering, max_tokens=50)
    (hold,) = ledger.holds()
    assert hold.grant.amount == charge.grant.amount == charge.call.ask.bound + 500
    assert hold.purpose == Purpose(ALICE, "", "school", "unknown", "v1/chat/completions")
    bill = charge.settle(told(12, 34, cache_read_tokens=2), status=200)
    assert bill
    assert (bill.cost, bill.remaining) == (351, BUDGET.limit - 351)
    (entry,) = ledger.entries(ALICE)
    assert (entry.cost, entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (351, 12, 34, 2)
    assert (entry.status, entry.ended, entry.date) == (200, "complete", datetime.now(UTC).date().isoformat())


def test_a_request_through_an_app_is_booked_under_it(metering: Metering, ledger: Ledger) -> None:
    charge = admit(metering, Identity(ALICE, app="https://bob.github.io"))
    charge.settle(told(1, 1), status=200)
    assert [entry.app for entry in ledger.entries(ALICE)] == ["https://bob.github.io"]


def test_a_released_request_costs_nothing(metering: Metering, ledger: Ledger) -> None:
    admit(metering).release()
    assert ledger.entries(ALICE) == []


def test_what_is_resolved_is_not_resolved_again(metering: Metering, ledger: Ledger) -> None:
    charge = admit(metering)
    assert charge.settle(told(1, 1), status=200)
    assert charge.settle(told(1, 1), status=200) is None
    charge.release()
    assert len(ledger.entries(ALICE)) == 1


def test_only_spending_in_the_window_counts(metering: Metering, ledger: Ledger) -> None:
    today = datetime.now(UTC).date()
    ledger.adjust(ALICE, today - timedelta(days=BUDGET.days), BUDGET.limit)
    admit(metering).release()
    ledger.adjust(ALICE, today - timedelta(days=BUDGET.days - 1), BUDGET.limit)
    with pytest.raises(BudgetExceeded):
        admit(metering)


# Waiting


class Arrivals:
    """Requests that wait in line, each in a thread of its own, known to wait before the next one comes."""

    def __init__(self, metering: Metering, threads: ThreadPoolExecutor) -> None:
        self._metering, self._threads = metering, threads
        self.left = threading.Event()

    def wait(self, identity: Identity = ME, **asked: Any) -> Future[Charge]:
        waits = threading.Event()

        def gone() -> bool:
            waits.set()
            return self.left.is_set()

        asked_call = call(**(asked or MOST))
        found = self._threads.submit(self._metering.admit, identity, BUDGET, asked_call, gone)
        assert waits.wait(PATIENCE)
        return found


@pytest.fixture
def arrivals(metering: Metering, threads: ThreadPoolExecutor) -> Arrivals:
    return Arrivals(metering, threads)


def test_a_request_waits_for_money_that_comes_back(metering: Metering, arrivals: Arrivals, ledger: Ledger) -> None:
    first = admit(metering, **MOST)
    second = arrivals.wait()
    assert not second.done()
    assert [hold.grant.amount > 0 for hold in ledger.holds()] == [True, False]
    first.settle(told(10, 20), status=200)
    second.result(PATIENCE).release()


def test_those_who_wait_come_in_their_order_and_newcomers_behind_them(
    metering: Metering, arrivals: Arrivals, threads: ThreadPoolExecutor
) -> None:
    first = admit(metering, **MOST)
    waiting = [arrivals.wait() for _ in range(3)]
    waiting.append(arrivals.wait(max_tokens=20))  # there is money for this one, but others were here before
    first.release()
    for place, this in enumerate(waiting):
        charge = this.result(PATIENCE)
        if place < 2:  # the last two fit side by side
            assert not any(other.done() for other in waiting[place + 1 :])
        charge.release()


def test_others_do_not_wait_for_somebody_elses_money(metering: Metering, arrivals: Arrivals) -> None:
    first = admit(metering, **MOST)
    second = arrivals.wait()
    admit(metering, Identity(BOB), **MOST).release()
    first.release()
    second.result(PATIENCE).release()


def test_who_waited_in_vain_is_told_to_come_back_soon(ledger: Ledger) -> None:
    metering = Metering(ledger, patience=0.05, request_limit=60)
    first = admit(metering, **MOST)
    with pytest.raises(RateLimited, match="have not finished") as caught:
        admit(metering, **MOST)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "2"})
    assert len(ledger.holds()) == 1
    first.release()
    metering.close()


def test_who_leaves_the_line_is_not_waited_for(metering: Metering, arrivals: Arrivals, ledger: Ledger) -> None:
    first = admit(metering, **MOST)
    second = arrivals.wait()
    arrivals.left.set()
    with pytest.raises(ClientGone):
        second.result(PATIENCE)
    assert len(ledger.holds()) == 1
    first.release()


def test_waiting_ends_at_once_when_no_money_can_come_back(
    metering: Metering, arrivals: Arrivals, ledger: Ledger
) -> None:
    first = admit(metering, **MOST)
    second = arrivals.wait()
    first.settle(told(10, 99_990), status=200)  # all of it was needed
    with pytest.raises(BudgetExceeded):
        second.result(PATIENCE)


def test_a_full_line_turns_the_next_one_away(metering: Metering, ledger: Ledger) -> None:
    first = admit(metering, **MOST)
    line = [line_up(ledger) for _ in range(32)]
    with pytest.raises(RateLimited):
        admit(metering, **MOST)
    for place in line:
        ledger.release(place)
    first.release()


@ON_SQLITE
def test_a_place_in_line_is_left_though_the_ledger_is_locked_just_then(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    metering = Metering(ledger, patience=PATIENCE, request_limit=60)
    first = admit(metering, **MOST)
    unlock: list[Callable[..., object]] = []

    def leaves() -> bool:
        lock = locked(path, monkeypatch)
        lock.__enter__()
        unlock.append(lock.__exit__)
        return True

    with pytest.raises(ClientGone):
        metering.admit(ME, BUDGET, call(**MOST), leaves)
    unlock[0](None, None, None)
    metering._keeper.look_after()
    assert len(ledger.holds()) == 1
    first.release()
    metering.close()


@ON_SQLITE
def test_a_ledger_that_can_not_be_reached_admits_nobody(
    metering: Metering, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(path, monkeypatch), pytest.raises(LedgerUnavailable) as caught:
        admit(metering)
    assert caught.value.status == 503


# What is put right later


@ON_SQLITE
def test_a_settlement_that_the_ledger_did_not_take_is_kept_and_booked_once(
    ledger: Ledger, keeper: Keeper, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, refused, both = (charge(ledger, keeper) for _ in range(3))
    with locked(path, monkeypatch):
        assert answered.settle(told(1, 2), status=200) is None
        refused.release()
        both.settle(told(2, 2), status=200)
        both.release()
        with pytest.raises(LedgerUnavailable):
            keeper.look_after()
    assert len(ledger.holds()) == 3
    keeper.look_after()
    keeper.look_after()
    assert ledger.holds() == []
    assert [entry.cost for entry in ledger.entries(ALICE)] == [22, 21]


@ON_SQLITE
def test_a_debt_that_can_not_be_paid_does_not_keep_others_from_being_paid(
    ledger: Ledger, keeper: Keeper, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def hopeless() -> None:
        tries.append(1)
        raise LedgerUnavailable if len(tries) == 1 else OverflowError

    assert keeper.carry_out(hopeless) is None
    asked = charge(ledger, keeper)
    with locked(path, monkeypatch):
        asked.settle(told(1, 2), status=200)
    keeper.look_after()
    keeper.look_after()
    assert len(tries) == 2
    assert len(ledger.entries(ALICE)) == 1


def test_looking_after_the_ledger_sweeps_it(ledger: Ledger, keeper: Keeper) -> None:
    ledger.admit(purpose(), give(5, 5), limit=9, since=LONG_AGO, expires=1.0)
    keeper.look_after()
    assert ledger.holds() == []


# What an answer is charged

SAID = Reading(text_bytes=41, pieces=3)  # 11 tokens
SPOKE = Reading(text_bytes=4, pieces=9)  # 9 tokens, as many as there were pieces
TOLD = told(100, 20)
HI = call().ask.likely  # tokens
CHARGED: dict[str, tuple[Reading, bool, dict[str, Any], int, bool]] = {
    "its usage": (TOLD, False, {}, 300, True),
    "cached tokens at their price": (told(100, 20, cache_read_tokens=50), False, {}, 275, True),
    "no usage: what was read and written": (SAID, False, {}, HI + 110, False),
    "no usage: each piece is a token at least": (SPOKE, False, {}, HI + 90, False),
    "no usage: nothing written": (Reading(), False, {}, HI, False),
    "broken off before its usage": (SAID, True, {}, HI + 110, False),
    "broken off after its usage": (replace(TOLD, text_bytes=40), True, {}, 300, False),
    "broken off after a usage of the beginning": (replace(TOLD, text_bytes=400), True, {}, 1100, False),
    "whole, and counted otherwise by us": (replace(TOLD, text_bytes=400), False, {}, 300, True),
    "the beginning's usage alone": (replace(TOLD, text_bytes=400, unfinished=True), False, {}, 1100, False),
    "a usage that contradicts itself": (told(10, 20, cache_read_tokens=50), False, {}, HI + 200, False),
    "a usage of what has no price": (
        Reading(usage=Usage({"input_characters": 9}), text_bytes=40), False, {}, HI + 100, False,
    ),
    "a free model": (TOLD, False, {"model": "free"}, 0, True),
    "a free model without a usage": (SAID, False, {"model": "free"}, 0, False),
    "a model that reads for nothing": (TOLD, False, {"model": "writes"}, 200, True),
    "a model that reads for nothing, and wrote nothing": (Reading(), False, {"model": "writes"}, 0, False),
    "embeddings": (Reading(usage=Usage({"input_tokens": 7})), False, {"model": "embeds"}, 7, True),
}  # fmt: skip


@pytest.mark.parametrize(("reading", "interrupted", "asked", "cost", "sure"), CHARGED.values(), ids=CHARGED)
def test_an_answer_is_charged(
    reading: Reading, interrupted: bool, asked: dict[str, Any], cost: int, sure: bool
) -> None:
    _, found, is_sure = assess(call(**asked), reading, interrupted, 10**6)
    assert (found, is_sure) == (cost, sure)


def test_the_entry_says_whether_the_provider_told_it_or_we_counted(ledger: Ledger, keeper: Keeper) -> None:
    for reading, interrupted in ((TOLD, False), (SAID, False), (TOLD, True)):
        charge(ledger, keeper).settle(reading, status=200, interrupted=interrupted)
    assert [entry.ended for entry in reversed(ledger.entries(ALICE))] == ["complete", "partial", "partial"]


def test_a_guess_is_never_dearer_than_what_can_have_been_made(ledger: Ledger, keeper: Keeper) -> None:
    recording = Reading(text_bytes=10**9)  # a sound in base64, say, in an answer that broke off
    bill = charge(ledger, keeper, amount=500).settle(recording, status=200, interrupted=True)
    assert bill
    assert bill.cost == 500


def test_more_than_was_held_is_charged_all_the_same_and_nothing_remains(ledger: Ledger, keeper: Keeper) -> None:
    bill = charge(ledger, keeper, amount=10).settle(told(10, 10**6), status=200)
    assert isinstance(bill, Bill)
    assert (bill.cost, bill.remaining) == (10_000_010, 0)


counts = st.integers(0, 2**64) | st.integers(0, 1000)
numbers = st.integers(-5, 2**64) | st.floats(allow_nan=False, allow_infinity=False)
units = st.sampled_from(
    ["input_tokens", "output_tokens", "cache_read_tokens", "input_audio_tokens", "audio_seconds", "output_tokens"]
)
raw = st.fixed_dictionaries(
    {},
    optional={
        "cost": numbers | st.booleans() | st.text(),
        "is_byok": st.booleans() | st.text(),
        "cost_details": st.none() | st.lists(numbers) | st.dictionaries(st.just("upstream_inference_cost"), numbers),
    },
)
usages = st.builds(Usage, st.dictionaries(units, counts), st.none() | st.text(), raw)
readings = st.builds(
    Reading,
    usage=st.none() | usages,
    unfinished=st.booleans(),
    text_bytes=st.integers(0, 10**9),
    pieces=st.integers(0, 10**6),
)
CALLS = [
    replace(call(model, path=path, **fields), provider=provider)
    for provider in (SCHOOL, OPENROUTER)
    for model, path, fields in (
        ("unknown", "/v1/chat/completions", {}),
        ("writes", "/v1/chat/completions", {}),
        ("free", "/v1/chat/completions", {}),
        ("embeds", "/v1/embeddings", {"input": "Hi"}),
    )
]


@settings(deadline=None)
@given(asked=st.sampled_from(CALLS), reading=readings, interrupted=st.booleans())
def test_whatever_a_provider_tells_there_is_a_cost_and_it_is_never_negative(
    asked: Any, reading: Reading, interrupted: bool
) -> None:
    found, cost, _ = assess(asked, reading, interrupted, 10**9)
    assert isinstance(cost, int)
    assert cost >= 0
    assert all(int(each) >= 0 for each in found.values())
