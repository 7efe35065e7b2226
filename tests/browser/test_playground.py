"""The playground in a real browser: chatting, stopping, changing one's mind, and whatever a hostile model may write."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.conftest import Script, Site, running
from e2e.server import Caller
from fake_provider import Gate
from playwright.sync_api import Browser, Locator, Page, expect

from aipipe.local_model import unavailable_reason
from aipipe.money import show

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
LIST = {"data": [{"id": name} for name in ("small", "smaller", "unpriced", "text-embedding-3-small")]}
PRICES = {f"openai/{name}": {"input_mtok": 1, "output_mtok": 2} for name in ("small", "smaller")}
LOCAL = {"local/smollm2-135m": {"input_mtok": 0.1, "output_mtok": 0.4}}
USAGE = {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17}
COST = "$0.00002"
WIDTHS = (360, 390, 768, 1440)
FITS = (
    "() => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
)
SIZES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map((entry) => entry.decodedBodySize)"""
AT_END = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 2"
ON_TOP = """selector => {
  const element = document.querySelector(selector), { x, y } = element.getBoundingClientRect();
  return document.elementFromPoint(x + 20, y + 8) === element;
}"""
ENDLESS = "Write the word yes two thousand times."  # which the local model, at temperature 0, doesn't end
HOSTILE = """# <script>hacked()</script>

<img src=x onerror="hacked()"> ![pixel](https://evil.example.com/pixel.png) <svg onload="hacked()">

[click](javascript:hacked()) [inside](/logout) [out](https://evil.example.com)

<style>*{display:none}</style><iframe src="javascript:parent.hacked()"></iframe>

| <b onmouseover="hacked()">a</b> | b |
|--:|---|
| 1 | [x](data:text/html,<script>hacked()</script>) |

```html"><script>hacked()</script>
</code></pre><img src=x onerror="hacked()">
```
"""


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """AI Pipe with developer sign-in, a scripted `openai`, and the local model if there is one."""
    folder = tmp_path_factory.mktemp("playground")
    settings = {"AIPIPE_PRICES": {**PRICES, **LOCAL}, "WEB_CONCURRENCY": "1"}
    with running(folder, command="dev", **settings) as site:
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    yield module_site
    module_site.check()


@pytest.fixture
def quiet(page: Page, site: Site) -> Iterator[Page]:
    """A page that asks nobody but us, and whose console stays empty."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert not said
    assert [url for url in asked if not url.startswith(f"{site.server.url}/")] == []


@pytest.fixture
def chat(quiet: Page, site: Site, provider: Script, alice: Caller) -> Page:
    """The playground, for Alice."""
    enter(quiet, site, provider, alice.email)
    return quiet


def enter(page: Page, site: Site, provider: Script, email: str) -> None:
    provider.answers("GET", "/v1/models", json=LIST, times=None)
    page.goto(f"{site.server.url}/login?next=/playground")
    page.get_by_label("Email").fill(email)
    page.get_by_role("button", name="Sign in").click()
    choose(page, "openai / small")


def choose(page: Page, name: str) -> None:
    expect(page.locator("#model-name")).to_contain_text(" / ")
    page.locator("#model").click()
    page.get_by_role("combobox").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#model-name")).to_have_text(name)


def chunks(*texts: str | Gate, number: int = 1) -> list[dict[str, Any] | str | Gate]:
    answer = f"chatcmpl-{number}"
    said = [
        text if isinstance(text, Gate) else {"id": answer, "choices": [{"index": 0, "delta": {"content": text}}]}
        for text in texts
    ]
    return [*said, {"id": answer, "choices": [], "usage": USAGE}, "[DONE]"]


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def answers(page: Page) -> Locator:
    return page.locator(".turn.assistant")


def test_an_answer_streams_then_becomes_html_and_shows_what_the_ledger_says(
    chat: Page, site: Site, provider: Script, alice: Caller
) -> None:
    provider.answers("POST", CHAT, sse=chunks("It is ", Gate("half"), "**4**.\n\n```\n2 + 2\n```"))
    say(chat, "What is 2 + 2?")
    provider.reached("half")
    said = answers(chat).locator(".said")
    expect(said).to_have_text("It is ")
    expect(said).to_have_attribute("aria-live", "off")
    provider.release("half")
    expect(said.locator("strong")).to_have_text("4")
    expect(said.locator("pre code")).to_have_text("2 + 2\n")
    assert said.get_attribute("aria-live") is None
    entry = site.server.entry(alice)
    assert (entry.app, f"${show(entry.cost)}") == ("playground", COST)
    expect(answers(chat).locator(".cost")).to_have_text(COST)
    expect(answers(chat).locator(".facts")).to_have_text("small · 14 in, 3 out")
    expect(chat.locator("#left")).to_have_text("$0.09998")
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()
    chat.goto(f"{site.server.url}/usage")
    expect(chat.locator("body")).to_contain_text(COST)


def test_from_the_first_page_three_clicks_lead_to_an_answer(
    quiet: Page, site: Site, provider: Script, alice: Caller
) -> None:
    provider.answers("GET", "/v1/models", json=LIST, times=None)
    quiet.goto(site.server.url)
    quiet.get_by_role("button", name="Try the playground").click()
    quiet.get_by_label("Email").fill(alice.email)
    quiet.get_by_role("button", name="Sign in").click()
    choose(quiet, "openai / small")  # the one that is chosen already may think for long
    provider.answers("POST", CHAT, sse=chunks("Money that grows."))
    quiet.get_by_role("button", name="Explain compound interest").click()
    expect(answers(quiet)).to_contain_text("Money that grows.")


def half_told(chat: Page, provider: Script) -> None:
    """A story that the provider doesn't go on with."""
    provider.answers("POST", CHAT, sse=chunks("Once *upon*", Gate("never"), " a time"))
    say(chat, "Tell me a story")
    expect(answers(chat)).to_contain_text("Once *upon*")


