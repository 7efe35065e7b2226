"""The first page, and the models that are offered: for everybody, or as far as one's budget allows."""

from __future__ import annotations

import html
import re

import pytest
from conftest import MakeApp
from fake_provider import FakeProvider, Gate
from flask import Flask
from flask.testing import FlaskClient

from aipipe import catalog
from aipipe.views import home

ALICE = "alice@example.com"
OPENAI_ALONE = {"OPENROUTER_API_KEY": None, "ANTHROPIC_API_KEY": None, "GEMINI_API_KEY": None}
OURS = {"Sec-Fetch-Site": "same-origin"}
NAMES = ["gpt-4.1-nano", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "gpt-9"]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    budgets = {"*": {"limit": 0.1, "days": 7}, ALICE: {"limit": 2, "days": 1, "models": ["*-nano", "vendor/*"]}}
    keys = {**OPENAI_ALONE, "OPENROUTER_API_KEY": "sk-or-operator"}
    return make_app(dev=True, AIPIPE_PUBLIC_URL=None, AIPIPE_BUDGET=budgets, **keys)


@pytest.fixture
def lists(provider: FakeProvider) -> None:
    """OpenAI has three models to talk with that have a price, OpenRouter 150."""
    provider.answers("GET", "/v1/models", json={"data": [{"id": name} for name in NAMES]})
    pricing = [{"prompt": f"{number / 10**6:.6f}", "completion": "0"} for number in range(150)]
    listed = [{"id": f"vendor/m{number:03}", "pricing": price} for number, price in enumerate(pricing)]
    provider.answers("GET", "/api/v1/models", json={"data": listed})


def signed_in(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/login", data={"email": email}, headers=OURS).status_code == 303
    return client


def rows(page: str) -> list[tuple[str, str]]:
    """The models of a page, each with its price."""
    found = re.findall(r'<td class="name">(.*?)</td><td class="number">(.*?)</td>', page)
    return [(html.unescape(re.sub("<[^>]*>", "", name)), price) for name, price in found]


def known(app: Flask) -> FlaskClient:
    """Somebody at whose visit the lists are there already."""
    app.extensions["aipipe"].catalog.models(patience=10)
    return app.test_client()


def test_home_has_lines_to_paste_with_this_instances_address(app: Flask, lists: None) -> None:
    page = html.unescape(known(app).get("/", base_url="http://localhost:8787").text)
    assert 'import { signIn, chat } from "http://localhost:8787/aipipe.js";' in page
    assert '{ provider: "openai", model: "gpt-4.1-nano" }' in page
    assert "export OPENAI_BASE_URL=http://localhost:8787/openai/v1" in page


def test_home_offers_nothing_that_needs_a_sign_in_where_nobody_can(make_app: MakeApp) -> None:
    for settings, offers in (({}, False), ({"GOOGLE_CLIENT_ID": "1-a.apps.googleusercontent.com"}, True)):
        page = make_app(**OPENAI_ALONE, OPENAI_API_KEY=None, **settings).test_client().get("/").text
        for text in ("Get your token", "Try the playground", "await signIn()"):
            assert (text in page) is offers
        assert ("Ask the operator for a token" in page) is not offers
        assert "export OPENAI_API_KEY=your-token" in page


def test_the_lines_name_a_provider_that_has_its_key(make_app: MakeApp, provider: FakeProvider) -> None:
    provider.answers("GET", "/api/v1/models", json={"data": []}, times=None)
    keys = {**OPENAI_ALONE, "OPENAI_API_KEY": None, "OPENROUTER_API_KEY": "sk-or-operator"}
    page = html.unescape(known(make_app(dev=True, **keys)).get("/", base_url="http://localhost:8787").text)
    assert "/openrouter/v1\n" in page
    assert '{ provider: "openrouter", model: "openai/gpt-4.1-nano" }' in page


def test_home_tells_what_is_offered_and_to_whoever_is_signed_in_their_budget(app: Flask, lists: None) -> None:
    stranger, alice = known(app), signed_in(app, ALICE)
    page = re.sub("<[^>]*>", " ", stranger.get("/").text)
    assert re.search(r"openai\s+3 .*\s+\$0.10 / \$0.40\s+\$2.50 / \$10.00", page)
    assert re.search(r"openrouter\s+150 .*\s+free\s+\$149.00 / \$0.00", page)
    assert "left of" not in page
    page = re.sub("<[^>]*>", " ", alice.get("/").text)
    assert re.search(r"openai\s+1 ", page)
    assert re.search(r"\$2.00\s+left of\s+\$2.00\s+in 1 day", page)


def test_home_doesnt_wait_for_a_provider_that_doesnt_tell_its_models(
    make_app: MakeApp, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "GLANCE", 0)
    provider.answers("GET", "/v1/models", steps=[Gate("late")])
    page = make_app(**OPENAI_ALONE).test_client().get("/").text
    assert "Find a model" in page
    assert "Dearest" not in page
    provider.reached("late")


def test_a_model_on_this_machine_is_offered_as_soon_as_it_has_started(
    make_app: MakeApp, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "STARTING", 0)
    keys = {**OPENAI_ALONE, "OPENAI_API_KEY": None}
    app = make_app(dev=True, **keys, AIPIPE_PROVIDERS__local__base=provider.url)
    provider.answers("GET", "/v1/models", status=503, json={})
    assert app.extensions["aipipe"].catalog.models(patience=10) == {}
    provider.answers("GET", "/v1/models", json={"data": [{"id": "smollm2-135m"}]})
    assert list(app.extensions["aipipe"].catalog.models(patience=10)) == ["local"]


def test_models_are_found_by_words_provider_and_price_a_hundred_at_a_time(app: Flask, lists: None) -> None:
    client = known(app)
    page = client.get("/models").text
    assert "1–100 of 153" in page
    assert rows(page)[0] == ("openai/gpt-4.1-nano", "$0.10 / $0.40")
    assert "101–153 of 153" in client.get("/models?page=9").text
    assert rows(client.get("/models?q=OPENAI+4o").text) == [
        ("openai/gpt-4o", "$2.50 / $10.00"),
        ("openai/gpt-4o-mini", "$0.15 / $0.60"),
    ]
    dear = rows(client.get("/models?provider=openrouter&sort=price&page=2").text)
    assert dear[0] == ("vendor/m100", "$100.00 / $0.00")
    assert "No model here is called that" in client.get("/models?q=nothing").text


def test_a_page_of_models_keeps_to_what_a_budget_allows(app: Flask, lists: None) -> None:
    known(app)
    alice = signed_in(app, ALICE)
    assert rows(alice.get("/models?provider=openai").text) == [("gpt-4.1-nano", "$0.10 / $0.40")]
    assert len(rows(alice.get("/models?provider=openrouter").text)) == 100


@pytest.mark.parametrize("query", ["page=x", "page=-1", "page=99999999", "sort=id", "provider=none", "q=" + "x" * 9999])
def test_what_makes_no_sense_in_an_address_counts_as_not_said(app: Flask, lists: None, query: str) -> None:
    assert known(app).get(f"/models?{query}").status_code == 200
