"""Prices: whose count, what a request costs to the nanodollar, and the most that it can cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from aipipe.errors import ConfigError
from aipipe.pricing import CORRECTIONS, Prices, price_id_of
from aipipe.rates import Card, Rate, nano

PRICES = Prices(
    {
        "groq/Llama": {"input_mtok": 0.59, "output_mtok": "0.79", "cache_read_mtok": 0.1},
        "openai/gpt-4o": {"input_mtok": 1, "output_mtok": 2},
        "local/tiny": {"input_mtok": 1e-9, "output_mtok": 0.0001},
        "local/free": {"input_mtok": 0, "output_mtok": 0},
        "local/tiered": {"input_mtok": {"base": 1, "above": {"1000": 2, "100": 1.5}}, "output_mtok": 8},
        "local/fee": {"requests_kcount": 5, "input_mtok": 1, "output_mtok": 0},
        "local/by-the-second": {"audio_hours": 0.36},
    }
)


def rate(model: str, provider: str = "local") -> Rate:
    found = PRICES.find(provider, provider if provider in ("openai", "anthropic", "openrouter") else None, model)
    assert found
    return found


# Whose price


def test_the_operators_price_counts_before_any_other_in_any_case_of_letters() -> None:
    assert rate("GPT-4o", "openai").cost({"input_tokens": 10, "output_tokens": 10}) == 30_000
    assert rate("llama", "groq").cost({"input_tokens": 100, "output_tokens": 10, "cache_read_tokens": 50}) == 42_400


def test_a_price_holds_for_one_provider_and_one_model() -> None:
    assert PRICES.find("groq", None, "llama-2") is None
    assert PRICES.find("openai", None, "llama") is None
    assert PRICES.find("openai", "openai", "gpt-unknown") is None
    assert PRICES.find("other", None, "gpt-4.1") is None


def test_a_provider_is_known_by_its_base() -> None:
    assert price_id_of("https://api.groq.com/openai") == "groq"
    assert price_id_of("http://127.0.0.1:9999") is None


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda one: f"{one.provider} {one.models}")
def test_a_correction_says_why_and_where_it_is_from(correction: Any) -> None:
    assert correction.why
    assert correction.source.startswith("https://")
    assert all(price >= 0 for price in (correction.prices or {}).values())


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-search-preview"),
        ("openai", "gpt-4o-mini-search-preview-2025-03-11"),
        ("openai", "gpt-5-search-api"),
        ("openrouter", "openai/gpt-4o-search-preview"),
        ("openrouter", "openai/gpt-4o:online"),
        ("openrouter", "perplexity/sonar"),
    ],
)
def test_what_bills_searches_that_no_usage_tells_has_no_price(provider: str, model: str) -> None:
    assert PRICES.find(provider, provider, model) is None


# What it costs


@pytest.mark.parametrize(
    ("model", "counts", "cost"),
    [
        ("tiny", {"input_tokens": 1}, 1),
        ("tiny", {"output_tokens": 10}, 1),
        ("tiny", {"output_tokens": 11}, 2),
        ("tiny", {}, 0),
        ("free", {"input_tokens": 10**9}, 0),
        ("tiered", {"input_tokens": 100}, 100_000),
        ("tiered", {"input_tokens": 101}, 151_500),
        ("tiered", {"input_tokens": 1001, "output_tokens": 1}, 2_010_000),
        ("fee", {"input_tokens": 3}, 5_003_000),
        ("by-the-second", {"input_audio_seconds": 10, "audio_seconds": 10}, 1_000_000),
        ("by-the-second", {"input_audio_seconds": 0.00001, "audio_seconds": 0.00001}, 1),
    ],
)
def test_costs_are_exact_and_rounded_up_to_a_nanodollar(model: str, counts: dict[str, float], cost: int) -> None:
    assert rate(model).cost(counts) == cost


KNOWN = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in ("openai", "anthropic", "google", "groq", "mistral", "deepseek")
    for model in provider.models
]
COUNTS = st.dictionaries(
    st.sampled_from(
        ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens"]
    ),
    st.integers(0, 3_000_000),
)


@settings(deadline=None)
@given(st.sampled_from(KNOWN), COUNTS, st.sampled_from([None, "default", "flex", "priority", "unheard of"]))
def test_a_cost_is_what_genai_prices_says_though_it_is_not_asked_each_time(
    known: tuple[str, str], counts: dict[str, int], tier: str | None
) -> None:
    provider, model = known
    found = Prices({}).find("any", provider, model)
    if found is None:  # we know better
        return
    try:
        expected: int | None = nano(found.dollars(counts, tier, datetime.now(UTC)))
    except ValueError:
        expected = None
    for _ in range(2):
        if expected is None:
            with pytest.raises(ValueError):
                found.cost(counts, tier)
        else:
            assert found.cost(counts, tier) == expected


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": 5, "cache_read_tokens": 6},
        {"input_tokens": -1},
        {"output_tokens": float("inf")},
        {"output_tokens": float("nan")},
    ],
)
def test_counts_that_can_not_be_are_refused(counts: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        rate("llama", "groq").cost(counts)


@pytest.mark.parametrize(
    ("tier", "cost"),
    [(None, 1250), ("default", 1250), ("flex", 625), ("priority", 2500), ("scale", 1250)],
)
def test_a_service_tier_has_its_own_price(tier: str | None, cost: int) -> None:
    assert rate("gpt-5", "openai").cost({"input_tokens": 1}, tier) == cost


@pytest.mark.parametrize(
    ("model", "tier", "known"),
    [
        ("gpt-5", "flex", True),
        ("gpt-5", "auto", True),
        ("gpt-5", "scale", False),
        ("gpt-4o-mini-2024-07-18", "priority", True),
        ("gpt-4.1-nano", "flex", False),
    ],
)
def test_only_tiers_with_a_price_are_known(model: str, tier: str, known: bool) -> None:
    assert rate(model, "openai").has_tier(tier) is known


# The most that it can cost


@pytest.mark.parametrize(
    ("model", "tokens", "card"),
    [
        ("tiered", 100, (1000, 8000)),
        ("tiered", 101, (1500, 8000)),
        ("tiered", 5000, (2000, 8000)),
        ("free", 5, (0, 0)),
    ],
)
def test_a_card_has_the_price_of_the_highest_tier_that_may_be_reached(
    model: str, tokens: int, card: tuple[int, int]
) -> None:
    found = rate(model).card(tokens)
    assert (found.input, found.output) == card


def test_a_card_has_the_dearest_kind_of_token() -> None:
    claude = rate("claude-opus-4-5", "anthropic")
    hour = claude.cost({"input_tokens": 1000, "cache_write_1h_tokens": 1000, "cache_write_tokens": 1000})
    assert claude.card(1000).input_cost(1000) >= hour > claude.cost({"input_tokens": 1000})
    speaks = rate("gpt-4o-audio-preview", "openai")
    assert speaks.card(10).output_cost(10) == speaks.cost({"output_tokens": 10}) == 100_000
    audio = speaks.cost({"output_tokens": 10, "output_audio_tokens": 10, "input_tokens": 10, "input_audio_tokens": 10})
    heard = speaks.card(10, modalities=frozenset({"audio"}))
    assert heard.input_cost(10) + heard.output_cost(10) == audio == 1_200_000


def test_a_card_knows_the_tier_that_was_asked_for() -> None:
    gpt = rate("gpt-5", "openai")
    assert gpt.card(1, tier="priority").input_cost(10) == 2 * gpt.card(1).input_cost(10)
    assert gpt.card(1, tier="auto") == gpt.card(1)


def test_a_fee_for_each_request_is_in_the_bound_of_its_input() -> None:
    card = rate("fee").card(10)
    assert (card.input_cost(0), card.input_cost(3)) == (5_000_000, 5_003_000)
    assert not card.free


def test_free_means_that_nothing_has_a_price() -> None:
    assert rate("free").card(10).free
    assert not rate("tiny").card(10).free
    assert not rate("by-the-second").card(10).free
    assert rate("by-the-second").card(10).unpriced


tokens = st.integers(0, 10**7)


@settings(deadline=None)
@given(counts=st.fixed_dictionaries({"input_tokens": tokens, "output_tokens": tokens}))
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("local", "tiny"),
        ("local", "tiered"),
        ("local", "fee"),
        ("openai", "gpt-4.1"),
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
    ],
)
def test_no_request_costs_more_than_its_card_says(provider: str, model: str, counts: dict[str, int]) -> None:
    found = rate(model, provider)
    card = found.card(counts["input_tokens"])
    most = card.input_cost(counts["input_tokens"]) + card.output_cost(counts["output_tokens"])
    assert found.cost(counts) <= most
    cached = {**counts, "cache_read_tokens": counts["input_tokens"]}
    assert found.cost(cached) <= most


@settings(deadline=None)
@given(price=st.decimals(0, 10**6, allow_nan=False, places=9), money=st.integers(0, 10**18))
def test_what_money_buys_it_pays_for(price: Decimal, money: int) -> None:
    card = Card(Decimal(0), price, Decimal(0))
    if price:
        assert card.output_cost(card.buys(money)) <= money < card.output_cost(card.buys(money) + 1) + 1


@settings(deadline=None)
@given(dollars=st.decimals(0, 10**6, allow_nan=False, places=15))
def test_no_fraction_of_a_nanodollar_is_given_away(dollars: Decimal) -> None:
    assert 0 <= nano(dollars) - dollars * 10**9 < 1


# The setting

UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no provider": ({"gpt-4": {"input_mtok": 1}}, "'gpt-4' must be \"provider/model\" with prices"),
    "no prices": ({"x/m": 1}, 'must be "provider/model" with prices'),
    "unknown unit": ({"x/m": {"input": 1}}, "'input' is not a unit; use one of"),
    "below zero": ({"x/m": {"input_mtok": -1}}, "PRICES['x/m']['input_mtok'] must be dollars, from zero"),
    "a flag": ({"x/m": {"input_mtok": True}}, "must be dollars, from zero"),
    "no number": ({"x/m": {"input_mtok": "cheap"}}, "must be dollars, from zero to a billion, not 'cheap'"),
    "null": ({"x/m": {"input_mtok": None}}, "must be dollars, from zero"),
    "infinite": ({"x/m": {"input_mtok": float("inf")}}, "must be dollars, from zero"),
    "beyond bounds": ({"x/m": {"input_mtok": "1e999999"}}, "must be dollars, from zero"),
    "a list": ({"x/m": {"input_mtok": [1]}}, "must be dollars, from zero"),
    "no tiers": ({"x/m": {"input_mtok": {"base": 1}}}, 'must be dollars, or {"base": dollars, "above":'),
    "no base": ({"x/m": {"input_mtok": {"above": {"9": 1}}}}, 'must be dollars, or {"base": dollars, "above":'),
    "tiers in a list": ({"x/m": {"input_mtok": {"base": 1, "above": [1]}}}, 'must be dollars, or {"base"'),
    "a tier from nowhere": ({"x/m": {"input_mtok": {"base": 1, "above": {"many": 1}}}}, 'must be dollars, or {"base"'),
    "a tier from below": ({"x/m": {"input_mtok": {"base": 1, "above": {"-1": 1}}}}, 'must be dollars, or {"base"'),
    "a tier's price": ({"x/m": {"input_mtok": {"base": 1, "above": {"9": "x"}}}}, "must be dollars, from zero"),
    "misspelt": ({"x/m": {"input_mtok": {"base": 1, "over": {"9": 1}}}}, 'must be dollars, or {"base"'),
    "a part without the whole": ({"x/m": {"cache_read_mtok": 1}}, "PRICES['x/m'] can't be used: Missing ancestor"),
}


@pytest.mark.parametrize(("prices", "says"), UNUSABLE.values(), ids=UNUSABLE)
def test_prices_that_can_not_be_used_are_refused_with_what_to_write(prices: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Prices(prices)
    assert says in str(caught.value)
