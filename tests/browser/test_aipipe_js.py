"""aipipe.js in a real browser, imported by an app on another origin."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

import pytest
from e2e.answers import CHAT, COST, end, piece
from e2e.conftest import Script, Site
from e2e.server import SECRET, Caller
from fake_provider import DROP
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


CHATS = """<!doctype html><title>An app</title>
<script type="module">
  import { chat } from "%s/aipipe.js";
  window.talk = async (messages, options) => {
    const pieces = [];
    let cost = null;
    try {
      for await (const piece of chat(messages, { ...options, onCost: (told) => (cost = told) })) pieces.push(piece);
    } catch ({ message, status, type, code }) {
      return { pieces, cost, message, status, type, code };
    }
    return { pieces, cost };
  };
</script>"""
Talk = Callable[..., dict[str, Any]]


@pytest.fixture
def talk(site: Site, app: Pages, page: Page, alice: Caller) -> Talk:
    """What `chat()` gave to the app of somebody who is signed in."""
    app.pages["/"] = CHATS % site.server.url
    page.goto(f"{app.origin}/")
    store(page, json.dumps({"token": alice.token, "email": alice.email}))
    page.wait_for_function("!!window.talk")
    return lambda *asked: page.evaluate("(asked) => talk(...asked)", list(asked))


def test_a_chat_comes_in_pieces_and_tells_what_it_cost(talk: Talk, provider: Script, site: Site, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("2 + 2 "), piece("= 4 \u2713"), *end()])
    told = talk("What is 2 + 2?", {"model": "small", "temperature": 0})
    assert told == {"pieces": ["2 + 2 ", "= 4 \u2713"], "cost": {"cost": 0.00005, "remaining": 0.09995}}
    [request] = provider.requests
    sent = json.loads(request.body)
    assert sent["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert (sent["model"], sent["temperature"], sent["stream"]) == ("small", 0, True)
    assert site.server.entry(alice).cost == COST


def test_a_chat_takes_a_conversation_and_another_provider(talk: Talk, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=[piece("Yes."), *end()])
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]
    assert talk(conversation, {"provider": "patient", "model": "small"})["pieces"] == ["Yes."]
    assert json.loads(provider.requests[0].body)["messages"] == conversation


def test_a_chat_that_is_refused_says_why(talk: Talk) -> None:
    told = talk("Hello", {"model": "no-such-model"})
    assert (told["status"], told["type"], told["code"]) == (400, "invalid_request_error", "model_price_unknown")
    assert "no-such-model" in told["message"]


def test_a_chat_that_breaks_off_says_so(talk: Talk, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=[piece("2 + "), DROP])
    told = talk("What is 2 + 2?", {"model": "small"})
    assert told["pieces"] == ["2 + "]
    assert told["type"] == "provider_error"


def test_a_token_that_is_refused_is_forgotten_and_the_page_left_for_another(
    talk: Talk, page: Page, site: Site, app: Pages
) -> None:
    store(page, json.dumps({"token": "opaque", "email": EMAIL}))
    assert talk("Hello", {"token": "another"})["status"] == 401
    assert stored(page)["token"] == "opaque"
    page.evaluate("() => void talk('Hello', {})")
    page.wait_for_url(f"{site.server.url}/login?**code_challenge=**")
    page.goto(f"{app.origin}/")
    assert stored(page) is None


def test_a_token_that_is_refused_where_nobody_can_sign_in_is_told(talk: Talk, page: Page) -> None:
    store(page, json.dumps({"token": "opaque", "email": EMAIL}))
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); } }")
    assert talk("Hello", {})["status"] == 401


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
