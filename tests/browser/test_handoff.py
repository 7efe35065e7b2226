"""Handing a token to an app, in a real browser: the app on one site, AI Pipe on another, and others who want the token.

The apps are those of `examples/`, as they are but for the addresses in them.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import MakeApp
from documented import ROOT, code
from e2e.answers import COST, answer, end, piece
from e2e.conftest import Script, Site, running
from e2e.server import SECRET
from fake_provider import Gate
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from playwright.sync_api import BrowserContext, Page, expect
from test_redirects import OWN, TAKEN
from werkzeug.serving import make_server

from aipipe.redirects import read
from browser.pages import Pages

pytestmark = pytest.mark.e2e

EXAMPLES = ROOT / "examples"
HOST = "http://localhost:8787"
CHAT = {"local": "/v1/chat/completions", "openrouter": "/api/v1/chat/completions"}
PRICES = {"local/smollm2-135m": {"input_mtok": 1, "output_mtok": 2}}
PRICES |= {"openrouter/openai/gpt-4o-mini": {"input_mtok": 1, "output_mtok": 2}}


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    provider = Script()
    providers = {name: {"base": provider.url} for name in ("local", "openai")}
    providers["openrouter"] = {"base": f"{provider.url}/api"}
    settings = {"AIPIPE_PROVIDERS": providers, "AIPIPE_PRICES": PRICES, "OPENROUTER_API_KEY": "operators-own-key"}
    with running(tmp_path_factory.mktemp("handoff"), provider, **settings) as site:
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    for path in ("/v1/models", "/api/v1/models"):  # the home page tells what there is
        module_site.provider.answers("GET", path, json={"data": []}, times=None)
    yield module_site
    module_site.check()


@pytest.fixture
def alice(site: Site, page: Page) -> str:
    """Someone who is signed in to AI Pipe in this browser; her email."""
    email = site.server.caller().email
    sign_in(page.context, site, email)
    return email


def sign_in(browser: BrowserContext, site: Site, email: str) -> None:
    """What is left of signing in: the cookie."""
    app = Flask("aipipe")
    app.secret_key = SECRET
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert signer
    value = signer.dumps({"_permanent": True, "email": email, "since": time.time()})
    browser.add_cookies([{"name": "aipipe", "value": str(value), "url": site.server.url}])


@pytest.fixture
def example(site: Site, app: Pages) -> Callable[[str], str]:
    """Puts an example on the app's site; tells its address."""

    def example(name: str) -> str:
        text = (EXAMPLES / name).read_text()
        assert HOST in text
        app.pages["/"] = text.replace(HOST, site.server.url)
        return f"{app.origin}/"

    return example


def allow(page: Page, app: Pages, site: Site) -> None:
    """Says yes to AI Pipe's question."""
    expect(page).to_have_url(re.compile(f"^{re.escape(site.server.url)}/login"))
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{app.origin} wants to use your AI Pipe")
    page.get_by_role("button", name="Allow").click()


def kept(page: Page) -> dict[str, str]:
    """What the app has in its storage."""
    page.wait_for_function("localStorage.getItem('aipipe')")
    found: dict[str, str] = json.loads(page.evaluate("localStorage.getItem('aipipe')"))
    return found


def remember(site: Site, *texts: str) -> None:
    """What the server's log must not hold."""
    site.server.secrets.update(texts)


# Honest apps


def test_the_snippet_gets_an_answer(
    site: Site, app: Pages, page: Page, alice: str, example: Callable[[str], str]
) -> None:
    site.provider.answers("POST", CHAT["openrouter"], json=answer("4"), times=None)
    page.add_init_script("window.said = []; console.log = (text) => said.push(text)")
    page.goto(f"{example('1-snippet.html')}?lesson=3&b")
    allow(page, app, site)
    expect(page).to_have_url(f"{app.origin}/?lesson=3&b")
    profile = kept(page)
    remember(site, profile["token"])
    assert profile["email"] == alice
    page.wait_for_function("said.length")
    said = page.evaluate("said")
    assert said[-1]["choices"][0]["message"]["content"] == "4"
    entry = site.server.ledger.entries(alice)[0]
    assert (entry.app, entry.cost) == (app.origin, COST)