def test_stopping_hangs_up_keeps_what_was_written_and_tells_its_cost(
    chat: Page, site: Site, provider: Script, alice: Caller
) -> None:
    half_told(chat, provider)
    chat.get_by_role("button", name="Stop").click()
    provider.closed.wait()
    expect(answers(chat).locator("em")).to_have_text("upon")
    entry = site.server.entry(alice)
    assert entry.ended == "partial"
    expect(answers(chat).locator(".facts")).to_contain_text("stopped")
    expect(answers(chat).locator(".cost")).to_have_attribute("title", f"${show(entry.cost)}")
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()


def test_a_conversation_survives_leaving_the_page_and_is_its_owners_alone(
    chat: Page, site: Site, provider: Script, alice: Caller
) -> None:
    hacked: list[str] = []
    chat.expose_function("hacked", lambda: hacked.append("yes"))
    chat.get_by_text("Settings").click()
    chat.get_by_label("System prompt").fill("Be brief.")
    for number, text in enumerate(("It is **4**.", HOSTILE)):
        provider.answers("POST", CHAT, sse=chunks(text, number=number))
        say(chat, f"Question {number}")
        expect(answers(chat).nth(number).locator(".cost")).not_to_be_empty()
    before = chat.locator("#log").inner_html()
    chat.get_by_role("link", name="Usage").click()
    chat.go_back()
    expect(answers(chat).locator(".said strong")).to_have_text("4")
    chat.reload()
    expect(answers(chat).locator(".said strong")).to_have_text("4")
    assert chat.locator("#log").inner_html() == before
    expect(chat.get_by_label("System prompt")).to_have_value("Be brief.")
    assert "<" not in chat.evaluate("sessionStorage.getItem('playground.talk')").replace(json.dumps(HOSTILE)[1:-1], "")
    choose(chat, "openai / small")
    provider.answers("POST", CHAT, sse=chunks("Sure.", number=3))
    say(chat, "Sure?")
    expect(answers(chat).nth(2).locator(".cost")).not_to_be_empty()
    assert len(json.loads(provider.requests[-1].body)["messages"]) == 6
    assert hacked == []
    chat.context.clear_cookies()
    enter(chat, site, provider, site.server.caller("bob@example.com").email)
    expect(chat.locator(".turn")).to_have_count(0)
    assert chat.evaluate("sessionStorage.length") == 0


