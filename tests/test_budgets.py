"""Budgets: who may spend how much, over which days, on which models."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe.budgets import Budget, frees_on, more_is_free, parse, window_start
from aipipe.errors import ConfigError

BUDGETS = parse(
    {
        "*": {"limit": 0.1, "days": 7},
        "@Example.com": {"limit": 1, "days": 30},
        "Bob@example.com": {"limit": "2.50"},
        "charlie@example.org": {"limit": 0},
    }
)


@pytest.mark.parametrize(
    ("email", "budget"),
    [
        ("bob@example.com", Budget(2_500_000_000, 1)),
        ("BOB@Example.Com", Budget(2_500_000_000, 1)),
        ("alice@example.com", Budget(1_000_000_000, 30)),
        ("charlie@example.org", Budget(0, 1)),
        ("erin@sub.example.com", Budget(100_000_000, 7)),
    ],
)
def test_own_budget_before_domain_before_everybody(email: str, budget: Budget) -> None:
    assert BUDGETS.find(email) == budget


def test_nobody_named_gets_nothing() -> None:
    assert parse({"@example.com": {"limit": 1}}).find("charlie@example.org") == Budget(0, 1)
    assert parse({}).find("alice@example.com") == Budget(0, 1)


@pytest.mark.parametrize(
    ("provider", "model", "allowed"),
    [
        ("openai", "gpt-4o-mini", True),
        ("openai", "GPT-4o-Mini", True),
        ("openrouter", "gpt-4o-mini", True),
        ("openai", "gpt-4o", False),
        ("local", "smollm2-135m", True),
        ("Local", "SmolLM2", True),
        ("openrouter", "google/gemini-2.0-flash-lite-001", True),
        ("openrouter", "anthropic/claude", False),
        ("openai", "local", False),
        ("openai", "[x]", False),
    ],
)
def test_models_match_alone_or_with_their_provider(provider: str, model: str, allowed: bool) -> None:
    globs = ["gpt-4o-mini", "LOCAL/*", "google/gemini-*-lite-*"]
    budget = parse({"*": {"limit": 1, "models": globs}}).find("alice@example.com")
    assert budget.allows(provider, model) is allowed


def test_without_a_list_every_model_is_allowed_and_with_an_empty_one_none() -> None:
    assert Budget(1).allows("openai", "gpt-4o")
    assert not parse({"*": {"limit": 1, "models": []}}).find("alice@example.com").allows("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "BUDGET must map"),
        ({7: {"limit": 1}}, "write an email"),
        ({"alice": {"limit": 1}}, "'alice'"),
        ({"alice@": {"limit": 1}}, "write an email"),
        ({"": {"limit": 1}}, "write an email"),
        ({"*": 0.1}, "BUDGET['*'] must be a budget such as"),
        ({"*": {"days": 7}}, "BUDGET['*'] must be a budget such as"),
        ({"*": {"limit": 0.1, "day": 7}}, "has 'day'"),
        ({"*": {"limit": -1}}, "BUDGET['*']['limit']"),
        ({"*": {"limit": True}}, "BUDGET['*']['limit']"),
        ({"*": {"limit": float("nan")}}, "BUDGET['*']['limit']"),
        ({"*": {"limit": None}}, "BUDGET['*']['limit']"),
        ({"*": {"limit": 1, "days": 0}}, "BUDGET['*']['days']"),
        ({"*": {"limit": 1, "days": 1.5}}, "BUDGET['*']['days']"),
        ({"*": {"limit": 1, "days": True}}, "BUDGET['*']['days']"),
        ({"*": {"limit": 1, "days": 10**9}}, "BUDGET['*']['days']"),
        ({"*": {"limit": 1, "rpm": 0}}, "BUDGET['*']['rpm']"),
        ({"*": {"limit": 1, "models": "gpt-4o"}}, "must be a list"),
        ({"*": {"limit": 1, "models": [1]}}, "must be a list"),
        ({"A@example.com": {"limit": 1}, "a@example.com": {"limit": 2}}, "twice"),
    ],
)
def test_a_bad_budget_is_named_with_what_to_write(raw: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert says in str(caught.value)


def test_a_window_is_the_last_days_with_today() -> None:
    assert window_start(date(2026, 3, 1), 1) == date(2026, 3, 1)
    assert window_start(date(2026, 3, 1), 7) == date(2026, 2, 23)
    assert frees_on(date(2026, 2, 23), 7) == date(2026, 3, 2)
    assert more_is_free("2026-02-23", 7) == "More is free from 2026-03-02 (UTC)."
    assert more_is_free(None, 7) == ""


@given(st.dates(date(1990, 1, 1), date(2200, 1, 1)), st.integers(1, 3650), st.integers(0, 4000))
def test_spending_counts_until_the_day_it_frees(spent: date, days: int, later: int) -> None:
    today = spent + timedelta(days=later)
    assert (window_start(today, days) <= spent) is (today < frees_on(spent, days))
