"""Apps that people allowed, in the ledger: what they may spend, to the nanodollar, and what their tokens are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import BUDGET, call
from ledgers import ALICE, BOB, DAY, Clock, hold, open_at, settle

from aipipe.admission import needed
from aipipe.errors import BudgetExceeded, NotAuthenticated, RateLimited
from aipipe.ledger import Cap, Funds, Grant, Handed, Ledger, Wait
from aipipe.ledger.apps import MOST_TOKENS
from aipipe.metering import decide

QUIZ, CHAT = "https://quiz.example.com", "https://chat.example.com"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(store: str, clock: Clock) -> Iterator[Ledger]:
    ledger = open_at(store, clock)
    yield ledger
    ledger.close()


@pytest.fixture
def allow(ledger: Ledger, clock: Clock) -> Callable[..., None]:
    def allow(app: str = QUIZ, cap: int | None = None, *, email: str = ALICE, days: float = 30) -> None:
        ledger.apps.allow(email, app, clock.now + days * DAY, cap)

    return allow


def spent(ledger: Ledger, app: str = QUIZ, email: str = ALICE) -> int:
    found = ledger.apps.find(email, app)
    assert found
    return found.spent


# What an app may spend


def test_a_cap_bounds_what_is_spent_and_held_together(ledger: Ledger, allow: Callable[..., None]) -> None:
    allow(cap=250)
    settle(ledger, hold(ledger, 100, app=QUIZ), cost=70)
    hold(ledger, 100, app=QUIZ)
    with pytest.raises(BudgetExceeded):
        hold(ledger, 81, app=QUIZ)
    assert hold(ledger, 80, app=QUIZ)


def test_a_cap_is_one_apps_of_one_person(ledger: Ledger, allow: Callable[..., None]) -> None:
    allow(cap=50)
    allow(CHAT)
    allow(email=BOB)
    for app, email in ((CHAT, ALICE), ("", ALICE), (QUIZ, BOB)):
        assert hold(ledger, 100, app=app, email=email)


def test_a_cap_buys_no_more_than_the_budget_has(ledger: Ledger, allow: Callable[..., None]) -> None:
    allow(cap=10**9)
    with pytest.raises(BudgetExceeded):
        hold(ledger, 1001, app=QUIZ, limit=1000)


def test_two_hundred_at_once_on_a_cap_that_fits_three(store: str, allow: Callable[..., None], clock: Clock) -> None:
    """From two workers of one ledger."""
    allow(cap=350)
    workers = [open_at(store, clock) for _ in range(2)]

    def attempt(number: int) -> int:
        ledger = workers[number % 2]
        try:
            held = hold(ledger, 100, app=QUIZ, limit=10**9)
        except BudgetExceeded:
            return 0
        settle(ledger, held, cost=100)
        return 100

    with ThreadPoolExecutor(16) as threads:
        total = sum(threads.map(attempt, range(200)))
    assert total == spent(workers[0]) == 300
    assert workers[0].balanced()
    for worker in workers:
        worker.close()


def test_what_the_books_say_is_what_the_app_is_charged(
    ledger: Ledger, allow: Callable[..., None], clock: Clock
) -> None:
    allow(cap=1000)
    settle(ledger, hold(ledger, 100, app=QUIZ), cost=30)
    hold(ledger, 100, app=QUIZ, estimate=40, expires=clock.now + 60)  # its worker dies
    assert ledger.release(hold(ledger, 100, app=QUIZ).id)
    clock.now += 61
    ledger.sweep()
    found = ledger.apps.find(ALICE, QUIZ)
    assert found
    assert (found.spent, found.last_used) == (70, clock.now)
    assert found.spent == sum(entry.cost for entry in ledger.entries(ALICE) if entry.app == QUIZ)


def test_a_settlement_tells_what_is_left_of_the_cap(ledger: Ledger, allow: Callable[..., None]) -> None:
    allow(cap=100)
    held = hold(ledger, 90, app=QUIZ)
    settled = ledger.settle(held, cost=30, usages=held.grant.usages, status=200, ended="complete")
    assert settled
    assert settled.cap_left == 70


def test_allowed_anew_an_app_begins_anew(ledger: Ledger, allow: Callable[..., None], clock: Clock) -> None:
    allow(cap=100)
    settle(ledger, hold(ledger, 100, app=QUIZ), cost=60)
    old = hold(ledger, 40, app=QUIZ)
    ledger.apps.revoke(ALICE, QUIZ)
    clock.now += 1
    allow(cap=100)
    assert hold(ledger, 100, app=QUIZ)
    settle(ledger, old, cost=40)
    assert spent(ledger) == 0


@pytest.mark.parametrize("how", ["revoked", "over"])
def test_nothing_is_admitted_for_an_app_that_was_sent_away(
    ledger: Ledger, allow: Callable[..., None], clock: Clock, how: str
) -> None:
    """Though it was let in before: it may have waited in line since."""
    allow(days=1)
    if how == "revoked":
        ledger.apps.revoke(ALICE, QUIZ)
    clock.now += DAY
    with pytest.raises(NotAuthenticated):
        hold(ledger, 1, app=QUIZ)
    assert ledger.holds() == []


# What admission makes of a cap


def funds(cap: Cap | None, *, held: int = 0, ahead: int = 0) -> Funds:
    return Funds(BUDGET.limit, 0, held, ahead, None, cap)


def test_an_answer_is_as_long_as_the_cap_buys() -> None:
    asked = call()
    whole, capped = decide(asked, BUDGET, funds(None)), decide(asked, BUDGET, funds(Cap(5000, 0, 0)))
    assert isinstance(whole, Grant) and isinstance(capped, Grant)
    assert capped.amount <= 5000 < whole.amount


def test_a_cap_that_is_used_up_is_final_and_says_so() -> None:
    asked = call(max_tokens=100)
    with pytest.raises(BudgetExceeded, match="that you let this app spend") as refusal:
        decide(asked, BUDGET, funds(Cap(5000, 4999, 0)))
    assert "revoke it at /apps" in refusal.value.message
    with pytest.raises(BudgetExceeded, match="of your budget"):
        decide(asked, BUDGET, Funds(5000, 4999, 0, 0, None, Cap(10**6, 0, 0)))


def test_an_app_that_holds_its_cap_itself_does_not_block_the_line() -> None:
    asked = call(max_tokens=100)
    least = needed(asked.ask, asked.card)
    with pytest.raises(RateLimited):
        decide(asked, BUDGET, funds(Cap(5000, 0, 5000 - least + 1), held=5000 - least + 1))
    assert isinstance(decide(asked, BUDGET, funds(Cap(5000, 0, 0), held=BUDGET.limit)), Wait)


# Tokens and codes


def test_a_token_is_in_force_until_it_is_revoked(ledger: Ledger, allow: Callable[..., None], clock: Clock) -> None:
    allow()
    assert ledger.apps.add_token(ALICE, QUIZ, "one") == Handed(ALICE, QUIZ, clock.now + 30 * DAY)
    assert ledger.apps.in_force("one", ALICE, QUIZ)
    for jti, email, app in (("two", ALICE, QUIZ), ("one", BOB, QUIZ), ("one", ALICE, CHAT), ("", ALICE, QUIZ)):
        assert not ledger.apps.in_force(jti, email, app)
    ledger.apps.revoke_token(BOB, "one")
    assert ledger.apps.in_force("one", ALICE, QUIZ)
    ledger.apps.revoke_token(ALICE, "one")
    assert not ledger.apps.in_force("one", ALICE, QUIZ)


def test_only_an_allowed_app_gets_tokens(ledger: Ledger, allow: Callable[..., None], clock: Clock) -> None:
    assert ledger.apps.add_token(ALICE, QUIZ, "early") is None
    allow(days=1)
    assert ledger.apps.add_token(BOB, QUIZ, "bobs") is None
    clock.now += DAY
    assert ledger.apps.add_token(ALICE, QUIZ, "late") is None
    assert ledger.apps.tokens(ALICE) == ledger.apps.tokens(BOB) == []


def test_an_app_that_loses_its_token_at_every_visit_keeps_the_newest(
    ledger: Ledger, allow: Callable[..., None], clock: Clock
) -> None:
    allow()
    for number in range(MOST_TOKENS + 2):
        clock.now += 1
        ledger.apps.add_token(ALICE, QUIZ, f"token {number}")
    kept = [token.jti for token in ledger.apps.tokens(ALICE)]
    assert kept == [f"token {number}" for number in range(MOST_TOKENS + 1, 1, -1)]


def test_a_code_is_good_once_for_a_minute_and_kept_as_a_hash(
    ledger: Ledger, allow: Callable[..., None], clock: Clock
) -> None:
    allow()
    for code in ("in time", "too late"):
        ledger.apps.add_code(code, ALICE, QUIZ, "challenge")
    assert "in time" not in str(ledger._database.read("SELECT * FROM app_code"))
    clock.now += 59
    assert ledger.apps.redeem("in time", "challenge", QUIZ, "one")
    clock.now += 1
    assert ledger.apps.redeem("too late", "challenge", QUIZ, "two") is None
    assert [token.jti for token in ledger.apps.tokens(ALICE)] == ["one"]
    clock.now += DAY
    ledger.apps.add_code("another", ALICE, QUIZ, "challenge")
    assert len(ledger._database.read("SELECT * FROM app_code")) == 1


def test_of_many_who_trade_a_code_at_once_one_gets_a_token_at_most(allow: Callable[..., None], ledger: Ledger) -> None:
    allow()
    ledger.apps.add_code("code", ALICE, QUIZ, "challenge")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda jti: ledger.apps.redeem("code", "challenge", None, jti), map(str, range(8))))
    assert len([handed for handed in found if handed]) == 1
    assert ledger.apps.tokens(ALICE) == []  # since two had the code
