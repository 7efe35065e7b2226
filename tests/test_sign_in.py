"""Sign-in with Google through our page: what goes there, and what may come back. Credentials are really signed."""

from __future__ import annotations

import html
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fake_google
import itsdangerous
import pytest
from conftest import SECRET, MakeApp
from fake_google import CLIENT_ID, credential
from fake_provider import FakeProvider
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from aipipe import nonces
from aipipe.google import Certificates, Google
from aipipe.ledger import Ledger, open_ledger

KEY = fake_google.key("today")
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
WORD = "6b1f0a2c"
# What a browser says of a form on Google's page that it sends here.
CROSS_SITE = {**PAGE, "Origin": "https://accounts.google.com", "Sec-Fetch-Site": "cross-site"}


@pytest.fixture
def worker(make_app: MakeApp, provider: FakeProvider) -> Callable[..., Flask]:
    """Makes apps that share a ledger, and `provider`'s keys as Google's."""
    google = Google(CLIENT_ID, Certificates(f"{provider.url}/certs"))

    def make(**settings: Any) -> Flask:
        app = make_app(GOOGLE_CLIENT_ID=CLIENT_ID, **settings)
        app.extensions["aipipe"] = replace(app.extensions["aipipe"], google=google)
        return app

    return make


@pytest.fixture
def app(worker: Callable[..., Flask]) -> Flask:
    return worker()


@pytest.fixture
def published(provider: FakeProvider) -> None:
    """Google's key can be had; it is asked for once."""
    certificates = fake_google.certificates(KEY)
    provider.answers("GET", "/certs", json=certificates, headers={"Cache-Control": "max-age=3600"})


def begin(client: FlaskClient, path: str = "/login", **how: Any) -> dict[str, str]:
    """What the page tells Google's script."""
    page = client.get(path, headers=PAGE, **how).text
    return {name: html.unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', page)}


def come_back(client: FlaskClient, *, word: str | None = WORD, **changes: str | None) -> TestResponse:
    """As Google's page sends the browser back; None leaves a field out. `word` is the cookie of Google's script."""
    if word is not None:
        client.set_cookie("g_csrf_token", word)
    form = {"g_csrf_token": WORD, "select_by": "btn", **changes}
    data = {name: value for name, value in form.items() if value is not None}
    return client.post("/login/google", data=data, headers=CROSS_SITE)


def who(client: FlaskClient) -> str | None:
    found = re.search(r"Signed in as <strong>([^<]+)", client.get("/login").text)
    return found[1] if found else None


def test_the_page_has_googles_button_and_a_fresh_nonce(app: Flask) -> None:
    client = app.test_client()
    told = begin(client, "/login?next=/usage%3Fdays=7")
    assert told["client_id"] == CLIENT_ID
    assert told["login_uri"] == "https://aipipe.example.com/login/google"
    assert told["ux_mode"] == "redirect"
    assert told["state"] == "/usage?days=7"
    assert begin(client)["nonce"] != told["nonce"]
    assert client.get("/login").headers["Cache-Control"] == "no-store"


def test_this_page_alone_lets_googles_script_in(app: Flask) -> None:
    answer = app.test_client().get("/login", headers=PAGE)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["script-src"].endswith(" https://accounts.google.com/gsi/client")
    assert policy["frame-src"] == policy["connect-src"].split()[1] == "https://accounts.google.com/gsi/"
    assert "https://accounts.google.com/gsi/style" in policy["style-src"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["default-src"] == "'none'"
    assert answer.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert "google" not in app.test_client().get("/docs", headers=PAGE).headers["Content-Security-Policy"]


def test_without_a_client_id_the_page_asks_nothing_of_google(make_app: MakeApp) -> None:
    answer = make_app().test_client().get("/login", headers=PAGE)
    assert "google" not in answer.text + answer.headers["Content-Security-Policy"]
    assert "aipipe token EMAIL" in answer.text


@pytest.mark.usefixtures("published")
def test_whom_google_vouches_for_is_signed_in(app: Flask) -> None:
    client = app.test_client()
    answer = come_back(client, credential=credential(KEY, nonce=begin(client)["nonce"]))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert answer.headers["Cache-Control"] == "no-store"
    assert who(client) == "alice@example.com"


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("next", "goes_to"),
    [
        ("/usage?days=7", "/usage?days=7"),
        ("https://evil.example.com/", "/login"),
        ("//evil.example.com", "/login"),
        ("/\\evil.example.com", "/login"),
        ('"><script>alert(1)</script>', "/login"),
    ],
)
def test_one_gets_where_one_was_going_on_this_site(app: Flask, next: str, goes_to: str) -> None:
    client = app.test_client()
    told = begin(client, "/login", query_string={"next": next})
    assert told["state"] == next
    answer = come_back(client, credential=credential(KEY, nonce=told["nonce"]), state=next)
    assert answer.headers["Location"] == goes_to


@pytest.mark.usefixtures("published")
def test_an_earlier_session_ends_where_another_begins(app: Flask) -> None:
    client = app.test_client()
    come_back(client, credential=credential(KEY, nonce=begin(client)["nonce"]))
    nonce = begin(app.test_client())["nonce"]
    come_back(client, credential=credential(KEY, nonce=nonce, email="bob@example.com"))
    assert who(client) == "bob@example.com"


@pytest.mark.parametrize(
    ("cookie", "field"),
    [(None, WORD), (WORD, None), (None, None), ("", ""), (WORD, ""), (WORD, WORD[:-1]), (WORD, "ä"), ("x", WORD)],
)
def test_a_form_that_this_browser_did_not_begin_is_refused(app: Flask, cookie: str | None, field: str | None) -> None:
    client = app.test_client()
    good = credential(KEY, nonce=begin(client)["nonce"])
    answer = come_back(client, word=cookie, g_csrf_token=field, credential=good)
    assert_refused(client, answer, good)


@pytest.mark.usefixtures("published")
def test_a_nonce_is_good_once_on_whatever_worker(app: Flask, worker: Callable[..., Flask]) -> None:
    client = app.test_client()
    good = credential(KEY, nonce=begin(client)["nonce"])
    assert come_back(client, credential=good).status_code == 303
    client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert_refused(client, come_back(client, credential=good), good)
    elsewhere = worker().test_client()
    assert_refused(elsewhere, come_back(elsewhere, credential=good), good)


def test_a_nonce_that_expired_is_forgotten(app: Flask) -> None:
    ledger: Ledger = app.extensions["aipipe"].ledger
    now = time.time()
    other = open_ledger(app.extensions["aipipe"].config["AIPIPE_DATABASE_URL"])
    assert ledger.use_once("early", now - 1)
    assert ledger.use_once("late", now + 600)
    assert not other.use_once("late", now + 600)
    other.close()
    assert ledger._database.read("SELECT nonce FROM used_nonce") == [("late",)]


def old(seconds: float) -> str:
    """A nonce of ours, from some time ago."""

    class Then(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - seconds)

    return Then(SECRET, salt="aipipe sign-in with google").sign("word").decode()


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("nonce", "message"),
    [
        (lambda: None, "was not begun"),
        (lambda: "", "was not begun"),
        (lambda: "made up", "was not begun"),
        (lambda: nonces.make("another secret of 32 characters!"), "was not begun"),
        (lambda: nonces.make(SECRET) + "A", "was not begun"),
        (lambda: old(nonces.LIFETIME + 2), "longer than ten minutes"),
        (lambda: [nonces.make(SECRET)], "was not begun"),
    ],
    ids=["none", "empty", "made up", "signed by another", "changed", "too old", "a list"],
)
def test_only_a_sign_in_begun_here_lately_is_good(app: Flask, nonce: Callable[[], object], message: str) -> None:
    client = app.test_client()
    bad = credential(KEY, nonce=nonce())
    answer = come_back(client, credential=bad)
    assert_refused(client, answer, bad)
    assert message in answer.text


