"""Anthropic's bounds: what a request may cost at most. Costs are in scenarios/anthropic-*.json."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from aipipe.admission import Ask
from aipipe.budgets import Budget
from aipipe.errors import NotAllowed
from aipipe.formats import Context, Messages
from aipipe.models import IMAGE_TOKENS, limits
from aipipe.pricing import Prices
from aipipe.providers import Call
from aipipe.providers.anthropic import ANTHROPIC

SONNET = "claude-sonnet-4-6"
MEBIBYTE = "A" * 2**20


def question(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": SONNET, "max_tokens": 500, "messages": [{"role": "user", "content": [*blocks]}], **more}


def ask(body: dict[str, Any], *, native: bool = True) -> Ask:
    return Messages(native=native).ask(body, Context(limits(body["model"]), len(json.dumps(body)), lambda _: None))


def call(body: dict[str, Any]) -> Call:
    endpoint = ANTHROPIC.find("POST", "/v1/messages")
    assert endpoint.format
    budget = Budget(limit=10**8, days=7)
    return ANTHROPIC.prepare(
        endpoint, endpoint.format, "/v1/messages", body, len(json.dumps(body)), Prices({}), budget, lambda _: None
    )


def source(kind: str, **more: str) -> dict[str, Any]:
    return {"source": {"type": kind, **more}}


def test_a_picture_counts_at_its_maximum_and_not_its_bytes() -> None:
    held = {"type": "image", **source("base64", media_type="image/png", data=MEBIBYTE)}
    elsewhere = {"type": "image", **source("url", url="https://example.com/a.png")}
    found = ask(question(held, elsewhere, {"type": "tool_result", "tool_use_id": "t", "content": [held]}))
    assert found.input_bytes < 1_000
    assert (found.input_tokens, found.guessed) == (3 * IMAGE_TOKENS, False)


def test_a_document_is_a_guess_that_runs_alone() -> None:
    found = ask(question({"type": "document", **source("base64", media_type="application/pdf", data=MEBIBYTE)}))
    assert found.input_bytes > 2**20
    assert found.guessed
    assert not ask(question({"type": "document", **source("text", media_type="text/plain", data="x")})).guessed


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, 0),
        ({"tools": [{"name": "a"}, {"type": "custom", "name": "b"}]}, 1_000),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "memory_20250818", "name": "memory"}]}, 3_000),
        ({"output_config": {"effort": "low"}}, 0),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, 1_000),
        ({"output_format": {"type": "json_schema", "schema": {}}}, 1_000),
    ],
)
def test_instructions_that_anthropic_adds_are_counted(more: dict[str, Any], tokens: int) -> None:
    assert ask(question({"type": "text", "text": "Hi"}, **more)).input_tokens == tokens


@pytest.mark.parametrize(
    ("model", "thinking", "least"),
    [
        (SONNET, None, 16),
        (SONNET, {"type": "disabled"}, 16),
        (SONNET, {"type": "adaptive"}, 1_024),
        (SONNET, {"type": "enabled", "budget_tokens": 2_000}, 3_024),
        ("claude-opus-5-5", None, 1_024),
    ],
)
def test_thinking_needs_room(model: str, thinking: Any, least: int) -> None:
    assert ask(question({"type": "text", "text": "Hi"}, model=model, thinking=thinking)).least == least


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-3-haiku-20240307", 4_096),
        ("claude-3-5-sonnet-20241022", 8_192),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-sonnet-4-5-20250929", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("claude-opus-4-5", 64_000),
        ("claude-sonnet-4-6", 128_000),
        ("anthropic/claude-opus-4.8", 128_000),
        ("claude-fable-5-2", 128_000),
        ("claude-haiku-5-5", 128_000),
    ],
)
def test_the_models_documented_maximum(model: str, most: int) -> None:
    assert limits(model).most == most


def test_a_hold_covers_the_dearest_cache_in_the_dearest_place() -> None:
    card = call(question({"type": "text", "text": "Hi"})).card
    assert (card.input, card.output) == (Decimal("1.1") * 6_000, Decimal("1.1") * 15_000)


@pytest.mark.parametrize(
    ("more", "reads_on"),
    [
        ({}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, True),
        ({"model": "claude-opus-5-5"}, True),
    ],
)
def test_a_model_that_thinks_unseen_is_read_to_its_end(more: dict[str, Any], reads_on: bool) -> None:
    assert ANTHROPIC.reads_on(call(question({"type": "text", "text": "Hi"}, **more))) == reads_on


@pytest.mark.parametrize(
    "body",
    [
        question({"type": "document", **source("base64", media_type="application/pdf", data="")}),
        question({"type": "text", "text": "Hi"}, tools=[{"type": "bash_20250124", "name": "bash"}]),
        question({"type": "search_result", "source": "x", "title": "x", "content": []}),
    ],
)
def test_what_anthropic_alone_is_known_to_bill_by_tokens_is_refused_elsewhere(body: dict[str, Any]) -> None:
    assert ask(body)
    with pytest.raises(NotAllowed):
        ask(body, native=False)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image"},
        {"type": "image", "source": "x"},
        {"type": "image", **source("base64", media_type="image/png")} | {"source": {"type": "base64", "data": 5}},
        {"type": "document", **source("file", file_id="file_1")},
        {"type": "container_upload", "file_id": "file_1"},
        {"text": "no type"},
    ],
)
def test_what_nobody_can_price_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        ask(question(block))


@pytest.mark.parametrize(("name", "value"), [("container", ""), ("mcp_servers", []), ("diagnostics", None)])
def test_what_is_off_is_as_good_as_missing(name: str, value: Any) -> None:
    ANTHROPIC.refuse(question({"type": "text", "text": "Hi"}, **{name: value}))
