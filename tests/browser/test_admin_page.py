"""The dashboard with a thousand people in a real browser: search, sort, page, go back; by keyboard; without scripts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from e2e.conftest import Site, running
from playwright.sync_api import Browser, Page, Route, expect

from aipipe.ledger import open_ledger
from aipipe.ledger.entries import append
from aipipe.ledger.sqlite import Execute
from aipipe.ledger.types import Entry

pytestmark = pytest.mark.e2e

DANA = "dana@example.com"
HOSTILE = '<img src=x onerror="hacked()">'
LONG = "a" * 120 + "@" + "long." * 20 + "example.com"
# Texts between two places where a domain may break, that are broken all the same.
TORN = """() => [...document.querySelectorAll(".people .domain")].flatMap((domain) => [...domain.childNodes])
  .filter((node) => node.nodeType === Node.TEXT_NODE)
  .some((node) => {
    const range = document.createRange();
    range.selectNode(node);
    return range.getClientRects().length > 1;
  })"""
# Dates beneath the chart of which a part isn't shown.
CUT = """() => [...document.querySelectorAll(".chart svg text")].some((text) => {
    const svg = text.ownerSVGElement, frame = svg.getBoundingClientRect(), date = text.getBoundingClientRect();
    const within = date.left >= frame.left && date.right <= frame.right;
    return !(within || getComputedStyle(svg).overflow === "visible") || date.left < 0 || date.right > innerWidth;
  })"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def fill(execute: Execute) -> None:
    """Person n spent n thousandths of a cent; and somebody hostile, and somebody with a long name, most of all."""
    now = time.time()
    usual = {
        "time": now, "date": datetime.fromtimestamp(now, UTC).date().isoformat(), "app": "", "provider": "openai",
        "model": "small", "endpoint": "v1/chat/completions", "input_tokens": 1, "output_tokens": 1,
        "cached_tokens": 0, "status": 200, "ended": "complete", "answer_id": "", "duration": 700,
    }  # fmt: skip
    for number in range(1000):
        email = f"p{number:03}@{'class' if number % 4 else 'staff'}.example.com"
        append(execute, Entry(**usual, email=email, cost=number * 10_000))  # type: ignore[arg-type]
    for email in (f"{HOSTILE.replace(' ', '/')}@example.com", LONG):
        changed = {**usual, "model": HOSTILE, "app": HOSTILE}
        append(execute, Entry(**changed, email=email, cost=200_000_000))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("admin")
    with running(folder, command="dev", ADMIN_EMAILS=DANA, WEB_CONCURRENCY="1") as site:
        ledger = open_ledger(f"sqlite:///{folder}/aipipe.db")
        ledger._database.write(fill)
        ledger.close()
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    yield module_site
    module_site.check()


