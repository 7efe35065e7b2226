"""The ledger: every hold is resolved once, every cost is booked once, and the books balance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime

import apsw
import psycopg
import pytest
from ledgers import ALICE, BOB, DAY, FOREVER, LONG_AGO, NOON, Clock, give, hold, line_up, open_at, purpose, settle

from aipipe.errors import BudgetExceeded
from aipipe.ledger import Day, Failure, Funds, Grant, Hold, Ledger, Pace, Settled, Total, Usages, Wait, open_database
from aipipe.ledger.database import Database

PI_DAY = date(2026, 3, 14)
PATIENCE = 10.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(store: str, clock: Clock) -> Iterator[Ledger]:
    ledger = open_at(store, clock)
    yield ledger
    assert ledger.balanced()
    ledger.close()


@pytest.fixture
def elsewhere(store: str, ledger: Ledger) -> Iterator[Database]:
    """The same database, as another process has it."""
    with closing(open_database(store)) as database:
        yield database


# Holds


@pytest.mark.parametrize("second", ["settle", "release", "sweep"])
@pytest.mark.parametrize("first", ["settle", "release", "sweep"])
def test_of_all_that_resolves_a_hold_only_the_first_counts(
    first: str, second: str, ledger: Ledger, clock: Clock
) -> None:
    held = hold(ledger, expires=NOON + 60)
    clock.now += 61
    resolve = {
        "settle": lambda: settle(ledger, held, cost=30),
        "release": lambda: ledger.release(held.id),
        "sweep": lambda: ledger.sweep() == 1,
    }
    assert resolve[first]() is True
    assert resolve[second]() is False
    assert ledger.holds() == []
    assert ledger.spent(ALICE, LONG_AGO) == {"settle": 30, "release": 0, "sweep": 40}[first]


def test_money_held_is_not_available_to_the_next_request(ledger: Ledger) -> None:
    seen: list[Funds] = []

    def look(funds: Funds) -> Grant:
        seen.append(funds)
        return Grant(0, 0, Usages())

    hold(ledger, 350)
    hold(ledger, 250)
    settle(ledger, hold(ledger, 300), cost=150)
    hold(ledger, 50, email=BOB)
    ledger.admit(purpose(), look, limit=1000, since=LONG_AGO, expires=FOREVER)
    assert seen == [Funds(limit=1000, spent=150, held=600, ahead=0, oldest="2026-03-14")]
    assert seen[0].available == 250
    with pytest.raises(BudgetExceeded):
        hold(ledger, 251)


def test_a_refused_admission_leaves_no_trace(ledger: Ledger) -> None:
    before = hold(ledger, 600)
    with pytest.raises(BudgetExceeded):
        hold(ledger, 500)
    assert ledger.holds() == [before]


def test_a_settlement_tells_what_was_booked_and_what_is_spent_in_the_window(ledger: Ledger, clock: Clock) -> None:
    settle(ledger, hold(ledger), cost=5)
    clock.now += DAY
    settle(ledger, hold(ledger), cost=20)
    held = hold(ledger)
    booked = ledger.settle(
        held, cost=30, usages=Usages(), status=200, ended="partial", since=date(2026, 3, 15), answer_id="x" * 500
    )
    assert booked == Settled(cost=30, spent=50)
    assert ledger.spent(ALICE, LONG_AGO) == 55
    assert len(ledger.entries(ALICE)[0].answer_id) == 200


def test_an_entry_bears_the_date_of_its_admission(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 3, 14, 23, 59, 59, tzinfo=UTC).timestamp()
    settled, swept = hold(ledger), hold(ledger, expires=clock.now + 60, estimate=40)
    clock.now += 62
    settle(ledger, settled, cost=30)
    assert ledger.sweep() == 1
    assert {entry.date for entry in ledger.entries(ALICE)} == {"2026-03-14"}
    assert ledger.spent(ALICE, date(2026, 3, 15)) == 0
    assert ledger.entries(ALICE)[0].duration == 62_000
    assert ledger.release(swept.id) is False


@pytest.mark.parametrize(("cost", "booked"), [(-5, 0), (10**30, 10**15)])
def test_what_a_provider_lies_about_stays_within_bounds(cost: int, booked: int, ledger: Ledger) -> None:
    lie = Usages(2**70, -3, 10**15 + 1)
    settled = ledger.settle(hold(ledger), cost=cost, usages=lie, status=200, ended="complete")
    assert settled == Settled(cost=booked, spent=booked)
    entry = ledger.entries(ALICE)[0]
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (10**15, 0, 10**15)


def test_a_clock_that_steps_back_breaks_nothing(ledger: Ledger, clock: Clock) -> None:
    held = hold(ledger)
    clock.now -= DAY
    assert settle(ledger, held)
    assert ledger.entries(ALICE)[0].duration == 0


# The line


def test_the_line_is_first_come_first_served_for_each_person(ledger: Ledger) -> None:
    first, second, bobs = line_up(ledger), line_up(ledger), line_up(ledger, BOB)
    assert [ledger.is_next(ALICE, first), ledger.is_next(ALICE, second), ledger.is_next(BOB, bobs)] == [
        True,
        False,
        True,
    ]
    assert ledger.release(first)
    assert ledger.is_next(ALICE, second)


def test_a_place_in_line_becomes_a_hold_and_is_kept_until_then(ledger: Ledger) -> None:
    ahead: list[int] = []

    def wait(funds: Funds) -> Wait:
        ahead.append(funds.ahead)
        return Wait()

    def enter(ticket: int) -> int:
        found = ledger.admit(purpose(), wait, limit=9, since=LONG_AGO, expires=FOREVER, ticket=ticket)
        return found.ticket if isinstance(found, Wait) else 0

    first, second = enter(0), enter(0)
    assert (enter(first), enter(second)) == (first, second)
    assert ahead == [0, 1, 0, 1]
    found = ledger.admit(purpose(), give(5), limit=9, since=LONG_AGO, expires=FOREVER, ticket=first)
    assert isinstance(found, Hold)
    assert [one.id for one in ledger.holds()] == [second, found.id]


# Entries


@pytest.mark.parametrize("total", [0, 10, 50, 800])
def test_an_adjustment_makes_the_day_cost_what_was_said(total: int, ledger: Ledger, clock: Clock) -> None:
    settle(ledger, hold(ledger, app="https://app.example.com"), cost=30)
    settle(ledger, hold(ledger, model="gpt-4.1"), cost=20)
    settle(ledger, hold(ledger, email=BOB), cost=9)
    clock.now += DAY
    settle(ledger, hold(ledger), cost=4)
    before = ledger.entries(ALICE)
    assert ledger.adjust(ALICE, PI_DAY, total) == total - 50
    assert ledger.daily(ALICE, PI_DAY, PI_DAY) == [Day(ALICE, "2026-03-14", total)]
    assert ledger.daily(None, date(2026, 3, 14), date(2026, 3, 15)) == [
        Day(ALICE, "2026-03-15", 4),
        Day(ALICE, "2026-03-14", total),
        Day(BOB, "2026-03-14", 9),
    ]
    added = [entry for entry in ledger.entries(ALICE) if entry not in before]
    assert [(entry.cost, entry.ended) for entry in added] == ([(total - 50, "adjusted")] if total != 50 else [])
    assert ledger.adjust(ALICE, PI_DAY, total) == 0


def test_the_cost_view_has_the_columns_that_readers_of_the_database_know(ledger: Ledger, elsewhere: Database) -> None:
    for cost in (30_000_000, 70_000_000):
        settle(ledger, hold(ledger, 10**9, limit=10**10), cost=cost)
    assert elsewhere.read("SELECT * FROM cost") == [(ALICE, "2026-03-14", 0.1)]
    assert elsewhere.read("SELECT email, date, cost FROM cost") == [(ALICE, "2026-03-14", 0.1)]


def test_entries_can_be_neither_free_of_sign_nor_of_an_unknown_end(ledger: Ledger, elsewhere: Database) -> None:
    settle(ledger, hold(ledger))
    for change in ("cost = -1", "ended = 'lost'", "cost = 1000000000000000001"):
        with pytest.raises((apsw.ConstraintError, psycopg.IntegrityError)):
            elsewhere.write(lambda execute, change=change: execute(f"UPDATE entry SET {change}"))


def test_an_answer_is_known_to_its_owner_alone(ledger: Ledger) -> None:
    settle(ledger, hold(ledger), answer_id="resp_1")
    settle(ledger, hold(ledger))
    assert ledger.answer(ALICE, "resp_1") == Usages(10, 20, 3)
    assert ledger.answer(BOB, "resp_1") is None
    assert ledger.answer(ALICE, "resp_2") is None
    assert ledger.answer(ALICE, "") is None


def test_people_are_told_what_they_did_on_some_days_and_spent_in_each_window(ledger: Ledger, clock: Clock) -> None:
    settle(ledger, hold(ledger), cost=30)
    settle(ledger, hold(ledger, email=BOB), cost=7)
    clock.now += DAY
    settle(ledger, hold(ledger), cost=4)
    windows = [date(2026, 3, 14), date(2026, 3, 15)]
    alice, bob = Total((ALICE,), 4, 1, 10, 20), Total((BOB,), 0, 0, 0, 0)
    first = last = date(2026, 3, 15)
    found = sorted(ledger.people(first, last, windows), key=lambda person: person[0].key)
    assert found == [(alice, True, (34, 4)), (bob, False, (7, 0))]
    assert ledger.people(first, last, windows, search="BOB@") == [(bob, False, (7, 0))]
    assert ledger.people(first, last, windows[1:]) == [(alice, True, (4,))]


@pytest.mark.parametrize(
    ("by", "search", "expected"),
    [
        (("date",), "", [("2026-03-14", 37)]),
        (("email",), "", [(ALICE, 30), (BOB, 7)]),
        (("model",), "", [("a", 30), ("b", 7)]),
        (("model",), "ob@", [("b", 7)]),
        (("date",), "ob@", [("2026-03-14", 7)]),
        (("email",), "%", []),
    ],
)
def test_totals_are_the_same_from_whichever_sums_they_come(
    by: tuple[str, ...], search: str, expected: list[tuple[str, int]], ledger: Ledger
) -> None:
    settle(ledger, hold(ledger, model="a"), cost=30)
    settle(ledger, hold(ledger, email=BOB, model="b"), cost=7)
    found = ledger.totals(by, PI_DAY, PI_DAY, search=search)  # type: ignore[arg-type]
    assert [(*total.key, total.cost) for total in found] == expected


def test_of_a_providers_failures_the_last_is_known(ledger: Ledger, clock: Clock) -> None:
    for status in (503, 429, 429):  # the third within the same second: once is enough
        ledger.failures.note("openai", status, f"It said {status}.")
    clock.now += 60
    ledger.failures.note("gemini", 401, "It does not take our key.")
    assert ledger.failures.last() == {
        "openai": Failure(NOON, 429, "It said 429."),
        "gemini": Failure(NOON + 60, 401, "It does not take our key."),
    }
    ledger.failures.note("openai", 429, "It said 429 again.")
    assert ledger.failures.last()["openai"] == Failure(NOON + 60, 429, "It said 429 again.")


def test_the_pace_of_a_provider_tells_first_tokens_of_streams_alone(ledger: Ledger, clock: Clock) -> None:
    for seconds, first_token in ((1, None), (2, 300), (4, 100)):
        held = hold(ledger)
        clock.now += seconds
        ledger.settle(held, cost=1, usages=Usages(), status=200, ended="complete", first_token=first_token)
    assert ledger.paces(10) == {"openai": Pace(requests=3, first_token=200, whole=2000)}
    assert ledger.paces(1) == {"openai": Pace(requests=1, first_token=100, whole=4000)}
    assert [entry.first_token for entry in ledger.entries(ALICE)] == [100, 300, None]


def test_a_reset_is_remembered_and_moves_forward(ledger: Ledger, clock: Clock) -> None:
    assert ledger.void_before(ALICE) is None
    assert ledger.reset_tokens(ALICE) == NOON == ledger.void_before(ALICE)
    clock.now += 5
    ledger.reset_tokens(ALICE)
    assert ledger.void_before(ALICE) == NOON + 5
    assert ledger.void_before(BOB) is None
