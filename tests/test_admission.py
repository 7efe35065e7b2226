"""What a request gets of a budget: every sentence of the rules of admission is a case."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from asking import BUDGET, call
from hypothesis import given, settings
from hypothesis import strategies as st

from aipipe.admission import LONGEST_LINE, Ask, Share, needed, share, shortest
from aipipe.budgets import Budget
from aipipe.errors import BudgetExceeded, RateLimited
from aipipe.ledger import Funds, Grant, Wait
from aipipe.metering import decide
from aipipe.rates import Card

CARD = Card(Decimal(1), Decimal(10), Decimal(0))  # nanodollars for a token that is read, and one that is written
FREE = Card(Decimal(0), Decimal(0), Decimal(0))
NOTHING = None
ASK = {"input_bytes": 100}  # likely 25 tokens


# rule, request, money there is: what it gets beside other requests, what it gets alone
RULES: dict[str, tuple[dict[str, Any], int, Share | None, Share | None]] = {
    "its own cap": ({"cap": 2000}, 20_100, Share(20_100, 2000), Share(20_100, 2000)),
    "or what the money buys, if that is less": ({"cap": 2000}, 15_100, Share(15_100, 1500), Share(15_100, 1500)),
    "its own cap, however small": ({"cap": 3}, 20_000, Share(130, 3), Share(130, 3)),
    "no more than the model writes": ({"cap": 9999, "most": 4096}, 10**6, Share(41_060, 4096), Share(41_060, 4096)),
    "without a cap the model's maximum": ({"most": 4096}, 163_840, Share(41_060, 4096), Share(41_060, 4096)),
    "of an unknown model 16,384": ({}, 10**7, Share(163_940, 16_384), Share(163_940, 16_384)),
    "or what a quarter of the money buys": ({}, 100_000, Share(25_100, 2500), Share(25_100, 2500)),
    "at least 1,024 tokens' worth": ({}, 20_000, Share(10_340, 1024), Share(10_340, 1024)),
    "for each of its choices": ({"choices": 4}, 100_000, Share(41_060, 1024), Share(41_060, 1024)),
    "its cap for each of its choices": ({"cap": 50, "choices": 4}, 2100, Share(2100, 50), Share(2100, 50)),
    "below 1,024 it waits for others, or gets what is left": ({}, 10_000, NOTHING, Share(10_000, 990)),
    "and so with a cap": ({"cap": 2000}, 10_000, NOTHING, Share(10_000, 990)),
    "below its own small cap too": ({"cap": 500}, 5090, NOTHING, Share(5090, 499)),
    "below the model's small maximum too": ({"most": 500}, 5090, NOTHING, Share(5090, 499)),
    "below 1,024 a choice too": ({"cap": 2000, "choices": 2}, 20_570, NOTHING, Share(20_560, 1023)),
    "down to 16": ({}, 185, NOTHING, Share(185, 16)),
    "and not below": ({}, 184, NOTHING, NOTHING),
    "unless it wants less": ({"cap": 5}, 75, NOTHING, Share(75, 5)),
    "a model that thinks 1,024": ({"least": 1024}, 10_340, Share(10_340, 1024), Share(10_340, 1024)),
    "or nothing": ({"least": 1024}, 10_264, NOTHING, NOTHING),
    "Claude its thoughts and 1,024": ({"cap": 9000, "least": 6024}, 60_340, Share(60_340, 6024), Share(60_340, 6024)),
    "without a cap as well": ({"least": 6024}, 60_340, Share(60_340, 6024), Share(60_340, 6024)),
    "and waits for that": ({"cap": 9000, "least": 6024}, 60_330, NOTHING, Share(60_330, 6030)),
    "or gets nothing": ({"cap": 9000, "least": 6024}, 60_264, NOTHING, NOTHING),
    "bytes that don't fit, but a quarter of them: everything": ({"input_bytes": 4000}, 2000, NOTHING, Share(2000, 100)),
    "a quarter that doesn't fit": ({"input_bytes": 4000}, 999, NOTHING, NOTHING),
    "a quarter that fits, and no answer": ({"input_bytes": 4000}, 1159, NOTHING, NOTHING),
    "images by their tokens": ({"input_tokens": 900, "cap": 10}, 1100, Share(1100, 10), Share(1100, 10)),
    "images are no quarter": ({"input_tokens": 900, "cap": 10}, 1024, NOTHING, NOTHING),
    "embeddings by their bytes": ({"output": False}, 100, Share(100, 0), Share(100, 0)),
    "embeddings by a quarter of them": ({"output": False}, 99, NOTHING, Share(99, 0)),
    "no bound: a quarter": ({"unbounded": True, "output": False}, 1000, Share(250, 0), Share(250, 0)),
    "no bound: what it probably takes": ({"unbounded": True, "output": False}, 90, Share(25, 0), Share(25, 0)),
    "no bound: more than there is": ({"unbounded": True, "output": False}, 25, NOTHING, NOTHING),
    "guessed: everything, alone": ({"guessed": True}, 10**6, NOTHING, Share(10**6, 16_384)),
    "nothing to be had": ({}, 0, NOTHING, NOTHING),
    "spent beyond the limit": ({}, -500, NOTHING, NOTHING),
}  # fmt: skip


@pytest.mark.parametrize(("asks", "money", "beside", "alone"), RULES.values(), ids=RULES)
def test_a_request_gets(asks: dict[str, Any], money: int, beside: Share | None, alone: Share | None) -> None:
    ask = Ask(**{**ASK, **asks})
    assert share(ask, CARD, money, alone=False) == beside
    assert share(ask, CARD, money, alone=True) == alone


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("money", [-5, 0, 10**9])
def test_a_free_model_costs_nothing_whatever_is_left(money: int, alone: bool) -> None:
    assert share(Ask(10**9), FREE, money, alone=alone) == Share(0, 16_384)


prices = st.decimals(0, 10_000, allow_nan=False, places=3)
cards = st.builds(Card, prices, prices, prices)
counts = st.integers(1, 200_000)
asks = st.builds(
    Ask,
    input_bytes=st.integers(0, 10**6),
    input_tokens=st.integers(0, 10**5),
    cap=st.none() | st.integers(0, 200_000),
    most=st.none() | counts,
    choices=st.integers(1, 20),
    least=st.sampled_from([16, 1024, 30_000]),
    output=st.booleans(),
    unbounded=st.booleans(),
    guessed=st.booleans(),
)
money = st.integers(-1000, 10**12) | st.integers(-10, 10**6)


@settings(deadline=None)
@given(ask=asks, card=cards, available=money, alone=st.booleans())
def test_what_is_set_aside_covers_what_is_granted_and_is_never_more_than_there_is(
    ask: Ask, card: Card, available: int, alone: bool
) -> None:
    found = share(ask, card, available, alone=alone)
    if not found or card.free:
        return
    assert 0 <= found.amount <= available
    bound = card.input_cost(ask.bound) + card.output_cost(found.tokens * ask.choices)
    likely = card.input_cost(ask.likely) + card.output_cost(found.tokens * ask.choices)
    assert found.amount >= likely
    assert found.amount >= bound or ask.unbounded or (alone and found.amount == available)
    if not ask.unbounded:
        assert shortest(ask, alone=alone) <= found.tokens <= ask.want


@settings(deadline=None)
@given(ask=asks, card=cards, available=money, more=st.integers(0, 10**9), alone=st.booleans())
def test_more_money_never_gets_less(ask: Ask, card: Card, available: int, more: int, alone: bool) -> None:
    less = share(ask, card, available, alone=alone)
    found = share(ask, card, available + more, alone=alone)
    assert found or not less
    if found and less and not alone:
        assert found.tokens >= less.tokens


@settings(deadline=None)
@given(ask=asks, card=cards, available=money)
def test_who_gets_something_beside_others_gets_it_alone_too(ask: Ask, card: Card, available: int) -> None:
    beside = share(ask, card, available, alone=False)
    if beside:
        assert share(ask, card, available, alone=True) == beside


@settings(deadline=None)
@given(ask=asks, card=cards)
def test_what_a_refusal_says_is_needed_is_needed_and_enough(ask: Ask, card: Card) -> None:
    least = needed(ask, card)
    assert share(ask, card, least, alone=True)
    if not card.free:
        assert share(ask, card, least - 1, alone=True) is None


# The decision


def funds(spent: int = 0, held: int = 0, ahead: int = 0, oldest: str | None = None) -> Funds:
    return Funds(BUDGET.limit, spent, held, ahead, oldest)


def granted(asked: Any, there: Funds | None = None, budget: Budget = BUDGET) -> Grant:
    found = decide(asked, budget, there or funds())
    assert isinstance(found, Grant)
    return found


# request, money spent: the cap that goes upstream, and whether the caller is told of one
CAPS: dict[str, tuple[dict[str, Any], int, int | None, bool]] = {
    "the caller's own is there already": ({"max_tokens": 300}, 0, None, False),
    "the caller's own is too dear": ({"max_tokens": 9000}, 970_000, 2985, True),
    "the caller's own is beyond the model": ({"model": "gpt-4o-2024-05-13", "max_tokens": 9000}, 0, 4096, True),
    "none, and the model's maximum is known": ({"model": "gpt-4o-2024-05-13"}, 0, 4096, False),
    "none, and less than the model's maximum is there": ({"model": "gpt-4o-2024-05-13"}, 900_000, 2500, True),
    "none, and the model's maximum is unknown": ({}, 0, None, False),
    "none, and less than 16,384 tokens are there": ({}, 900_000, 2500, True),
    "free, and the model's maximum is known": ({"model": "free"}, 10**6, None, False),
    "nothing to write": ({"path": "/v1/embeddings", "model": "embeds", "input": "Hi"}, 0, None, False),
}


@pytest.mark.parametrize(("asked", "spent", "cap", "told"), CAPS.values(), ids=CAPS)
def test_a_cap_travels_where_it_changes_something_and_is_told_where_it_is_less_than_wanted(
    asked: dict[str, Any], spent: int, cap: int | None, told: bool
) -> None:
    found = granted(call(**asked), funds(spent=spent))
    assert (found.cap, found.capped) == (cap, told)
    if cap:
        assert found.tokens == cap


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [({}, 500), ({"max_tokens": 20}, 20), ({"n": 3}, 1500), ({"model": "deepseek-r1", "max_tokens": 2000}, 500)],
)
def test_the_estimate_is_of_a_typical_answer_or_of_a_shorter_cap(asked: dict[str, Any], tokens: int) -> None:
    asked_call = call(**asked)
    found = granted(asked_call)
    likely = asked_call.ask.likely
    assert (found.usages.input_tokens, found.usages.output_tokens) == (likely, tokens)
    assert found.estimate == likely + 10 * tokens <= found.amount


@pytest.mark.parametrize("there", [funds(held=990_000), funds(held=10**6), funds(ahead=1), funds(held=5, ahead=31)])
def test_a_request_waits_where_others_hold_the_money_or_wait_already(there: Funds) -> None:
    assert decide(call(), BUDGET, there) == Wait()


def test_a_request_that_fits_beside_others_does_not_wait() -> None:
    assert granted(call(), funds(held=500_000)).amount < 500_000


def test_a_line_has_an_end() -> None:
    assert decide(call(), BUDGET, funds(ahead=LONGEST_LINE - 1)) == Wait()
    with pytest.raises(RateLimited, match="holding the rest of your budget for your other requests") as caught:
        decide(call(), BUDGET, funds(ahead=LONGEST_LINE))
    assert LONGEST_LINE == 32
    assert caught.value.headers == {"Retry-After": "2"}


@pytest.mark.parametrize(
    "there", [funds(spent=10**6), funds(spent=2 * 10**6), funds(spent=10**6 - 100, held=50), funds(10**6 - 9, 5, 3)]
)
def test_what_no_waiting_could_help_is_refused_for_good(there: Funds) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        decide(call(), BUDGET, there)
    assert (caught.value.status, caught.value.headers) == (429, {"x-should-retry": "false"})


def test_a_final_refusal_says_what_is_needed_what_is_left_and_when_there_is_more() -> None:
    asked = call()
    with pytest.raises(BudgetExceeded) as caught:
        decide(asked, BUDGET, funds(spent=999_900, held=10, oldest="2026-03-10"))
    least = needed(asked.ask, asked.card)
    assert str(caught.value) == (
        f"AI Pipe refused this request: it needs at least $0.000000{least}, and $0.0000001 is left of your budget"
        " of $0.001 in 7 days. More is free from 2026-03-17 (UTC)."
    )
    assert len(str(least)) == 3


def test_a_refusal_of_somebody_who_spent_nothing_names_no_date() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        decide(call(messages=[{"role": "user", "content": "x" * 5 * 10**6}]), BUDGET, funds())
    assert "More is free" not in str(caught.value)


@pytest.mark.parametrize("there", [funds(spent=10**7), funds(held=10**6), funds(ahead=40, spent=10**7)])
def test_a_free_model_passes_whatever_is_spent_and_whoever_waits(there: Funds) -> None:
    assert granted(call("free"), there).amount == 0
