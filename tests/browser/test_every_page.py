"""Every page in a real browser: fit for all people and screens, nobody else asked, and hostile text inert in it.

A new page is a line in `VISITS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from conftest import MakeApp
from e2e.conftest import Script, Site, running
from playwright.sync_api import Locator, Page, expect

from aipipe.errors import RateLimited
from aipipe.ledger import open_ledger
from aipipe.ledger.entries import append
from aipipe.ledger.sqlite import Execute
from aipipe.ledger.types import Entry

pytestmark = pytest.mark.e2e

DANA, NEW = "dana@example.com", "new@example.com"
HOSTILE = "<img/src=x/onerror=hacked()>"
EVE = f"{HOSTILE}@example.com"  # who spends, through a hostile app, on a hostile model
LINK = "javascript:hacked()"
LONG = "a" * 120
APP = f"https://{'a' * 60}.{'b' * 60}.example.com"
BUDGETS = {"*": {"limit": 0.1, "days": 7}, NEW: {"limit": 0.5, "days": 1}}
MODELS = ["small", HOSTILE, LONG, *(f"model-{number}" for number in range(400))]
PRICE = {"input_mtok": 1, "output_mtok": 2}
CHAT = "/v1/chat/completions"
ANSWER = f"""# Hi

{HOSTILE} [a]({LINK}) ![b](https://evil.example.com/x.png)

```
{LONG * 3}
```

| | b |
|-|-|
|1|2|
"""
SAID = [
    {"id": "1", "choices": [{"index": 0, "delta": {"content": ANSWER}}]},
    {"id": "1", "choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 3}},
    "[DONE]",
]
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Texts of links in the menu that stand on each other. Around a text there is air, which may.
OVERLAPS = """() => [...document.querySelectorAll(".bar a")].map((link) => {
    const range = document.createRange();
    range.selectNodeContents(link);
    return range.getBoundingClientRect();
  }).some((one, place, all) => all.slice(place + 1).some((other) =>
    one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom))"""
WEIGHT = """[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
FINDINGS = """async (options) => (await axe.run({ resultTypes: ["violations"], ...options })).violations
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`)"""


@dataclass(frozen=True)
class Visit:
    """A page as somebody sees it, after doing something there if need be."""

    path: str
    email: str = ""
    status: int = 200
    does: Callable[[Page, Script], None] = lambda page, provider: None

    def __str__(self) -> str:
        name = getattr(self.does, "__name__", "")
        return " ".join([self.path[:24], self.email[:4], name if name != "<lambda>" else ""]).strip()


def chats(page: Page, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=SAID)
    expect(page.locator("#model-name")).to_have_text("openai / small")
    page.get_by_label("Message", exact=True).fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator(".turn .cost")).not_to_be_empty()
    page.get_by_text("Settings").click()


def chooses_a_model(page: Page, provider: Script) -> None:
    expect(page.locator("#model-name")).to_contain_text(" / ")
    page.locator("#model").click()
    expect(page.get_by_role("option").first).to_be_visible()


def asks_for_code(page: Page, provider: Script) -> None:
    expect(page.locator("#model-name")).to_contain_text(" / ")
    page.locator("#code").click()
    expect(page.locator("#snippets pre").first).to_be_visible()


def is_refused(page: Page, provider: Script) -> None:
    expect(page.locator("#model-name")).to_contain_text(" / ")
    page.context.clear_cookies()
    page.get_by_label("Message", exact=True).fill("Hi")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()


def opens_the_days(page: Page, provider: Script) -> None:
    page.get_by_text("Every day as a table").click()


def sets_a_cost(page: Page, provider: Script) -> None:
    page.get_by_label("Cost in dollars").fill("0.02")
    page.get_by_role("button", name="Set the cost").click()
    expect(page.get_by_role("heading", name="Set the cost")).to_be_visible()


def gets_a_token(page: Page, provider: Script) -> None:
    for button in ("Make a token", "Make the token"):
        page.get_by_role("button", name=button).click()
    expect(page.get_by_label("A token for")).to_be_visible()


VISITS = [
    Visit("/"),
    Visit("/", EVE),
    Visit("/login"),
    Visit("/login", EVE),
    Visit("/login/reset", EVE),
    Visit("/models"),
    Visit("/models?q=model&sort=price&page=3", EVE),
    Visit("/models?q=none", EVE),
    Visit("/playground", EVE),
    Visit("/playground?model=openai/small", EVE, does=chats),
    Visit("/playground", EVE, does=chooses_a_model),
    Visit("/playground", EVE, does=asks_for_code),
    Visit("/playground", NEW, does=is_refused),
    Visit("/usage", EVE, does=opens_the_days),
    Visit("/usage?days=90", EVE),
    Visit("/usage", NEW),
    Visit("/admin", DANA, does=opens_the_days),
    Visit("/admin?q=nobody@example.com", DANA),
    Visit(f"/admin/people/{quote(EVE, safe='@')}", DANA),
    Visit(f"/admin/people/{quote(EVE, safe='@')}", DANA, does=sets_a_cost),
    Visit(f"/admin/adjust?email={NEW}&date=2026-01-01&cost=0,05", DANA, status=400),
    Visit(f"/admin/people/{NEW}", DANA, does=gets_a_token),
    Visit("/login?redirect=https://tricks.example.com/start", EVE),
    Visit("/apps", EVE),
    Visit("/apps", NEW),
    Visit("/docs"),
    Visit("/docs/configuration"),
    Visit("/docs/decisions/001-holds"),
    Visit(f"/{quote(HOSTILE)}/here", status=404),
    Visit("/admin", EVE, status=403),
    Visit("/admin/people/nobody", DANA, status=400),
]


def fill(execute: Execute) -> None:
    now = time.time()
    for ago in range(90):
        moment = now - ago * 86_400
        append(execute, Entry(
            time=moment, date=datetime.fromtimestamp(moment, UTC).date().isoformat(), email=EVE,
            app=[HOSTILE, LINK, LONG, ""][ago % 4], provider="openai", model=[HOSTILE, "small", LONG][ago % 3],
            endpoint="v1/chat/completions", input_tokens=1234, output_tokens=567, cached_tokens=0,
            cost=1_234_567 if ago else 0, status=200, ended="partial" if ago % 5 == 0 else "complete", answer_id="",
            duration=700,
        ))  # fmt: skip


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    prices = {f"openai/{name}": PRICE for name in MODELS}
    with running(
        folder, command="dev", ADMIN_EMAILS=DANA, WEB_CONCURRENCY="1", AIPIPE_PRICES=prices, AIPIPE_BUDGET=BUDGETS
    ) as site:
        ledger = open_ledger(f"sqlite:///{folder}/aipipe.db")
        ledger._database.write(fill)
        for origin in (APP, "https://quiz.example.com", "http://localhost:8000"):
            ledger.apps.allow(EVE, origin, time.time() + 86_400, cap=10**9)
        for number in range(3):
            ledger.apps.add_token(EVE, APP, f"token-{number}")
        ledger.failures.note("openai", 429, "It wants AI Pipe to ask less.")
        ledger.close()
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    module_site.provider.answers("GET", "/v1/models", json={"data": [{"id": name} for name in MODELS]}, times=None)
    yield module_site
    module_site.server.check_books()
    module_site.provider.check()


@pytest.fixture(scope="module")
def axe(npm: Callable[[str], Path]) -> str:
    return (npm("axe-core") / "axe.min.js").read_text()


@pytest.fixture
def watched(page: Page, site: Site) -> Iterator[Page]:
    """A page on a phone that asks nobody but us, that complains of nothing, and on which nothing hostile runs."""
    complaints: list[str] = []
    strangers: list[str] = []
    ours = (f"{site.server.url}/", "data:")
    page.expose_function("hacked", lambda: complaints.append("hacked"))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda request: None if request.url.startswith(ours) else strangers.append(request.url))
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="light", reduced_motion="reduce")  # nothing is in between two colours
    yield page
    assert [text for text in complaints if "server responded with a status of" not in text] == []
    assert strangers == []


