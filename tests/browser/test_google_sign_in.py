"""Sign-in with Google in a real browser. Google is played at the edge of the network: its script, its page, its keys.

The script does what Google's is documented to do in redirect mode, no more: it reads the button's attributes, leaves
`g_csrf_token` in a cookie, and goes to Google, whose page sends the credential to `data-login_uri`.
https://developers.google.com/identity/gsi/web/reference/html-reference
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fake_google
import pytest
from conftest import MakeApp
from fake_google import CLIENT_ID, credential
from fake_provider import FakeProvider
from playwright.sync_api import Page, Route, expect
from werkzeug.serving import make_server

from aipipe.google import Certificates, Google

pytestmark = pytest.mark.e2e

KEY = fake_google.key("today")
GOOGLE = "https://accounts.google.com/gsi"
SCRIPT = """
const { client_id, login_uri, nonce, ux_mode } = document.querySelector("#g_id_onload").dataset;
const place = document.querySelector(".g_id_signin");
const style = document.createElement("link");
Object.assign(style, { rel: "stylesheet", href: "https://accounts.google.com/gsi/style" });
document.head.append(style);
const frame = document.createElement("iframe");
frame.src = "https://accounts.google.com/gsi/button";
frame.title = "Google";
const inline = document.createElement("style");
inline.nonce = document.querySelector("link[rel=stylesheet][nonce]").nonce;
inline.textContent = ".g_id_signin { color: rgb(1, 2, 3) }";
document.head.append(inline);
const button = document.createElement("button");
button.textContent = "Sign in with Google";
button.onclick = () => {
  document.cookie = "g_csrf_token=6b1f0a2c; path=/; SameSite=None; Secure";
  const told = { client_id, login_uri, nonce, ux_mode, state: place.dataset.state, g_csrf_token: "6b1f0a2c" };
  location.assign("https://accounts.google.com/gsi/select?" + new URLSearchParams(told));
};
place.append(button, frame);
"""


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        fake.answers("GET", "/certs", json=fake_google.certificates(KEY), times=None)
        yield fake


@pytest.fixture
def here(make_app: MakeApp, provider: FakeProvider) -> Iterator[str]:
    """The address of an AI Pipe that asks `provider` for Google's keys."""
    keys = {f"{name}_API_KEY": None for name in ("OPENAI", "OPENROUTER", "GEMINI", "ANTHROPIC")}
    app = make_app(GOOGLE_CLIENT_ID=CLIENT_ID, AIPIPE_PUBLIC_URL=None, **keys)
    google = Google(CLIENT_ID, Certificates(f"{provider.url}/certs"))
    app.extensions["aipipe"] = replace(app.extensions["aipipe"], google=google)
    server = make_server("localhost", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def play(route: Route, **changes: Any) -> None:
    """Google's side, for somebody who says yes."""
    url = urlsplit(route.request.url)
    if url.path == "/gsi/client":
        route.fulfill(content_type="text/javascript", body=SCRIPT)
    elif url.path == "/gsi/select":
        told = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert told["ux_mode"] == "redirect"
        assert told["client_id"] == CLIENT_ID
        signed = credential(KEY, nonce=told["nonce"], **changes)
        fields = {"credential": signed, "g_csrf_token": told["g_csrf_token"], "state": told.get("state", "")}
        inputs = "".join(f'<input name="{name}" value="{html.escape(value)}">' for name, value in fields.items())
        form = f'<form method="post" action={json.dumps(told["login_uri"])}>{inputs}</form>'
        route.fulfill(content_type="text/html", body=f"{form}<script>document.forms[0].submit()</script>")
    else:
        route.fulfill(content_type="text/css" if url.path == "/gsi/style" else "text/html", body="")


@pytest.fixture
def browsing(page: Page, here: str) -> Iterator[Page]:
    """A page whose console stays empty, and that asks nobody but us and Google."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    others: list[str] = []
    page.on("request", lambda request: others.append(request.url))
    page.route(f"{GOOGLE}/**", play)
    yield page
    assert not said
    assert [
        url for url in others if not url.startswith((f"{here}/", f"{GOOGLE}/", "data:", "https://quiz.example.com/"))
    ] == []


def test_from_google_one_comes_back_signed_in_where_one_was_going(browsing: Page, here: str) -> None:
    browsing.goto(f"{here}/usage?days=7")
    expect(browsing).to_have_url(f"{here}/login?next=%2Fusage%3Fdays%3D7")
    expect(browsing.locator(".g_id_signin")).to_have_css("color", "rgb(1, 2, 3)")
    browsing.get_by_role("button", name="Sign in with Google").click()
    expect(browsing).to_have_url(f"{here}/usage?days=7")
    browsing.get_by_role("link", name="Account").click()
    expect(browsing.get_by_text("Signed in as alice@example.com")).to_be_visible()
    browsing.get_by_role("button", name="Sign out").click()
    browsing.goto(f"{here}/login")
    expect(browsing.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_google_learns_where_it_was_asked_from_and_nothing_more(browsing: Page, here: str) -> None:
    with browsing.expect_request(f"{GOOGLE}/client") as asked:
        browsing.goto(f"{here}/login?next=/usage")
    assert asked.value.headers["referer"] == f"{here}/"


def test_going_back_and_sending_it_again_signs_nobody_in(page: Page, here: str) -> None:
    page.route(f"{GOOGLE}/**", play)
    page.goto(f"{here}/login")
    sent = []
    page.on("request", lambda request: sent.append(request.post_data) if request.method == "POST" else None)
    page.get_by_role("button", name="Sign in with Google").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your token")
    page.get_by_role("button", name="Sign out").click()
    fields = {name: values[0] for name, values in parse_qs(sent[0], keep_blank_values=True).items()}
    answer = page.request.post(f"{here}/login/google", form=fields, headers={"Accept": "text/html"})
    assert answer.status == 401
    assert "was used before" in answer.text()


def test_to_google_and_back_an_apps_address_stays_whole(browsing: Page, here: str) -> None:
    """The hash too, which an unencoded redirect leaves on the sign-in page's own address."""
    browsing.goto(f"{here}/login?redirect=https://quiz.example.com/a?b=%20&c#/route?d&e")
    expect(browsing.get_by_text("to go on to https://quiz.example.com")).to_be_visible()
    browsing.get_by_role("button", name="Sign in with Google").click()
    expect(browsing.get_by_role("heading", level=1)).to_contain_text(
        "https://quiz.example.com wants to use your AI Pipe"
    )
    browsing.route("https://quiz.example.com/**", lambda route: route.fulfill(body="An app"))
    browsing.get_by_role("button", name="Allow").click()
    expect(browsing).to_have_url(re.compile(r"^https://quiz\.example\.com/a\?b=%20&c&aipipe_token=\S+#/route\?d&e$"))
