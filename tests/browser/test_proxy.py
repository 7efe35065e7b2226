"""/proxy on the real server, for a real browser: a page of any origin may read what comes, and it can do nothing."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from e2e.conftest import Script
from e2e.server import HOST, Server
from fake_provider import Gate
from playwright.sync_api import Page
from wire import chunk, head

from browser.pages import Pages

pytestmark = pytest.mark.e2e

SECONDS = 1.5  # for a whole fetch, here
HOSTILE = """<!doctype html><title>before</title><body><script>
  document.title = "ran";
  localStorage.setItem("aipipe", "stolen");
  fetch("/usage");
</script><img src=x onerror="document.title = 'ran'"></body>"""
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg"><title>before</title><script>
  document.querySelector("title").textContent = "ran";
</script></svg>"""


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Script]]:
    """`aipipe dev` whose /proxy may reach loopback, and a site to fetch from."""
    with Script() as site:
        settings = {
            "AIPIPE_PROXY": {"ports": ["1-65535"], "timeout": SECONDS, "per_minute": 1_000},
            "AIPIPE_UNSAFE_LOOPBACK": "on",
            "AIPIPE_PROVIDERS__local__base": "http://127.0.0.1:9",  # nobody
        }
        server = Server(tmp_path_factory.mktemp("proxy"), "dev", **settings)
        server.start()
        try:
            yield server, site
        finally:
            server.stop()


@pytest.fixture
def server(module_site: tuple[Server, Script]) -> Server:
    return module_site[0]


@pytest.fixture
def site(module_site: tuple[Server, Script]) -> Iterator[Script]:
    yield module_site[1]
    module_site[1].check()


def call(server: Server, url: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=10)) as connection:
        connection.request("GET", f"/proxy/{url}")
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_url_is_fetched(server: Server, site: Script) -> None:
    site.answers("GET", "/get", json={"x": 1})
    assert call(server, f"{site.url}/get?x=1") == (200, b'{"x": 1}')
    assert site.requests[-1].target == "/get?x=1"


def test_a_name_is_looked_up(server: Server, site: Script) -> None:
    site.answers("GET", "/", body=b"here")
    assert call(server, site.url.replace(HOST, "localhost")) == (200, b"here")


def test_a_site_that_takes_too_long_is_a_504(server: Server, site: Script) -> None:
    site.answers("GET", "/", steps=[head(200, {})[:-2], Gate("slow")])
    status, body = call(server, site.url)
    assert (status, json.loads(body)["message"]) == (
        504,
        f"Requests timeout after {SECONDS} seconds: {HOST} took longer.",
    )


def test_an_answer_that_takes_too_long_is_cut(server: Server, site: Script) -> None:
    site.answers("GET", "/", steps=[head(200, {"Transfer-Encoding": "chunked"}), chunk(b"drip"), Gate("slower")])
    with pytest.raises(http.client.IncompleteRead) as cut:
        call(server, site.url)
    assert cut.value.partial == b"drip"


def test_a_client_that_leaves_is_noticed_while_the_site_is_silent(server: Server, site: Script) -> None:
    steps = [head(200, {"Transfer-Encoding": "chunked"}), chunk(b"one"), Gate("silent")]
    site.answers("GET", "/", steps=steps)
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=10)) as connection:
        connection.request("GET", f"/proxy/{site.url}/")
        answer = connection.getresponse()
        assert answer.read1() == b"one"
        answer.close()
    site.closed.wait(SECONDS * 0.8)


def test_a_client_that_leaves_is_noticed_before_the_site_has_answered_at_all(server: Server, site: Script) -> None:
    site.answers("GET", "/", steps=[Gate("silent")])
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=10)) as connection:
        connection.request("GET", f"/proxy/{site.url}/")
        site.reached("silent")
    site.closed.wait(SECONDS * 0.8)


def test_a_page_of_another_origin_may_read_what_a_redirect_leads_to(
    server: Server, site: Script, app: Pages, page: Page
) -> None:
    site.answers("PUT", "/old", status=307, headers={"Location": "/new?b"})
    site.answers("PUT", "/new", json={"found": True}, headers={"X-Theirs": "1"})
    app.pages["/"] = "<title>An app</title>"
    page.goto(f"{app.origin}/")
    found = page.evaluate(
        """async (url) => {
          const answer = await fetch(url, { method: "PUT", body: "b", headers: { "X-Mine": "1" } });
          return [await answer.json(), answer.headers.get("x-theirs"), answer.headers.get("x-proxy-url")];
        }""",
        f"{server.url}/proxy/{site.url}/old?a",
    )
    assert found == [{"found": True}, "1", f"{site.url}/new?b"]
    assert [(one.target, one.body, one.header("X-Mine")) for one in site.requests] == [
        ("/old?a", b"b", "1"),
        ("/new?b", b"b", "1"),
    ]