@pytest.fixture
def dana(page: Page, site: Site) -> Iterator[Page]:
    """The dashboard, for the admin. It asks nobody but us, and its console stays empty."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    enter(page, site)
    yield page
    assert not said
    assert [url for url in asked if not url.startswith((f"{site.server.url}/", "data:"))] == []


def enter(page: Page, site: Site, path: str = "/admin") -> None:
    page.goto(f"{site.server.url}/login?next={path}")
    page.get_by_label("Email").fill(DANA)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{path}")


def sign_out(page: Page, site: Site) -> None:
    """In another tab."""
    answer = page.request.post(f"{site.server.url}/logout", headers={"Origin": site.server.url}, max_redirects=0)
    assert answer.status == 303


def rows(page: Page) -> list[str]:
    """Whom the table lists."""
    return [re.sub(r"\s", "", text) for text in page.locator(".people tbody .name").all_text_contents()]


def test_search_sort_pages_and_days_each_have_an_address_and_back_works(dana: Page, site: Site) -> None:
    search, count = dana.get_by_role("searchbox"), dana.locator(".pager span")
    expect(count).to_have_text("1–50 of 1,002")
    search.press_sequentially("@staff")
    expect(count).to_have_text("1–50 of 250")
    expect(dana).to_have_url(f"{site.server.url}/admin?q=%40staff")
    expect(search).to_be_focused()
    assert rows(dana)[0] == "p996@staff.example.com"
    dana.get_by_role("link", name="Person", exact=True).click()
    expect(dana).to_have_url(re.compile("sort=email"))
    expect(dana.locator("[aria-sort=ascending]")).to_have_text("Person")
    dana.get_by_role("link", name="Next").click()
    expect(count).to_have_text("51–100 of 250")
    dana.get_by_role("link", name="7 days").click()
    expect(count).to_have_text("1–50 of 250")
    expect(dana).to_have_url(f"{site.server.url}/admin?days=7&q=%40staff&sort=email")
    dana.go_back()
    expect(count).to_have_text("51–100 of 250")
    dana.go_back()
    expect(count).to_have_text("1–50 of 250")
    dana.go_back()
    expect(dana.locator("[aria-sort=descending]")).to_have_text("Spent")
    expect(search).to_have_value("@staff")
    dana.reload()
    expect(count).to_have_text("1–50 of 250")


def test_the_keyboard_alone_finds_somebody_and_keeps_its_place(dana: Page) -> None:
    dana.get_by_role("searchbox").focus()
    dana.keyboard.type("p123")
    expect(dana.locator(".people tbody tr")).to_have_count(1)
    dana.get_by_role("link", name="7 days").focus()
    dana.keyboard.press("Enter")
    expect(dana).to_have_url(re.compile("days=7"))
    expect(dana.get_by_role("link", name="7 days")).to_be_focused()
    dana.get_by_role("link", name="p123").focus()
    dana.keyboard.press("Enter")
    expect(dana.get_by_role("heading", level=1)).to_have_text("p123@class.example.com")


def test_deeds_are_asked_about_once_and_a_token_can_be_copied(dana: Page, site: Site) -> None:
    dana.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dana.goto(f"{site.server.url}/admin/people/p501@class.example.com")
    dana.get_by_label("Cost in dollars").fill("0.15")
    dana.get_by_role("button", name="Set the cost").click()
    expect(dana.get_by_role("main")).to_contain_text("It is $0.00501 now and will be $0.15")
    dana.get_by_role("button", name="Set the cost").click()
    expect(dana.get_by_role("status")).to_contain_text("The cost was set")
    expect(dana.get_by_text("blocked", exact=True)).to_be_visible()
    dana.get_by_role("button", name="Make a token").click()
    dana.get_by_role("link", name="Cancel").click()
    expect(dana.locator("#token")).to_have_count(0)
    dana.get_by_role("button", name="Make a token").click()
    dana.get_by_role("button", name="Make the token").click()
    dana.get_by_role("button", name="Copy", exact=True).click()
    expect(dana.get_by_role("button", name="Copied")).to_be_visible()
    assert dana.evaluate("navigator.clipboard.readText()") == dana.locator("#token").input_value()


def test_a_made_token_is_gone_when_its_page_is_loaded_again_and_back_asks_again(dana: Page, site: Site) -> None:
    person = f"{site.server.url}/admin/people/p777@class.example.com"
    dana.goto(person)
    dana.get_by_role("button", name="Make a token").click()
    dana.get_by_role("button", name="Make the token").click()
    expect(dana.locator("#token")).to_have_value(re.compile("^eyJ"))
    expect(dana).to_have_url(person)
    dana.reload()
    expect(dana.get_by_role("heading", level=1)).to_have_text("p777@class.example.com")
    expect(dana.locator("#token")).to_have_count(0)
    dana.go_back()
    expect(dana.get_by_role("heading", level=1)).to_have_text("Make a token for p777@class.example.com?")
    dana.go_back()
    expect(dana).to_have_url(person)
    expect(dana.locator("#token")).to_have_count(0)


def test_a_mistyped_cost_stays_in_its_form_under_the_cursor_with_what_is_meant(page: Page, site: Site) -> None:
    enter(page, site, "/admin/people/p502@class.example.com")
    cost = page.get_by_label("Cost in dollars")
    cost.fill("0,05")
    page.get_by_role("button", name="Set the cost").click()
    expect(cost).to_have_value("0,05")
    expect(cost).to_be_focused()
    expect(cost).to_be_in_viewport()
    expect(cost).to_have_accessible_description(re.compile("with a point, such as 0.05"))
    cost.fill("0.05")
    page.get_by_role("button", name="Set the cost").click()
    expect(page.get_by_role("main")).to_contain_text("will be $0.05")


def test_a_page_further_on_begins_at_its_top_with_the_focus_there(dana: Page, site: Site) -> None:
    dana.set_viewport_size({"width": 360, "height": 740})
    dana.goto(f"{site.server.url}/admin?page=20")
    heading = dana.get_by_role("heading", name="People")
    for name, listed in (("Next", "1,001–1,002 of 1,002"), ("Previous", "951–1,000 of 1,002")):
        dana.get_by_role("link", name=name).click()
        expect(dana.locator(".pager span")).to_have_text(listed)
        expect(heading).to_be_focused()
        expect(heading).to_be_in_viewport()


def test_the_table_of_days_stays_open(dana: Page, site: Site) -> None:
    for path in ("/admin", "/admin/people/p501@class.example.com"):
        dana.goto(f"{site.server.url}{path}")
        dana.get_by_text("Every day as a table").click()
        dana.get_by_role("link", name="7 days").click()
        expect(dana).to_have_url(re.compile("days=7"))
        expect(dana.get_by_role("region", name="Every day")).to_be_visible()
        dana.get_by_text("Every day as a table").click()
        dana.get_by_role("link", name="90 days").click()
        expect(dana).to_have_url(re.compile("days=90"))
        expect(dana.get_by_role("region", name="Every day")).to_be_hidden()


@pytest.mark.parametrize("path", ["/admin", "/admin/people/p501@class.example.com", "/usage"])
def test_whoever_signed_out_elsewhere_signs_in_and_goes_on_where_they_wanted(dana: Page, site: Site, path: str) -> None:
    dana.goto(f"{site.server.url}{path}")
    sign_out(dana, site)
    dana.get_by_role("link", name="7 days").click()
    dana.get_by_label("Email").fill(DANA)
    dana.get_by_role("button", name="Sign in").click()
    expect(dana).to_have_url(f"{site.server.url}{path}?days=7")
    expect(dana.locator("#panel [aria-current]")).to_have_text("7 days")
    dana.go_back()  # past the sign-in page, which has nothing to show any more
    expect(dana.locator("#panel")).to_be_visible()


def test_a_search_after_the_session_ended_is_not_lost_either(dana: Page, site: Site) -> None:
    sign_out(dana, site)
    dana.get_by_role("searchbox").press_sequentially("p123")
    dana.wait_for_url("**/login?next=*")
    dana.get_by_label("Email").fill(DANA)
    dana.get_by_role("button", name="Sign in").click()
    expect(dana).to_have_url(f"{site.server.url}/admin?q=p123")
    expect(dana.locator(".people tbody tr")).to_have_count(1)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (lambda route: route.abort(), "can't be reached"),
        (lambda route: route.fulfill(status=500, content_type="text/html", body="<h1>Something broke</h1>"), "broke"),
        (lambda route: route.fulfill(status=503, content_type="text/html", body=""), "broke"),
    ],
    ids=["nobody answers", "500", "503 and nothing in it"],
)
def test_what_fails_is_told_in_place_and_leaves_the_page_as_it_was(
    page: Page, site: Site, trouble: Callable[[Route], None], told: str
) -> None:
    enter(page, site)
    page.route("**/admin?days=7", trouble)
    page.locator("#next").scroll_into_view_if_needed()
    page.get_by_role("link", name="7 days").click()
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_role("alert")).to_be_in_viewport()
    assert len(rows(page)) == 50
    assert page.url == f"{site.server.url}/admin"
    page.unroute("**/admin?days=7")
    page.get_by_role("link", name="7 days").click()
    expect(page).to_have_url(f"{site.server.url}/admin?days=7")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_bars_are_as_long_in_every_row_and_emails_break_at_their_dots(dana: Page, site: Site) -> None:
    for width in (360, 1280):
        dana.set_viewport_size({"width": width, "height": 800})
        dana.goto(f"{site.server.url}/admin")
        assert LONG in rows(dana)
        assert len(set(dana.locator(".share .meter").evaluate_all("all => all.map(one => one.offsetWidth)"))) == 1
        assert not dana.evaluate(TORN)


def test_on_a_phone_the_menu_is_one_row_and_no_date_is_cut(dana: Page, site: Site) -> None:
    dana.set_viewport_size({"width": 360, "height": 740})
    for path in ("/usage?days=7", "/admin?days=7", "/admin?days=90"):
        dana.goto(f"{site.server.url}{path}")
        tops = dana.locator(".bar li:not(:last-child) a").evaluate_all("all => all.map(one => one.offsetTop)")
        assert len(tops) == 5
        assert len(set(tops)) == 1
        assert not dana.evaluate(CUT)


@pytest.mark.parametrize("width", [360, 390, 768, 1024, 1280, 1440])
def test_nothing_scrolls_sideways_whoever_is_listed(dana: Page, site: Site, width: int) -> None:
    dana.set_viewport_size({"width": width, "height": 800})
    dana.goto(f"{site.server.url}/admin")
    assert rows(dana)[:2] == sorted([HOSTILE.replace(" ", "/") + "@example.com", LONG])
    assert dana.evaluate(SIDEWAYS) == 0
    for row in (0, 1):
        dana.goto(f"{site.server.url}/admin")
        dana.locator(".people tbody a").nth(row).click()
        expect(dana.get_by_text("Set what a day cost")).to_be_visible()
        assert dana.evaluate(SIDEWAYS) == 0


def test_without_scripts_everything_still_works(browser: Browser, site: Site) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        enter(page, site)
        page.get_by_role("searchbox").fill("p12")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".people tbody tr")).to_have_count(10)
        page.get_by_role("link", name="7 days").click()
        expect(page).to_have_url(f"{site.server.url}/admin?days=7&q=p12")
        page.get_by_role("searchbox").fill("p120@")
        page.get_by_role("button", name="Search").click()
        expect(page).to_have_url(re.compile("days=7"))
        page.locator(".people tbody a").click()
        page.get_by_label("Cost in dollars").fill("0.1")
        page.get_by_role("button", name="Set the cost").click()
        page.get_by_role("button", name="Set the cost").click()
        expect(page.get_by_role("status")).to_contain_text("The cost was set")
