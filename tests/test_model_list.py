"""OpenRouter's list of models: which of its prices are believed, and when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import OPERATOR_KEYS, MakeApp
from fake_provider import FakeProvider, Gate
from flask import Flask
from werkzeug.test import TestResponse
from wire import PATIENCE, head

from aipipe.kept import Kept
from aipipe.providers import model_list
from aipipe.providers.model_list import listed_rate

LIST = "/api/v1/models"
CHAT = "/api/v1/chat/completions"
# The shape: https://openrouter.ai/docs/api-reference/list-available-models
PRICING = {"prompt": "0.00000015", "completion": "0.0000006"}
ANSWER = {"id": "gen-1", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}


def listed(**pricing: Any) -> dict[str, Any]:
    return {"data": [{"id": "new/model", "pricing": {**PRICING, **pricing}}]}


@pytest.mark.parametrize(
    ("pricing", "input", "output", "request_price"),
    [
        ({}, 150, 600, 0),
        ({"prompt": "0", "completion": "0"}, 0, 0, 0),
        ({"request": "0.005"}, 150, 600, 5_000_000),
        ({"web_search": "0.01"}, 150, 600, 10_000_000),
        ({"request": "0.005", "web_search": "0.01"}, 150, 600, 15_000_000),
        ({"web_search": None}, 150, 600, 0),
        ({"input_cache_write": "0.0000003"}, 300, 600, 0),
        ({"input_cache_write": "0.0000003", "input_cache_write_1h": "0.0000006"}, 600, 600, 0),
        ({"internal_reasoning": "0.000002"}, 150, 2_000, 0),
        ({"image": "0.0005", "audio": "0.00001"}, 150, 600, 0),
        ({"overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.0000003"}]}, 300, 600, 0),
        ({"overrides": [{"utc_start": "16:30", "utc_end": "00:30", "completion": "0.0000001"}]}, 150, 600, 0),
        ({"a_price_of_tomorrow": "-1"}, 150, 600, 0),
    ],
)
def test_a_request_is_bounded_by_the_dearest_that_is_listed(
    pricing: dict[str, Any], input: int, output: int, request_price: int
) -> None:
    rate = listed_rate("new/model", {**PRICING, **pricing})
    assert rate is not None
    card = rate.card(1_000)
    assert (card.input, card.output, card.request) == (input, output, request_price)


def test_sound_and_images_have_prices_of_their_own() -> None:
    rate = listed_rate(
        "new/model", {**PRICING, "audio": "0.00001", "audio_output": "0.00002", "image_output": "0.00003"}
    )
    assert rate is not None
    assert rate.card(1).output == 600
    assert rate.card(1, modalities=frozenset({"audio"})).input == 10_000
    assert rate.card(1, modalities=frozenset({"audio", "image"})).output == 30_000


def test_a_cost_has_no_search_in_it_that_nobody_made() -> None:
    rate = listed_rate(
        "new/model", {**PRICING, "request": "0.005", "web_search": "0.01", "input_cache_read": "0.00000005"}
    )
    assert rate is not None
    assert (
        rate.cost({"input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 6})
        == 5_000_000 + 4 * 150 + 6 * 50 + 4 * 600
    )


@pytest.mark.parametrize(
    "pricing",
    [
        {"prompt": "-1", "completion": "-1"},  # openrouter/auto
        {"completion": "-0.0000001"},
        {"prompt": None},
        {"prompt": "dear"},
        {"prompt": True},
        {"prompt": {}},
        {"prompt": "NaN"},
        {"completion": "Infinity"},
        {"completion": "0.02"},
        {"request": "11"},
        {"web_search": "-1"},
        {"image": "1"},  # more than the tokens by which an image is bounded
        {"prompt": "0", "completion": "0", "image": "0.00001"},
        {"overrides": [{"min_prompt_tokens": 1, "prompt": "-1"}]},
    ],
)
def test_a_price_that_cannot_be_believed_is_none(pricing: dict[str, Any]) -> None:
    assert listed_rate("new/model", {**PRICING, **pricing}) is None


def test_half_a_price_is_none() -> None:
    assert listed_rate("new/model", {"prompt": "0.1"}) is None
    assert listed_rate("new/model", {}) is None


def test_a_price_comes_out_exact() -> None:
    rate = listed_rate("new/model", {"prompt": "0.000000123456", "completion": "0"})
    assert rate is not None
    assert rate.card(1).input == Decimal("123.456")
    assert rate.cost({"input_tokens": 1_000}) == 123_456


def ask(app: Flask, token: str, model: str = "new/model") -> TestResponse:
    path = "/openrouter/v1/chat/completions"
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 100}
    return app.test_client().post(
        path, json=body, headers={"Authorization": f"Bearer {token}"}, environ_overrides={"RAW_URI": path}
    )


@pytest.fixture
def alice(token: Callable[[str], str]) -> str:
    return token("alice@example.com")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which lists are kept: one number, to be changed."""
    now = [0.0]
    plain = Kept.__init__

    def init(self: Kept[Any], name: str, fetch: Callable[[], Any], **settings: Any) -> None:
        plain(self, name, fetch, clock=lambda: now[0], **settings)

    monkeypatch.setattr(Kept, "__init__", init)
    return now