def test_a_conversation_goes_with_new_and_with_signing_out(
    page: Page, site: Site, provider: Script, alice: Caller
) -> None:
    """Not `quiet`: browsers remark on the account page that a token is no password."""
    chat = page
    enter(chat, site, provider, alice.email)
    for end in ("New", "Sign out"):
        provider.answers("POST", CHAT, sse=chunks("Hi"))
        say(chat, "Hello")
        expect(answers(chat).locator(".cost")).not_to_be_empty()
        assert chat.evaluate("sessionStorage.length") == 1
        chat.once("dialog", lambda dialog: dialog.accept())
        if end == "Sign out":
            chat.goto(f"{site.server.url}/login")
        chat.get_by_role("button", name=end).click()
        if end == "Sign out":
            expect(chat.get_by_role("button", name="Get your token")).to_be_visible()
        assert chat.evaluate("sessionStorage.length") == 0


def test_who_leaves_in_mid_answer_finds_its_beginning_and_its_cost(
    chat: Page, site: Site, provider: Script, alice: Caller
) -> None:
    half_told(chat, provider)
    chat.goto(f"{site.server.url}/docs")
    provider.closed.wait()
    entry = site.server.entry(alice)
    chat.goto(f"{site.server.url}/playground")
    expect(answers(chat).locator("em")).to_have_text("upon")
    expect(answers(chat).locator(".facts")).to_contain_text("broken off")
    expect(answers(chat).locator(".cost")).to_have_attribute("title", f"${show(entry.cost)}")


def test_who_leaves_before_an_answer_may_ask_again(chat: Page, site: Site, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=[Gate("never"), *chunks("Too late")])
    say(chat, "Hello")
    provider.reached("never")
    chat.goto(f"{site.server.url}/docs")
    provider.closed.wait()
    chat.goto(f"{site.server.url}/playground")
    expect(chat.get_by_role("alert")).to_contain_text("You left this page before the answer came.")
    expect(chat.locator("#model-name")).to_contain_text(" / ")
    provider.answers("POST", CHAT, sse=chunks("Hi"))
    chat.get_by_role("button", name="Try again").click()
    expect(answers(chat)).to_contain_text("Hi")


FENCES = [
    ("Look:\n\n```py\nif a < b:\n  c()\n```\n\nDone.", ["Look:", "if a < b:\n  c()\n", "Done."]),
    ("1. so:\n   ~~~\n   ```\n   ~~~~\nthen", ["1. so:", "   ```\n", "then"]),
    ("````\n```\nx\n```\n````\n", ["", "```\nx\n```\n", ""]),
    ("Use ```a``` or\n```b``` here", ["Use ```a``` or\n```b``` here"]),
    ("a\r\n```\r\nb\r\n", ["a", "b\r\n"]),
    ("<b>x</b>\n```html\n<img src=x onerror=hacked()>", ["<b>x</b>", "<img src=x onerror=hacked()>"]),
]


@pytest.mark.parametrize(("text", "shown"), FENCES)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_code_looks_like_code_while_it_streams(chat: Page, text: str, shown: list[str], step: int) -> None:
    """However an answer is cut into pieces."""
    draw = """([text, step]) => {
      const said = document.createElement("div");
      for (let end = step; end < text.length + step; end += step) draft(said, text.slice(0, end));
      return [...said.children].map((place) => [place.tagName, (place.querySelector("code") ?? place).textContent]);
    }"""
    found = chat.evaluate(draw, [text, step])
    assert [part.strip("\r") for _, part in found[::2]] == shown[::2]
    assert [part for _, part in found[1::2]] == shown[1::2]
    assert [tag for tag, _ in found] == (["DIV", "PRE"] * len(found))[: len(found)]


def test_code_that_streams_has_its_look_before_its_fence_is_closed(chat: Page, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=chunks("Run\n\n```sh\nls", Gate("half"), " -l\n```\n"))
    say(chat, "How?")
    provider.reached("half")
    code = answers(chat).locator("pre code")
    expect(code).to_have_text("ls")
    before = code.bounding_box()
    assert "monospace" in code.evaluate("code => getComputedStyle(code).fontFamily")
    provider.release("half")
    expect(answers(chat).locator(".cost")).not_to_be_empty()
    assert code.bounding_box() == before


