"""aipipe.js in a real browser, imported by an app on another origin."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import pytest
from e2e.conftest import Script, Site
from e2e.server import SECRET
from playwright.sync_api import Page

from aipipe import tokens
from browser.pages import Pages

pytestmark = pytest.mark.e2e

EMAIL = "alice@example.com"
NOBODY = {"token": None, "email": None}
PAGE = """<!doctype html><title>An app</title>
<script type="module">
  import { getProfile } from "%s/aipipe.js";
  const before = history.length;
  window.profile = getProfile();
  window.again = getProfile();
  window.entries = history.length - before;
</script>"""
# The seed's page, but for the hosts, the path and the model.
SEED = """<!doctype html>
<script type="module">
import { getProfile } from "%(aipipe)s/aipipe.js";
const { token, email } = getProfile();
if (!token) window.location = `%(app)s/login?redirect=${window.location.href}`;
const response = await fetch("%(aipipe)s/openai/v1/chat/completions", {
method: "POST",
headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
body: JSON.stringify({
model: "small",
messages: [{ role: "user", content: "What is 2 + 2?" }],
}),
}).then((r) => r.json());
console.log(response);
window.response = response;
</script>"""
DAY = 86_400

Visit = Callable[..., dict[str, Any]]


def token(*, app: str | None = None, age: float = 0) -> str:
    """A token that was made `age` days ago for one day."""
    return tokens.issue(EMAIL, secret=SECRET, now=time.time() - age * DAY, days=1, app=app)


@pytest.fixture
def visit(site: Site, app: Pages, page: Page) -> Visit:
    """Opens the app's page and returns what `getProfile()` gave, at once and when called again."""
    app.pages["/"] = PAGE % site.server.url

    def visit(rest: str = "") -> dict[str, Any]:
        page.goto(f"{app.origin}/{rest}")
        page.wait_for_function("window.again")
        assert page.evaluate("window.again") == page.evaluate("window.profile")
        found: dict[str, Any] = page.evaluate("window.profile")
        return found

    return visit


def stored(page: Page) -> Any:
    return json.loads(page.evaluate("localStorage.getItem('aipipe')") or "null")


def store(page: Page, text: str) -> None:
    page.evaluate("text => localStorage.setItem('aipipe', text)", text)


def test_a_stranger_has_no_profile_and_the_address_stays(visit: Visit, page: Page, app: Pages) -> None:
    assert visit("?q=a%20b&x#part") == NOBODY
    assert page.url == f"{app.origin}/?q=a%20b&x#part"
    assert stored(page) is None


def test_a_token_moves_from_the_address_into_storage(visit: Visit, page: Page, app: Pages) -> None:
    alice = {"token": token(app=app.origin), "email": EMAIL}
    assert visit(f"?aipipe_token={alice['token']}&aipipe_email=alice%40example.com") == alice
    assert page.url == f"{app.origin}/"
    assert page.evaluate("window.entries") == 0
    assert stored(page) == alice
    assert visit() == alice


def test_what_else_is_in_the_address_stays_as_it_was_written(visit: Visit, page: Page, app: Pages) -> None:
    arriving = f"aipipe_token={token()}&b=%7E+c&aipipe_email={EMAIL}"
    visit(f"?a=1&a=%20&my_aipipe_token=3&{arriving}&aipipe_tokens=4&d#/route?aipipe_token=x")
    assert page.url == (f"{app.origin}/?a=1&a=%20&my_aipipe_token=3&b=%7E+c&aipipe_tokens=4&d#/route?aipipe_token=x")


@pytest.mark.parametrize("text", ["opaque", "sk-native", "a.b", "a.!!.c", "a.bnVsbA.c"])
def test_a_token_that_says_nothing_about_itself_is_taken(visit: Visit, text: str) -> None:
    assert visit(f"?aipipe_token={text}") == {"token": text, "email": None}
    assert visit() == {"token": text, "email": None}


def test_the_email_is_the_tokens_where_the_address_has_none(visit: Visit) -> None:
    assert visit(f"?aipipe_token={token()}")["email"] == EMAIL