def sign_in(page: Page, site: Site, email: str) -> None:
    answer = page.request.post(f"{site.server.url}/login", form={"email": email}, headers={"Origin": site.server.url})
    assert answer.ok


def check(page: Page, axe: str) -> None:
    """It is light enough, axe-core finds nothing in it whatever the light, and nothing sticks out at any width."""
    assert page.evaluate(WEIGHT) < 150_000
    page.evaluate(axe)
    assert page.evaluate(FINDINGS, {}) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(FINDINGS, {"runOnly": ["color-contrast"]}) == []
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate(SIDEWAYS) == 0, width
        assert not page.evaluate(OVERLAPS), width
    assert page.locator("main :is(img[src^='x'], img[src^='http'], a[href^='javascript'], script)").count() == 0


@pytest.mark.parametrize("visit", VISITS, ids=str)
def test_a_page_is_for_everybody(visit: Visit, watched: Page, site: Site, axe: str) -> None:
    if visit.email:
        sign_in(watched, site, visit.email)
    answer = watched.goto(f"{site.server.url}{visit.path}")
    assert answer and answer.status == visit.status
    visit.does(watched, site.provider)
    check(watched, axe)


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (RateLimited(f"AI Pipe allows you 3 requests a minute. {HOSTILE}", retry_after=20), "What you spent"),
        (RuntimeError(HOSTILE), "Try again"),
    ],
    ids=["429", "500"],
)
def test_what_goes_wrong_is_a_page_with_a_next_step(
    error: Exception, next_step: str, make_app: MakeApp, watched: Page, site: Site, axe: str
) -> None:
    """No page fails when asked to: the error's page is made by an app in here, its assets come from the server."""

    def fail() -> NoReturn:
        raise error

    app = make_app(dev=True)
    app.add_url_rule("/fails", view_func=fail)
    made = app.test_client().get("/fails", headers={"Accept": "text/html"})
    fulfil = {"status": made.status_code, "headers": dict(made.headers), "body": made.data}
    watched.route("**/fails", lambda route: route.fulfill(**fulfil))
    watched.goto(f"{site.server.url}/fails")
    expect(watched.get_by_role("button", name=next_step)).to_be_visible()
    check(watched, axe)