def test_an_earlier_message_is_changed_and_what_followed_is_gone(chat: Page, provider: Script) -> None:
    for number, text in enumerate(("Four", "Six", "Nine")):
        provider.answers("POST", CHAT, sse=chunks(text, number=number))
    say(chat, "2 + 2?")
    expect(answers(chat)).to_have_count(1)
    expect(answers(chat).locator(".cost")).not_to_be_empty()
    say(chat, "3 + 3?")
    expect(answers(chat).locator(".cost").nth(1)).not_to_be_empty()
    chat.get_by_role("button", name="Edit").first.click()
    prompt = chat.get_by_label("Message", exact=True)
    expect(prompt).to_have_value("2 + 2?")
    chat.keyboard.press("Escape")
    expect(prompt).to_have_value("")
    expect(chat.locator(".goes")).to_have_count(0)
    chat.get_by_role("button", name="Edit").nth(1).click()
    say(chat, "4 + 5?")
    expect(answers(chat).nth(1)).to_contain_text("Nine")
    expect(chat.locator(".turn.user")).to_have_text(["2 + 2?Edit", "4 + 5?Edit"])
    sent = [json.loads(one.body) for one in provider.requests if one.method == "POST"]
    assert sent[2]["messages"] == [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "Four"},
        {"role": "user", "content": "4 + 5?"},
    ]
    chat.once("dialog", lambda dialog: dialog.accept())
    chat.get_by_role("button", name="New").click()
    expect(chat.locator(".turn")).to_have_count(0)
    expect(chat.get_by_text("What shall we try?")).to_be_visible()


def test_hostile_answers_and_questions_stay_inert(chat: Page, provider: Script) -> None:
    hacked: list[str] = []
    chat.expose_function("hacked", lambda: hacked.append("yes"))
    provider.answers("POST", CHAT, sse=chunks(HOSTILE[:40], Gate("half"), HOSTILE[40:]))
    say(chat, "<img src=x onerror=hacked()>")
    provider.reached("half")
    provider.release("half")
    expect(answers(chat).locator(".cost")).not_to_be_empty()
    links = answers(chat).locator("a[href]")
    expect(links).to_have_count(2)
    for index in range(2):
        expect(links.nth(index)).to_have_attribute("rel", "noopener noreferrer nofollow")
        assert str(links.nth(index).get_attribute("href")).startswith("https://evil.example.com")
    answers(chat).locator("th").first.hover()
    answers(chat).get_by_text("inside", exact=True).click()
    expect(chat.locator("#log :is(script, style, img, svg, iframe, form, input)")).to_have_count(0)
    expect(chat.locator(".turn.user .said")).to_have_text("<img src=x onerror=hacked()>")
    expect(answers(chat).locator("td.right")).to_have_text("1")
    assert hacked == []
    assert chat.url.endswith("/playground")


def test_what_goes_wrong_is_told_in_place_and_can_be_tried_again(
    page: Page, site: Site, provider: Script, alice: Caller
) -> None:
    """Not `quiet`: browsers write failed requests to the console."""
    enter(page, site, provider, alice.email)
    provider.answers("POST", CHAT, status=200, json={"choices": []})
    say(page, "Hello")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("openai sent an answer that the playground can't show.")
    expect(answers(page)).to_have_count(0)
    provider.answers("POST", CHAT, sse=chunks("Hi"))
    page.get_by_role("button", name="Try again").click()
    expect(answers(page)).to_contain_text("Hi")
    expect(problem).to_have_count(0)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_refusal_is_told_in_plain_words(page: Page, site: Site, provider: Script, alice: Caller, status: int) -> None:
    enter(page, site, provider, alice.email)
    provider.answers("POST", CHAT, status=status, json={"error": {"message": "Too <b>much</b>."}})
    say(page, "Hello")
    expect(page.get_by_role("alert")).to_contain_text(f"openai refused this ({status}). Too <b>much</b>.")


def test_without_money_or_session_one_is_told_what_to_do(page: Page, site: Site, provider: Script) -> None:
    enter(page, site, provider, "charlie@example.org")
    say(page, "Hello")
    expect(page.get_by_role("alert")).to_contain_text("AI Pipe has no budget for you.")
    page.context.clear_cookies()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("You are not signed in any more.")
    expect(page.get_by_role("alert").get_by_role("link", name="Sign in again")).to_be_visible()