@pytest.mark.usefixtures("published")
def test_a_nonce_is_not_used_up_by_somebody_elses_failure(app: Flask) -> None:
    client = app.test_client()
    nonce = begin(client)["nonce"]
    for wrong in ({"aud": "another"}, {"exp": int(time.time()) - 60}, {"email_verified": False}):
        assert come_back(client, credential=credential(KEY, nonce=nonce, **wrong)).status_code == 401
    assert come_back(client, credential=credential(KEY, nonce=nonce)).status_code == 303


@pytest.mark.parametrize("given", [None, "", "a.b.c", "x" * 9000], ids=["none", "empty", "nonsense", "too long"])
def test_what_is_no_credential_is_refused(app: Flask, given: str | None) -> None:
    client = app.test_client()
    assert_refused(client, come_back(client, credential=given), given or "no credential")


def test_google_out_of_reach_is_a_temporary_refusal(app: Flask, provider: FakeProvider) -> None:
    provider.answers("GET", "/certs", status=500)
    client = app.test_client()
    answer = come_back(client, credential=credential(KEY, nonce=begin(client)["nonce"]))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert who(client) is None


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("secure", [True, False])
def test_behind_a_proxy_the_address_is_the_one_that_users_see(worker: Callable[..., Flask], secure: bool) -> None:
    client = worker(AIPIPE_PUBLIC_URL=None, AIPIPE_TRUSTED_PROXIES=1).test_client()
    scheme = "https" if secure else "http"
    client.environ_base |= {"HTTP_X_FORWARDED_PROTO": scheme, "HTTP_X_FORWARDED_HOST": "ai.example.com"}
    told = begin(client)
    assert told["login_uri"] == f"{scheme}://ai.example.com/login/google"
    answer = come_back(client, credential=credential(KEY, nonce=told["nonce"]))
    assert answer.status_code == 303
    name = "__Host-aipipe=" if secure else "aipipe="
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(name)
    assert ("; Secure" in cookie) is secure


@pytest.mark.usefixtures("published")
def test_nothing_of_a_credential_is_logged(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = app.test_client()
    good = credential(KEY, nonce=begin(client)["nonce"])
    come_back(client, credential=good)
    come_back(client, credential=good)
    assert not any(part in caplog.text for part in good.split("."))


def assert_refused(client: FlaskClient, answer: TestResponse, given: str) -> None:
    assert answer.status_code == 401
    assert answer.mimetype == "text/html"
    assert 'href="/login"' in answer.text
    assert given not in answer.text
    assert who(client) is None