@pytest.mark.parametrize(("kind", "content"), [("text/html", HOSTILE), ("image/svg+xml", PICTURE)])
def test_a_page_of_a_stranger_runs_nothing_on_our_origin(
    server: Server, site: Script, page: Page, kind: str, content: str
) -> None:
    site.answers("GET", "/", headers={"Content-Type": kind}, body=content.encode())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/proxy/{site.url}/")
    assert page.evaluate("document.querySelector('title').textContent") == "before"
    assert [url for url in asked if url.endswith("/usage")] == []
    assert [one.target for one in site.requests] == ["/"]
    page.goto(f"{server.url}/")
    assert page.evaluate("localStorage.getItem('aipipe')") is None


# What a script in a stranger's page would try, were it allowed to run. A page of ours can do all of it.
THEFTS = {
    "cookies": "document.cookie",
    "what is stored": "localStorage.getItem('aipipe')",
    "what is stored for a visit": "sessionStorage.length",
    "the page with the token": "fetch('/login', {credentials: 'include'}).then((answer) => answer.text())",
    "what was spent": "fetch('/usage', {credentials: 'include'}).then((answer) => answer.text())",
    "the end of the session": "fetch('/logout', {method: 'POST', credentials: 'include'})",
}


def attempts(page: Page) -> dict[str, str]:
    """What becomes of each theft on the page that is open."""
    code = "(async () => { try { await %s; return 'got' } catch (error) { return 'refused' } })()"
    return {what: page.evaluate(code % theft) for what, theft in THEFTS.items()}


@pytest.mark.parametrize(("kind", "content"), [("text/html", HOSTILE), ("image/svg+xml", PICTURE)])
def test_a_page_of_a_stranger_gets_nothing_of_who_is_signed_in(
    server: Server, site: Script, page: Page, kind: str, content: str
) -> None:
    page.goto(f"{server.url}/login")
    page.get_by_role("textbox").fill("alice@example.com")
    page.get_by_role("textbox").press("Enter")
    page.get_by_text("Signed in as").wait_for()
    page.evaluate("localStorage.setItem('aipipe', 'a token')")
    site.answers("GET", "/", headers={"Content-Type": kind}, body=content.encode())
    page.goto(f"{server.url}/proxy/{site.url}/")
    assert page.evaluate("self.origin") == "null"
    assert set(attempts(page).values()) == {"refused"}
    assert [one.header("Cookie") for one in site.requests] == [None]
    page.goto(f"{server.url}/usage")
    assert page.get_by_role("heading").first.is_visible()
    assert page.evaluate("localStorage.getItem('aipipe')") == "a token"
    assert set(attempts(page).values()) == {"got"}


def test_a_page_of_a_stranger_is_not_shown_within_another(server: Server, site: Script, app: Pages, page: Page) -> None:
    site.answers("GET", "/", headers={"Content-Type": "text/html"}, body=b"<title>framed</title>", times=2)
    url = f"{server.url}/proxy/{site.url}/"
    app.pages["/"] = f'<title>An app</title><iframe src="{url}"></iframe><object data="{url}"></object>'
    page.goto(f"{app.origin}/")
    page.wait_for_load_state("networkidle")
    assert all(frame.title() != "framed" for frame in page.frames)


@pytest.mark.parametrize("part", ["script src", "img src", "link rel=stylesheet href", "object data"])
def test_nothing_of_a_stranger_becomes_a_part_of_a_page_of_ours(
    server: Server, site: Script, page: Page, part: str
) -> None:
    page.goto(f"{server.url}/healthz")
    found = page.evaluate(
        """([tag, ...attributes]) => new Promise((resolve) => {
          const part = document.createElement(tag);
          part.onload = () => resolve("loaded");
          part.onerror = () => resolve("refused");
          for (const text of attributes) part.setAttribute(...text.split("=", 2));
          document.documentElement.append(part);
        })""",
        f"{part}=/proxy/{site.url}/part".split(),
    )
    assert found == "refused"
    assert site.requests == []