def test_without_models_there_is_nothing_to_press(page: Page, site: Site, provider: Script, alice: Caller) -> None:
    """Not `quiet`: this failure is on the console."""
    page.route("**/playground/models", lambda route: route.fulfill(json={}))
    provider.answers("GET", "/v1/models", json=LIST, times=None)
    page.goto(f"{site.server.url}/login?next=/playground")
    page.get_by_label("Email").fill(alice.email)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("No provider here has models to talk with")
    for name in ("No models", "As code", "Send", "Explain compound interest"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()


def test_a_model_is_found_by_typing_and_remembered(chat: Page, provider: Script) -> None:
    chat.locator("#model").focus()
    chat.keyboard.press("Enter")
    search = chat.get_by_role("combobox")
    expect(search).to_be_focused()
    expect(chat.get_by_role("option", name="unpriced")).to_have_count(0)
    search.fill("OPEN small")
    options = chat.get_by_role("option")
    expect(options).to_have_text(["small $1.00 / $2.00", "smaller $1.00 / $2.00"])
    assert chat.evaluate(ON_TOP, "#options [role=group]:not([hidden]) > .group")
    chat.keyboard.press("ArrowDown")
    expect(search).to_have_attribute("aria-activedescendant", str(options.nth(1).get_attribute("id")))
    chat.keyboard.press("Enter")
    expect(chat.locator("#model-name")).to_have_text("openai / smaller")
    expect(chat.locator("#model")).to_be_focused()
    chat.reload()
    expect(chat.locator("#model-name")).to_have_text("openai / smaller")
    chat.locator("#model").click()
    search.fill("nothing of the kind")
    expect(chat.get_by_text("No model here is called that.")).to_be_visible()
    chat.keyboard.press("Escape")
    expect(search).not_to_be_visible()


def test_settings_go_along_and_the_conversation_is_there_as_code(chat: Page, site: Site, provider: Script) -> None:
    chat.get_by_text("Settings").click()
    chat.get_by_label("System prompt").fill("Be brief.")
    chat.get_by_label("Temperature").fill("0.5")
    chat.get_by_label("Max tokens").fill("40")
    provider.answers("POST", CHAT, sse=chunks("Hi"))
    say(chat, "Hello")
    expect(answers(chat).locator(".cost")).not_to_be_empty()
    sent = json.loads(provider.requests[-1].body)
    assert (sent["temperature"], sent["max_completion_tokens"]) == (0.5, 40)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    chat.get_by_role("button", name="As code").click()
    code = chat.locator("#snippets [data-code=curl]")
    expect(code).to_contain_text(f"{site.server.url}/openai/v1/chat/completions")
    expect(code).to_contain_text("Be brief.")
    expect(code).to_contain_text("your-token")
    chat.get_by_text("JavaScript", exact=True).click()
    expect(chat.locator("#snippets [data-code=javascript]")).to_contain_text("await fetch(")
    expect(code).not_to_be_visible()


def test_code_is_copied_with_a_token_that_works_and_shown_without(chat: Page, site: Site, provider: Script) -> None:
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.get_by_label("Message", exact=True).fill("What is Bearer your-token?")
    chat.get_by_role("button", name="As code").click()
    for name in ("curl", "Python", "JavaScript"):
        if name != "curl":
            chat.get_by_text(name, exact=True).click()
        shown = chat.locator("#snippets details[open]")
        expect(shown.locator("code")).to_contain_text("Bearer your-token")
        shown.get_by_role("button", name="Copy").click()
        expect(shown.get_by_role("button", name="Copied")).to_be_visible()
        copied = chat.evaluate("navigator.clipboard.readText()")
        [token] = re.findall(r"Bearer (eyJ[\w.-]+)", copied)
        site.server.secrets.add(token)
        assert copied.count("What is Bearer your-token?") == 1
        with urllib.request.urlopen(
            urllib.request.Request(f"{site.server.url}/usage", headers={"Authorization": token})
        ) as answer:
            assert answer.status == 200
    assert "eyJ" not in chat.content()


def test_the_keyboard_does_everything(chat: Page, provider: Script) -> None:
    provider.answers("POST", CHAT, sse=chunks("One", Gate("never")))
    prompt = chat.get_by_label("Message", exact=True)
    prompt.focus()
    chat.keyboard.type("a")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("b")
    expect(prompt).to_have_value("a\nb")
    chat.keyboard.press("Tab")
    chat.keyboard.press("Space")
    expect(answers(chat)).to_contain_text("One")
    expect(prompt).to_be_focused()
    chat.keyboard.press("Tab")
    expect(chat.get_by_role("button", name="Stop")).to_be_focused()
    chat.keyboard.press("Enter")
    expect(prompt).to_be_focused()
    expect(answers(chat).locator(".facts")).to_contain_text("stopped")
    provider.closed.wait()


def test_the_log_follows_the_answer_only_for_those_who_are_at_its_end(chat: Page, provider: Script) -> None:
    lines = "line\n\n" * 60
    provider.answers("POST", CHAT, sse=chunks(lines, Gate("half"), lines, Gate("rest"), lines))
    log = chat.get_by_role("log")
    say(chat, "Hello")
    provider.reached("half")
    expect(answers(chat)).to_contain_text("line")
    assert log.evaluate(AT_END)
    provider.release("half")
    provider.reached("rest")
    expect(answers(chat).locator(".said")).to_have_text(lines * 2)
    assert log.evaluate(AT_END)
    log.evaluate("log => (log.scrollTop = 0)")
    provider.release("rest")
    expect(answers(chat).locator(".cost")).not_to_be_empty()
    assert log.evaluate("log => log.scrollTop") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_any_width(chat: Page, provider: Script, scheme: str) -> None:
    chat.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    wide = "x" * 300
    table = "|" + " wide column |" * 12 + "\n|" + "-|" * 12 + "\n|" + " cell |" * 12
    provider.answers("POST", CHAT, sse=chunks(f"{wide}\n\n```\n{wide}\n```\n\n{table}"))
    say(chat, wide)
    expect(answers(chat).locator("table")).to_be_visible()
    for width in WIDTHS:
        chat.set_viewport_size({"width": width, "height": 740})
        assert chat.evaluate(FITS), width
        for button, dialog in (("#model", "#models"), ("#code", "#snippets")):
            chat.locator(button).click()
            expect(chat.locator(dialog)).to_be_visible()
            assert chat.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (width, dialog)
            chat.keyboard.press("Escape")


def test_it_weighs_less_than_150_kilobytes(page: Page, site: Site, provider: Script, alice: Caller) -> None:
    enter(page, site, provider, alice.email)
    page.goto(f"{site.server.url}/playground")
    expect(page.locator("#model-name")).to_contain_text("small")
    sizes = page.evaluate(SIZES)
    assert len(sizes) >= 8
    assert sum(sizes) < 150_000


def test_without_javascript_it_says_that_it_needs_it(
    browser: Browser, site: Site, provider: Script, alice: Caller
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site.server.url}/login?next=/playground")
        page.get_by_label("Email").fill(alice.email)
        page.get_by_role("button", name="Sign in").click()
        # The browser shows it only where its user turned scripts off, which no test can.
        assert "The playground needs JavaScript" in page.content()
        expect(page.get_by_label("Message", exact=True)).not_to_be_visible()


@pytest.mark.skipif(unavailable_reason() is not None, reason="no local model")
def test_the_local_model_streams_and_is_stopped(chat: Page, site: Site, alice: Caller) -> None:
    choose(chat, "local / smollm2-135m")
    chat.get_by_text("Settings").click()
    chat.get_by_label("Temperature").fill("0")
    chat.get_by_label("Max tokens").fill("8")
    cost, facts = answers(chat).locator(".cost"), answers(chat).locator(".facts")
    say(chat, ENDLESS)
    expect(cost).not_to_be_empty(timeout=60_000)
    [entry] = site.server.ledger.entries(alice.email)
    assert (entry.ended, entry.provider, entry.app) == ("complete", "local", "playground")
    expect(cost).to_have_attribute("title", f"${show(entry.cost)}")
    expect(facts).to_contain_text(f"{entry.input_tokens} in, {entry.output_tokens} out")
    expect(facts).to_contain_text("cut off at its limit of tokens")
    chat.get_by_label("Max tokens").fill("")
    chat.get_by_role("button", name="Edit").click()
    say(chat, ENDLESS)
    expect(answers(chat).locator(".said")).to_contain_text("Yes", timeout=60_000)
    chat.get_by_role("button", name="Stop").click()
    expect(facts).to_contain_text("stopped")
    expect(cost).not_to_be_empty()
    latest = site.server.ledger.entries(alice.email)[0]
    assert latest.ended == "partial"
    expect(cost).to_have_attribute("title", f"${show(latest.cost)}")