def test_a_button_signs_in_without_a_token_in_any_address(
    site: Site, app: Pages, page: Page, alice: str, example: Callable[[str], str]
) -> None:
    site.provider.answers("POST", CHAT["local"], json=answer("4"), times=None)
    visited: list[str] = []
    page.on("framenavigated", lambda frame: visited.append(frame.url))
    page.goto(f"{example('2-sign-in.html')}?q=%20#/route?x")
    page.get_by_role("button", name="Sign in with AI Pipe").click()
    allow(page, app, site)
    expect(page.locator("#who")).to_have_text(f"Signed in as {alice}")
    expect(page.locator("#answer")).to_have_text("4")
    assert page.url == f"{app.origin}/?q=%20#/route?x"
    token = kept(page)["token"]
    codes = [code for url in visited for code in parse_qs(urlsplit(url).query).get("code", []) if len(code) > 40]
    assert codes
    assert not any(token in url for url in visited)
    remember(site, token, *codes)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in with AI Pipe")).to_be_visible()
    assert page.evaluate("localStorage.getItem('aipipe')") is None
    page.get_by_role("button", name="Sign in with AI Pipe").click()  # remembered: no question
    expect(page.locator("#answer")).to_have_text("4")


def test_a_chat_streams_stops_and_tells_what_it_cost(
    site: Site, app: Pages, page: Page, alice: str, example: Callable[[str], str]
) -> None:
    site.provider.answers("POST", CHAT["local"], sse=[piece("Good "), Gate("night"), piece("morning."), *end()])
    page.set_viewport_size({"width": 390, "height": 780})
    page.goto(example("3-chat.html"))
    allow(page, app, site)
    expect(page.locator("#who")).to_have_text(alice)
    remember(site, kept(page)["token"])
    page.get_by_role("textbox").fill("Good morning!")
    page.keyboard.press("Enter")
    expect(page.locator(".assistant")).to_have_text("Good ")
    site.provider.release("night")
    expect(page.locator(".assistant")).to_have_text("Good morning.")
    expect(page.locator(".note")).to_have_text("$0.000050 · $0.0999 left")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    site.provider.answers("POST", CHAT["local"], sse=[piece("On and on"), Gate("end"), *end()])
    page.get_by_role("textbox").fill("Go on")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".assistant").last).to_have_text("On and on")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".note").last).to_have_text("Stopped.")
    site.provider.closed.wait()
    site.provider.release("end")


@pytest.mark.usefixtures("alice")
def test_the_pages_in_the_readme_get_their_answers(site: Site, app: Pages, page: Page) -> None:
    prints, streams = (text.replace(HOST, site.server.url) for text in code(ROOT / "README.md", "html"))
    site.provider.answers("POST", CHAT["local"], json=answer("4"), times=None)
    page.add_init_script("window.said = []; console.log = (...texts) => said.push(texts)")
    app.pages["/"] = prints
    page.goto(f"{app.origin}/")
    allow(page, app, site)
    profile = kept(page)
    remember(site, profile["token"])
    page.wait_for_function("said.length")
    [email, response] = page.evaluate("said[0]")
    assert (email, response["choices"][0]["message"]["content"]) == (profile["email"], "4")

    page.evaluate("localStorage.clear()")
    site.provider.check()
    site.provider.answers("POST", CHAT["local"], sse=[piece("It is "), piece("4."), *end()])
    app.pages["/"] = streams
    page.goto(f"{app.origin}/")  # remembered: no question
    expect(page.locator("#answer")).to_have_text("It is 4.")
    remember(site, kept(page)["token"])