def test_the_keyboard_alone_gets_a_token_chats_and_looks_at_what_was_spent(
    watched: Page, site: Site, provider: Script
) -> None:
    watched.goto(site.server.url)
    watched.keyboard.press("Tab")
    expect(watched.get_by_role("link", name="Skip to content")).to_be_focused()
    press(watched, "button", "Get your token")
    expect(watched.get_by_label("Email")).to_be_focused()
    watched.keyboard.type(DANA)
    watched.keyboard.press("Enter")
    press(watched, "button", "Show")
    expect(watched.get_by_label("Keep it to yourself")).to_have_attribute("type", "text")
    press(watched, "link", "Playground")
    provider.answers("POST", CHAT, sse=SAID)
    expect(watched.locator("#model-name")).to_contain_text(" / ")
    walk(watched, watched.locator("#model"))
    watched.keyboard.press("Enter")
    watched.keyboard.type("openai small")
    watched.keyboard.press("Enter")
    walk(watched, watched.get_by_label("Message", exact=True))
    watched.keyboard.type("Hello")
    watched.keyboard.press("Enter")
    expect(watched.locator(".turn .cost")).not_to_be_empty()
    press(watched, "link", "Usage")
    press(watched, "link", "7 days")
    expect(watched).to_have_url(f"{site.server.url}/usage?days=7")
    press(watched, "link", "Admin")
    press(watched, "link", "Person")
    expect(watched).to_have_url(f"{site.server.url}/admin?sort=email")
    walk(watched, watched.locator(".people a[href*=dana]"))
    watched.keyboard.press("Enter")
    press(watched, "button", "Make a token …")
    press(watched, "button", "Make the token")
    expect(watched.get_by_label("A token for")).to_be_visible()


def test_from_the_first_page_three_clicks_lead_to_lines_with_ones_token_in_them(watched: Page, site: Site) -> None:
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched.goto(site.server.url)
    watched.get_by_role("button", name="Get your token").click()
    watched.get_by_label("Email").fill(NEW)
    watched.get_by_role("button", name="Sign in").click()
    watched.locator("pre").get_by_role("button", name="Copy").click()
    expect(watched.get_by_role("button", name="Copied")).to_be_visible()
    assert f"export OPENAI_API_KEY={watched.locator('#token').input_value()}\n" in watched.evaluate(
        "navigator.clipboard.readText()"
    )
    expect(watched.locator("pre")).to_contain_text("export OPENAI_API_KEY=your-token")  # for who looks over a shoulder


NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"  # as on a page without https
HEAR = "addEventListener('copy', ({ target }) => (window.heard = target.value))"


@pytest.mark.parametrize(
    ("script", "said"),
    [(NO_CLIPBOARD, "Copied"), (f"{NO_CLIPBOARD}; document.execCommand = () => false", "Selected")],
)
def test_without_a_clipboard_copying_still_does_something(watched: Page, site: Site, script: str, said: str) -> None:
    sign_in(watched, site, NEW)
    watched.add_init_script(f"{script}; {HEAR}")
    watched.goto(site.server.url)
    button = watched.locator("pre").nth(1).get_by_role("button")
    button.click()
    expect(button).to_have_text(said)
    if said == "Copied":
        assert "export OPENAI_API_KEY=eyJ" in watched.evaluate("heard")
    else:
        assert "export OPENAI_API_KEY=your-token" in watched.evaluate("getSelection().toString()")
    assert watched.locator("textarea").count() == 0


def test_a_button_clicked_twice_gets_its_own_text_back(watched: Page, site: Site) -> None:
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched.goto(site.server.url)
    button = watched.locator("pre").first.get_by_role("button")
    for _ in range(2):
        button.click()
        expect(button).to_have_text("Copied")
    expect(button).to_have_text("Copy")


def test_no_copy_button_stands_on_code_whose_line_is_long(watched: Page, site: Site) -> None:
    watched.goto(f"{site.server.url}/docs")
    for width in (360, 1280):
        watched.set_viewport_size({"width": width, "height": 740})
        assert watched.evaluate(
            """() => [...document.querySelectorAll("pre.copyable")].every((pre) => {
              const [code, button] = [...pre.children].map((child) => child.getBoundingClientRect());
              return button.left >= code.right || button.bottom <= code.bottom - code.height + 12;
            })"""
        )


def press(page: Page, role: Any, name: str) -> None:
    """Walks to something by the Tab key, and presses Enter."""
    walk(page, page.get_by_role(role, name=name, exact=True).first)
    page.keyboard.press("Enter")


def walk(page: Page, target: Locator) -> None:
    expect(target).to_be_visible()
    for _ in range(100):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the Tab key doesn't lead there")
