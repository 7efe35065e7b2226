"""What a browser is trusted with: every route that changes something, and every one that answers to a token or page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask

ALICE = "alice@example.com"
DANA = "dana@example.com"
OURS = {"Sec-Fetch-Site": "same-origin"}
PAGE = {"Accept": "text/html,*/*;q=0.8"}
NO_KEYS = dict.fromkeys(f"{name}_API_KEY" for name in ("OPENAI", "OPENROUTER", "GEMINI", "ANTHROPIC"))  # nor lists
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
# These read a token, or what Google signed, and no session: a page of another site has neither.
TOKEN_ROUTES = {"admin", "gateway", "proxy", "similarity", "token", "google_sign_in"}

FOREIGN: dict[str, dict[str, str]] = {
    "nothing": {},
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://aipipe.example.com"},
    "a neighbour": {"Sec-Fetch-Site": "same-site"},
    "nobody's click": {"Sec-Fetch-Site": "none"},
    "another origin": {"Origin": "https://charlie.example.org"},
    "no origin": {"Origin": "null"},
    "our origin by http": {"Origin": "http://aipipe.example.com"},
    "our name in another": {"Origin": "https://aipipe.example.com.charlie.example.org"},
}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(
        dev=True, GOOGLE_CLIENT_ID="client-id", ADMIN_EMAILS=DANA, AIPIPE_EMBEDDING_PROVIDER="openai", **NO_KEYS
    )


def forms(app: Flask) -> list[tuple[str, str]]:
    """Methods and paths of all that changes something for who is signed in."""
    return sorted(
        (method, re.sub(r"<(?:\w+:)?\w+>", "1", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & UNSAFE
        if rule.endpoint.partition(".")[0] not in TOKEN_ROUTES
    )


def signed_in(app: Flask, email: str = DANA) -> Any:
    client = app.test_client()
    assert client.post("/login", data={"email": email}, headers=OURS).status_code == 303
    return client


def test_nothing_is_changed_for_who_is_signed_in_but_from_our_own_pages(app: Flask) -> None:
    found = forms(app)
    assert {("POST", "/login"), ("POST", "/logout"), ("POST", "/login/reset")} <= set(found)
    dana = signed_in(app)
    for method, path in found:
        for name, headers in FOREIGN.items():
            answer = dana.open(path, method=method, headers=headers, data={"email": DANA})
            assert (answer.status_code, "AI Pipe's own pages" in answer.text) == (403, True), (method, path, name)
        ours = dana.open(path, method=method, headers={"Origin": "https://aipipe.example.com"}, data={"email": DANA})
        assert "AI Pipe's own pages" not in ours.text, (method, path)
        dana = signed_in(app)


def routes(app: Flask, *, of_tokens: bool) -> list[tuple[str, str]]:
    asked = {"/admin/usage", "/admin/token", "/admin/cost", "/similarity", "/openai/v1/models"}
    if of_tokens:
        return [("POST" if path in ("/admin/cost", "/similarity") else "GET", path) for path in sorted(asked)]
    return [
        ("GET", rule.rule)
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or set())
        and not rule.arguments
        and rule.endpoint.partition(".")[0] not in TOKEN_ROUTES
    ]


def test_a_route_for_tokens_never_reads_the_session(app: Flask) -> None:
    dana = signed_in(app)
    for method, path in routes(app, of_tokens=True):
        for headers in ({}, OURS, PAGE):
            answer = dana.open(path, method=method, headers=headers, environ_overrides={"RAW_URI": path})
            assert answer.status_code == 401, (path, headers)


def test_a_page_never_reads_a_token(app: Flask, token: Callable[[str], str]) -> None:
    """It shows what it shows to strangers; /usage answers tokens with JSON, whoever asks for a page."""
    given = {**PAGE, "Authorization": f"Bearer {token(DANA)}"}
    for _, path in routes(app, of_tokens=False):
        stranger, bearer = (app.test_client().get(path, headers=headers, buffered=True) for headers in (PAGE, given))
        if path == "/usage":
            assert bearer.mimetype == "application/json"
            continue
        assert (stranger.status_code, stranger.headers.get("Location")) == (
            bearer.status_code,
            bearer.headers.get("Location"),
        ), path
        assert DANA not in bearer.text, path


def test_https_is_for_good(make_app: MakeApp) -> None:
    app = make_app(AIPIPE_TRUSTED_PROXIES=1, **NO_KEYS)
    for path in ("/", "/login", "/usage", "/healthz", "/nothing/here", "/proxy/ftp://x/"):
        for scheme, told in (("https", "max-age=31536000"), ("http", None)):
            answer = app.test_client().get(path, headers={"X-Forwarded-Proto": scheme})
            assert answer.headers.get("Strict-Transport-Security") == told, path


def test_a_reset_on_one_worker_voids_a_token_on_every_other_at_once(
    make_app: MakeApp, token: Callable[[str], str]
) -> None:
    first, second = make_app(), make_app()
    mine = {"Authorization": f"Bearer {token(ALICE)}"}
    assert second.test_client().get("/usage", headers=mine).status_code == 200
    first.extensions["aipipe"].ledger.reset_tokens(ALICE)
    for app in (first, second):
        assert app.test_client().get("/usage", headers=mine).status_code == 401


def test_a_session_of_long_ago_or_of_another_secret_is_none(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_app(dev=True), make_app(dev=True, AIPIPE_SECRET="another secret of 32 characters!")
    alice = signed_in(first, ALICE)
    cookie = alice.get_cookie("aipipe").value
    stranger = second.test_client()
    stranger.set_cookie("aipipe", cookie)
    assert ALICE not in stranger.get("/login").text
    assert ALICE in alice.get("/login").text
    later = time.time() + 31 * 86_400
    monkeypatch.setattr("time.time", lambda: later)
    assert ALICE not in alice.get("/login").text


def test_a_reset_ends_every_session_but_the_one_that_asked_for_it(make_app: MakeApp) -> None:
    first = make_app(dev=True)
    here, elsewhere = signed_in(first, ALICE), signed_in(first, ALICE)
    assert here.post("/login/reset", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert ALICE in here.get("/login").text
    assert ALICE not in elsewhere.get("/login").text
    first.extensions["aipipe"].ledger.reset_tokens(ALICE)  # as an admin does
    assert ALICE not in here.get("/login").text


FORM, JSON, PART = "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=b"


@pytest.mark.parametrize("kind", [FORM, JSON, PART])
@pytest.mark.parametrize(
    "path", ["/token", "/login/google", "/login", "/login/allow", "/admin/issue", "/playground/code"]
)
def test_what_is_no_providers_is_small(make_app: MakeApp, path: str, kind: str) -> None:
    dana = signed_in(make_app(dev=True, GOOGLE_CLIENT_ID="a.apps.googleusercontent.com"), DANA)
    body = b'{"a": "' + b"x" * 2**22 + b'"}' if kind == JSON else b"%ff&" * 2**21
    answer = dana.post(path, data=body, content_type=kind, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/similarity"])
@pytest.mark.parametrize("piece", [b"[],", b"{},", b'{"a":1},'])
def test_a_large_question_of_too_many_parts_is_not_even_read(
    make_app: MakeApp, token: Callable[[str], str], path: str, piece: bytes
) -> None:
    body = b'{"model": "gpt-4.1-nano", "messages": [' + piece * 400_000 + b"0]}"
    answer = (
        make_app()
        .test_client()
        .post(
            path,
            data=body,
            content_type=JSON,
            headers={"Authorization": f"Bearer {token(ALICE)}"},
            environ_overrides={"RAW_URI": path},
        )
    )
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (413, "request_too_large")