def asked_for_list(provider: FakeProvider) -> int:
    return len([request for request in provider.requests if request.path == LIST])


def test_it_is_fetched_when_first_needed_and_then_kept(provider: FakeProvider, make_app: MakeApp, alice: str) -> None:
    app = make_app()
    assert provider.requests == []
    provider.answers("GET", LIST, json=listed())
    provider.answers("POST", CHAT, json=ANSWER, times=3)
    for model in ("openai/gpt-4o-mini", "new/model", "new/model"):  # genai-prices knows the first
        assert ask(app, alice, model).status_code == 200
    assert [request.method for request in provider.requests] == ["POST", "GET", "POST", "POST"]


def test_it_is_asked_for_in_nobodys_name(provider: FakeProvider, make_app: MakeApp, alice: str) -> None:
    provider.answers("GET", LIST, json=listed(prompt="-1"))
    assert ask(make_app(), alice).status_code == 400
    told = " ".join(value for _, value in provider.requests[0].headers)
    assert OPERATOR_KEYS["openrouter"] not in told and alice not in told


def test_a_model_that_nobody_lists_is_refused(provider: FakeProvider, make_app: MakeApp, alice: str) -> None:
    provider.answers("GET", LIST, json=listed())
    refused = ask(make_app(), alice, "unheard/of")
    assert (refused.status_code, refused.json["message"]) == (400, "Model unheard/of pricing unknown")


@pytest.mark.parametrize("model", ["perplexity/sonar", "openai/o4-mini-deep-research", "new/model:online"])
def test_a_model_that_searches_is_refused_whatever_is_listed(make_app: MakeApp, alice: str, model: str) -> None:
    assert ask(make_app(), alice, model).status_code == 400


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "json": listed()},
        {"json": {"error": "maintenance"}},
        {"json": {"data": {"new/model": PRICING}}},
        {"json": {"data": [1, 2]}},
        {"json": {"data": [{"id": "new/model"}]}},
        {"body": b"<html>"},
        {"steps": [head(200, {"Content-Length": "900"}) + b"{"]},
    ],
    ids=["an error", "no list", "no list either", "no models", "no prices", "HTML", "half of it"],
)
def test_a_list_that_cannot_be_had_is_asked_for_again_after_a_minute(
    provider: FakeProvider, make_app: MakeApp, alice: str, clock: list[float], answer: dict[str, Any], caplog: Any
) -> None:
    app = make_app()
    provider.answers("GET", LIST, **answer)
    assert [ask(app, alice).status_code for _ in range(2)] == [400, 400]
    clock[0] = 59
    assert ask(app, alice).status_code == 400
    assert asked_for_list(provider) == 1
    assert "list of models can't be fetched" in caplog.text
    clock[0] = 61
    provider.answers("GET", LIST, json=listed())
    provider.answers("POST", CHAT, json=ANSWER)
    assert ask(app, alice).status_code == 200


def test_an_old_list_serves_while_a_new_one_is_fetched(
    provider: FakeProvider, make_app: MakeApp, alice: str, clock: list[float]
) -> None:
    app = make_app()
    provider.answers("GET", LIST, json=listed())
    provider.answers("POST", CHAT, json=ANSWER, times=None)
    assert ask(app, alice).status_code == 200
    clock[0] = 3_601
    new = json.dumps(listed(prompt="-1")).encode()
    provider.answers("GET", LIST, steps=[Gate("slow"), head(200, {"Content-Length": str(len(new))}) + new])
    assert [ask(app, alice).status_code for _ in range(3)] == [200, 200, 200]
    provider.reached("slow")
    assert asked_for_list(provider) == 2
    provider.release("slow")
    kept = app.extensions["aipipe"].providers.named("openrouter").listed
    kept._thread.join(PATIENCE)
    assert ask(app, alice).status_code == 400


def test_one_that_is_too_long_is_not_read_to_its_end(
    provider: FakeProvider, make_app: MakeApp, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_list, "LARGEST", 50)
    provider.answers("GET", LIST, json=listed())
    assert ask(make_app(), alice).status_code == 400