UNUSABLE = {
    "for another origin": {"app": "https://charlie.example.org"},
    "expired": {"age": 2},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_token_that_would_be_refused_is_ignored_in_the_address(
    visit: Visit, page: Page, app: Pages, kind: str
) -> None:
    useless = token(**UNUSABLE[kind])
    assert visit(f"?aipipe_token={useless}&aipipe_email={EMAIL}&a=1") == NOBODY
    assert page.url == f"{app.origin}/?a=1"
    assert stored(page) is None
    good = visit(f"?aipipe_token={token()}")
    assert visit(f"?aipipe_token={useless}&aipipe_email=bob%40example.com") == good


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_token_that_would_be_refused_is_forgotten(visit: Visit, page: Page, kind: str) -> None:
    visit()
    store(page, json.dumps({"token": token(**UNUSABLE[kind]), "email": EMAIL}))
    assert visit() == NOBODY
    assert stored(page) is None


@pytest.mark.parametrize(
    "text", ["", "x", "null", "3", '"text"', "[]", "{}", '{"token": 5}', '{"token": ""}', '{"email": "a@example.com"}']
)
def test_garbage_in_storage_is_no_profile(visit: Visit, page: Page, text: str) -> None:
    visit()
    store(page, text)
    assert visit() == NOBODY


def test_a_profile_of_another_ai_pipe_is_kept(visit: Visit, page: Page) -> None:
    visit()
    store(page, json.dumps({"token": "opaque", "email": EMAIL, "more": 1}))
    assert visit() == {"token": "opaque", "email": EMAIL}


STORAGES = {
    "refused": "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })",
    "full": "Storage.prototype.setItem = () => { throw new Error('full'); }",
}


@pytest.mark.parametrize("script", STORAGES.values(), ids=STORAGES)
def test_a_page_that_may_not_store_still_has_what_it_was_given(
    visit: Visit, page: Page, app: Pages, script: str
) -> None:
    page.add_init_script(script)
    assert visit() == NOBODY
    good = token()
    assert visit(f"?aipipe_token={good}&aipipe_email={EMAIL}") == {"token": good, "email": EMAIL}
    assert page.url == f"{app.origin}/"


def test_a_page_in_a_sandbox_gets_an_answer(visit: Visit, page: Page, app: Pages) -> None:
    app.pages["/outer"] = '<iframe sandbox="allow-scripts" src="/?aipipe_token=opaque"></iframe>'
    page.goto(f"{app.origin}/outer")
    frame = page.frames[1]
    frame.wait_for_function("window.again")
    assert frame.evaluate("window.profile") == {"token": "opaque", "email": None}


def test_the_seeds_page_gets_an_answer(site: Site, app: Pages, page: Page, provider: Script) -> None:
    caller = site.server.caller()
    app.pages["/"] = SEED % {"aipipe": site.server.url, "app": app.origin}
    app.pages["/login"] = "<title>Sign in</title>"
    page.goto(f"{app.origin}/")
    page.wait_for_url(f"{app.origin}/login?redirect={app.origin}/")

    usage = {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
    message = {"role": "assistant", "content": "4"}
    completion = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message}], "usage": usage}
    provider.answers("POST", "/v1/chat/completions", json=completion)
    site.server.ledger.apps.allow(caller.email, app.origin, time.time() + DAY)
    assert site.server.ledger.apps.add_token(caller.email, app.origin, "one")
    mine = tokens.issue(caller.email, secret=SECRET, now=time.time(), days=1, app=app.origin, jti="one")
    site.server.secrets.add(mine)
    page.goto(f"{app.origin}/?aipipe_token={mine}&aipipe_email={caller.email}")
    page.wait_for_function("window.response")
    assert page.evaluate("window.response.choices[0].message.content") == "4"
    entry = site.server.entry(caller)
    assert (entry.app, entry.cost) == (app.origin, 14 * 1_000 + 2 * 2_000)


def test_the_module_may_be_imported_from_anywhere_and_is_kept_for_a_short_time(site: Site) -> None:
    url = f"{site.server.url}/aipipe.js"
    with urllib.request.urlopen(url) as answer:
        headers = answer.headers
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cache-Control"] == "public, max-age=300"
    with pytest.raises(HTTPError) as again:
        urllib.request.urlopen(urllib.request.Request(url, headers={"If-None-Match": headers["ETag"]}))
    again.value.close()
    assert again.value.code == 304