@pytest.mark.usefixtures("alice")
def test_the_lines_of_the_first_page_work_as_they_are_copied(site: Site, app: Pages, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(site.server.url)
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    site.provider.answers("POST", "/v1/chat/completions", sse=[piece("It is "), piece("4."), *end()])
    app.pages["/"] = page.evaluate("navigator.clipboard.readText()")
    page.goto(f"{app.origin}/")
    allow(page, app, site)
    expect(page.locator("#answer")).to_have_text("It is 4.")
    remember(site, kept(page)["token"])


ASKS = """<!doctype html><title>An app</title>
<script type="module">
  import { getProfile } from "%s/aipipe.js";
  window.profile = getProfile();
  if (!profile.token) window.location = `%s/login?redirect=${window.location.href}`;
</script>"""


@pytest.fixture
def asks(site: Site, app: Pages) -> str:
    """An app that does what the seed's does first; its address."""
    app.pages["/"] = ASKS % (site.server.url, site.server.url)
    return f"{app.origin}/"


@pytest.mark.usefixtures("alice")
def test_an_address_survives_the_way_there_and_back(site: Site, app: Pages, page: Page, asks: str) -> None:
    address = f"{asks}?q=caf%C3%A9&r=https://b.example/?x&y=%26#/route?a=1&b"
    page.goto(address)
    allow(page, app, site)
    expect(page).to_have_url(address)
    remember(site, kept(page)["token"])
    page.evaluate("localStorage.clear()")
    page.reload()  # remembered: no question
    page.wait_for_function("localStorage.getItem('aipipe')")
    expect(page).to_have_url(address)


@pytest.mark.usefixtures("alice")
def test_a_code_of_the_apps_own_stays_its_own(site: Site, app: Pages, page: Page) -> None:
    app.pages["/"] = SIGNS_IN % site.server.url
    page.goto(f"{app.origin}/?code=its-own")
    allow(page, app, site)
    remember(site, kept(page)["token"])
    expect(page).to_have_url(f"{app.origin}/?code=its-own")


SIGNS_IN = """<!doctype html><title>An app</title>
<script type="module">
  import { signIn } from "%s/aipipe.js";
  window.both = Promise.all([signIn(), signIn()]);
  window.failed = await both.then(() => null, (error) => error.message);
</script>"""


@pytest.mark.usefixtures("alice")
def test_a_page_that_may_not_store_is_told_so_rather_than_sent_around(site: Site, app: Pages, page: Page) -> None:
    app.pages["/"] = SIGNS_IN % site.server.url
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    page.goto(f"{app.origin}/")
    page.wait_for_function("window.failed")
    assert "allow it to store data" in page.evaluate("failed")


@pytest.mark.usefixtures("alice")
def test_a_sign_in_that_fails_says_why_and_can_be_tried_again(site: Site, app: Pages, page: Page) -> None:
    app.pages["/"] = SIGNS_IN % site.server.url
    page.route("**/token", lambda route: route.fulfill(status=401, json={"message": "No."}), times=1)
    page.goto(f"{app.origin}/")
    allow(page, app, site)
    page.wait_for_function("window.failed")
    assert page.evaluate("failed") == "No."
    expect(page).to_have_url(f"{app.origin}/")
    page.reload()
    remember(site, kept(page)["token"])


def test_signing_in_leads_straight_on_to_an_app_that_was_allowed(make_app: MakeApp, app: Pages, page: Page) -> None:
    """By three redirects behind one form, which browsers hold against the policy of the form's page."""
    flask = make_app(dev=True, AIPIPE_PUBLIC_URL=None)
    flask.extensions["aipipe"].ledger.apps.allow("alice@example.com", app.origin, time.time() + 60)
    server = make_server("127.0.0.1", 0, flask, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here = f"http://127.0.0.1:{server.server_port}"
    app.pages["/"] = ASKS % (here, here)
    try:
        page.goto(f"{app.origin}/?a&b=%20#/route?c&d")
        page.get_by_label("Email").fill("alice@example.com")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_function("localStorage.getItem('aipipe')")
        expect(page).to_have_url(f"{app.origin}/?a&b=%20#/route?c&d")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Others


def test_the_question_can_not_be_framed(site: Site, app: Pages, page: Page, alice: str) -> None:
    asked = f"{site.server.url}/login?redirect={app.origin}/"
    for sandbox in ("", ' sandbox="allow-scripts allow-forms allow-same-origin"'):
        app.pages["/frame"] = f'<!doctype html><iframe src="{asked}"{sandbox}></iframe>'
        page.goto(f"{app.origin}/frame")
        frame = page.frames[1]
        frame.wait_for_load_state()
        assert "wants to use" not in frame.content()
    assert site.server.ledger.apps.allowed(alice) == []


def test_cancelling_goes_home_and_tells_the_app_nothing(
    site: Site, app: Pages, page: Page, alice: str, asks: str
) -> None:
    page.goto(asks)
    page.get_by_role("button", name="Cancel").click()
    expect(page).to_have_url(f"{site.server.url}/")
    assert site.server.ledger.apps.find(alice, app.origin) is None


@pytest.mark.usefixtures("alice")
def test_who_says_nothing_finds_the_way_back_to_the_app(site: Site, app: Pages, page: Page) -> None:
    app.pages["/start"] = "<!doctype html><title>An app</title>"
    page.goto(f"{site.server.url}/login?redirect={app.origin}/start?lesson=3%26b")
    page.get_by_role("link", name=f"back to {app.origin}").click()
    expect(page).to_have_url(re.compile(f"{app.origin}/start"))
    assert "token" not in page.url


def test_a_cap_is_kept(site: Site, app: Pages, page: Page, alice: str, example: Callable[[str], str]) -> None:
    page.goto(example("3-chat.html"))
    page.get_by_label("At most, in dollars").fill("0.000001")
    allow(page, app, site)
    page.get_by_role("textbox").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("of the $0.000001 that you let this app spend")
    assert site.server.ledger.entries(alice) == []


FETCH = """async ([url, token]) => {
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
  return [answer.status, await answer.json()];
}"""


def test_a_stolen_token_is_worth_nothing_elsewhere(site: Site, app: Pages, page: Page, alice: str, asks: str) -> None:
    page.goto(asks)
    allow(page, app, site)
    token = kept(page)["token"]
    remember(site, token)
    usage = f"{site.server.url}/usage"
    assert page.evaluate(FETCH, [usage, token])[0] == 200
    thief = Pages()
    try:
        thief.pages["/"] = "<title>Thief</title>"
        page.goto(f"{thief.origin}/")
        status, told = page.evaluate(FETCH, [usage, token])
        assert (status, told["error"]["type"]) == (403, "permission_error")
        thief.pages["/sandbox"] = '<iframe sandbox="allow-scripts" src="/"></iframe>'
        page.goto(f"{thief.origin}/sandbox")
        assert page.frames[1].evaluate(FETCH, [usage, token])[0] == 403
        thief.pages["/thief"] = ASKS % (site.server.url, site.server.url)
        page.goto(f"{thief.origin}/thief?aipipe_token={token}&aipipe_email={alice}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(thief.origin)  # it has to ask for itself
    finally:
        thief.close()


TRADE = """async ([url, fields]) => {
  const answer = await fetch(url, { method: "POST", body: new URLSearchParams(fields) });
  return [answer.status, await answer.json()];
}"""


@pytest.mark.usefixtures("alice")
def test_a_code_is_good_once_with_its_verifier_and_from_its_origin(
    site: Site, app: Pages, page: Page, example: Callable[[str], str]
) -> None:
    site.provider.answers("POST", CHAT["local"], json=answer("4"), times=None)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if request.url.endswith("/token") else None)
    page.goto(example("2-sign-in.html"))
    page.get_by_role("button", name="Sign in with AI Pipe").click()
    allow(page, app, site)
    expect(page.locator("#answer")).to_have_text("4")
    fields = {name: values[0] for name, values in parse_qs(sent[0]).items()}
    profile = kept(page)
    remember(site, profile["token"], *fields.values())
    url = f"{site.server.url}/token"
    assert page.evaluate(TRADE, [url, {"code": fields["code"]}])[0] == 400
    assert page.evaluate(TRADE, [url, {**fields, "code_verifier": "v" * 43}])[0] == 401
    usage = f"{site.server.url}/usage"
    assert page.evaluate(FETCH, [usage, profile["token"]])[0] == 200
    status, told = page.evaluate(TRADE, [url, fields])
    assert (status, told.get("token")) == (401, None)
    assert page.evaluate(FETCH, [usage, profile["token"]])[0] == 401  # two had it: nobody keeps it


@pytest.mark.parametrize(
    "nested",
    [
        "{site}/login?redirect={app}/",
        "/login?redirect={app}/",
        "%2Flogin%3Fredirect%3D{app}%2F",
        "/login?redirect=/login?redirect={app}/",
    ],
)
def test_however_deep_a_redirect_is_nested_the_question_comes(
    site: Site, app: Pages, page: Page, alice: str, nested: str
) -> None:
    page.goto(f"{site.server.url}/login?redirect={nested.format(site=site.server.url, app=app.origin)}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{app.origin} wants to use your AI Pipe")
    assert site.server.ledger.apps.allowed(alice) == []


def test_a_browser_reads_every_redirect_as_it_was_checked(page: Page) -> None:
    """Its own parser finds the origin that the question named, and nothing to write otherwise."""
    for text in TAKEN:
        asked = read(f"redirect={text}", OWN)
        assert asked
        found = page.evaluate(
            "([url, base]) => [new URL(url, base).origin, new URL(url, base).href]", [asked.target.url, OWN]
        )
        origin = asked.target.origin or OWN
        assert found == [origin, origin + asked.target.rest]


def test_a_form_of_another_site_says_yes_for_nobody(site: Site, app: Pages, page: Page, alice: str, asks: str) -> None:
    page.goto(asks)
    ticket = page.locator("[name=ticket]").input_value()
    app.pages["/form"] = (
        f'<form method="post" action="{site.server.url}/login/allow"><input name="ticket" value="{ticket}">'
        "<button>Win</button></form>"
    )
    page.goto(f"{app.origin}/form")
    page.get_by_role("button").click()
    expect(page).to_have_url(f"{site.server.url}/login/allow")
    assert site.server.ledger.apps.allowed(alice) == []


def test_a_revoked_app_is_refused_and_asks_again(
    site: Site, app: Pages, page: Page, alice: str, example: Callable[[str], str]
) -> None:
    page.goto(example("3-chat.html"))
    allow(page, app, site)
    expect(page.locator("#who")).to_have_text(alice)
    remember(site, kept(page)["token"])
    page.goto(f"{site.server.url}/usage")
    page.get_by_role("link", name="Apps").click()
    revoke = page.get_by_role("button", name=f"Revoke {app.origin}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    revoke.click()
    expect(revoke).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    revoke.click()
    expect(page.get_by_text("None yet")).to_be_visible()
    page.goto(f"{app.origin}/")
    page.get_by_role("textbox").fill("Hello")
    page.keyboard.press("Enter")
    allow(page, app, site)
    expect(page.locator("#who")).to_have_text(alice)
    remember(site, kept(page)["token"])


APPS = {path.name: path.read_text() for path in sorted(EXAMPLES.glob("*.html"))}
APPS |= dict(zip(("README's first", "README's second"), code(ROOT / "README.md", "html"), strict=True))


@pytest.mark.parametrize("name", APPS)
def test_whose_token_was_taken_back_gets_another_and_nothing_is_called_without_one(
    site: Site, app: Pages, page: Page, alice: str, name: str
) -> None:
    sent: list[str | None] = []
    page.on("request", lambda asked: sent.append(asked.headers.get("authorization")) if "/v1/" in asked.url else None)
    streams = "chat(" in APPS[name]
    for path in CHAT.values():
        made = {"sse": [piece("4"), *end()]} if streams else {"json": answer("4")}
        site.provider.answers("POST", path, **made, times=None)
    app.pages["/"] = APPS[name].replace(HOST, site.server.url)
    page.goto(f"{app.origin}/")
    uses(page, app, site, name)
    first = kept(page)["token"]
    site.server.ledger.apps.revoke(alice, app.origin)
    page.goto(f"{app.origin}/?again")
    uses(page, app, site, name)
    second = kept(page)["token"]
    remember(site, first, second)
    assert [header and header.removeprefix("Bearer ") for header in sent] == [first, first, second]


def uses(page: Page, app: Pages, site: Site, name: str) -> None:
    """Does with an app what its user does, who is asked on the way, until there is an answer."""
    again = page.url.endswith("?again")
    if "console.log" in APPS[name]:
        with page.expect_console_message(lambda said: said.type == "log"):
            allow(page, app, site)
        return
    if "Sign in with" in APPS[name] and not again:
        page.get_by_role("button", name="Sign in with AI Pipe").click()
    if "<textarea" in APPS[name] and again:
        greet(page)
    allow(page, app, site)
    if "<textarea" in APPS[name]:
        greet(page)
    expect(page.locator("#answer, .assistant")).to_have_text("4")


def greet(page: Page) -> None:
    page.get_by_role("textbox").fill("Hello")
    page.keyboard.press("Enter")


def test_bob_is_asked_though_alice_said_yes(site: Site, app: Pages, page: Page, alice: str, asks: str) -> None:
    site.server.ledger.apps.allow(alice, app.origin, time.time() + 60)
    sign_in(page.context, site, site.server.caller("bob@example.com").email)
    page.goto(asks)
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{app.origin} wants to use your AI Pipe")
