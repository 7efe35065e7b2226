"""The playground's server side: it streams and charges as the API does, and lets nothing hostile into the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from fake_provider import DROP, FakeProvider, Gate
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from aipipe import markdown
from aipipe.catalog import chats, name_of
from aipipe.kept import Kept
from aipipe.snippets import snippets

ALICE = "alice@example.com"
OURS = {"Sec-Fetch-Site": "same-origin"}
PAGE = {"Accept": "text/html"}
CHAT = "/v1/chat/completions"
NANO = "gpt-4.1-nano"  # 100 nanodollars a token in, 400 out
HELLO = {"provider": "openai", "model": NANO, "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17}
COST = 14 * 100 + 3 * 400


OPENAI_ALONE = {"OPENROUTER_API_KEY": None, "ANTHROPIC_API_KEY": None, "GEMINI_API_KEY": None}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(dev=True)


@pytest.fixture
def alice(app: Flask) -> FlaskClient:
    return signed_in(app, ALICE)


def signed_in(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    assert client.post("/login", data={"email": email}).status_code == 303
    return client


def chunks(*texts: str, finish: str = "stop") -> list[dict[str, Any] | str]:
    """What OpenAI streams: https://platform.openai.com/docs/api-reference/chat-streaming."""
    said = [{"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    end = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return [*said, end, {"id": "chatcmpl-1", "choices": [], "usage": USAGE}, "[DONE]"]


def events(answer: TestResponse) -> tuple[str, dict[str, Any]]:
    """The text that was streamed, and what the page is told at the end."""
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/event-stream"
    *pieces, last = [event.removeprefix("data: ") for event in answer.text.strip().split("\n\n")]
    assert last.startswith("event: aipipe\ndata: ")
    return "".join(json.loads(piece)["text"] for piece in pieces), json.loads(last.partition("data: ")[2])


def entries(app: Flask, email: str = ALICE) -> list[Any]:
    ledger = app.extensions["aipipe"].ledger
    assert ledger.balanced()
    assert not ledger.holds()
    return list(ledger.entries(email))


# Talking


def test_an_answer_streams_is_charged_and_becomes_html(app: Flask, alice: FlaskClient, provider: FakeProvider) -> None:
    provider.answers("POST", CHAT, sse=chunks("It is ", "**4**", "."))
    text, end = events(alice.post("/playground/chat", json=HELLO))
    assert text == "It is **4**."
    [entry] = entries(app)
    assert (entry.app, entry.cost, entry.ended) == ("playground", COST, "complete")
    assert end == {
        "html": "<p>It is <strong>4</strong>.</p>\n",
        "cut": False,
        "error": "",
        "cost": {"shown": "$0.000003", "exact": "$0.0000026"},
        "remaining": {"shown": "$0.099997", "exact": "$0.0999974"},
        "input_tokens": 14,
        "output_tokens": 3,
        "ended": "complete",
    }
    assert "$0.099997" in alice.get("/playground", headers=PAGE).text


def test_what_was_set_goes_to_the_model_and_nothing_else(alice: FlaskClient, provider: FakeProvider) -> None:
    provider.answers("POST", CHAT, sse=chunks("4", finish="length"))
    asked = {**HELLO, "system": " Be brief. ", "temperature": 0, "max_tokens": 20, "tools": [{"type": "function"}]}
    asked["messages"] = [
        {"role": "user", "content": "2 + 2?", "name": "x"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
    ]
    _, end = events(alice.post("/playground/chat", json=asked))
    assert end["cut"]
    [request] = provider.requests
    sent = json.loads(request.body)
    assert sent == {
        "model": NANO,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "Sure?"},
        ],
        "temperature": 0,
        "max_completion_tokens": 20,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.header("Authorization") == "Bearer sk-operator-openai"
    assert request.header("Cookie") is None


def test_anthropics_format_is_spoken_where_there_is_no_other(make_app: MakeApp, provider: FakeProvider) -> None:
    app = make_app(dev=True, AIPIPE_PROVIDERS__anthropic__base=provider.url, ANTHROPIC_API_KEY="sk-ant-operator")
    start = {"id": "msg_1", "usage": {"input_tokens": 10, "output_tokens": 1}}
    provider.answers(
        "POST",
        "/v1/messages",
        sse=[
            {"type": "message_start", "message": start},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ],
    )
    asked = {**HELLO, "provider": "anthropic", "model": "claude-3-5-haiku-20241022", "system": "Be brief."}
    text, end = events(signed_in(app, ALICE).post("/playground/chat", json=asked))
    assert (text, end["cut"], end["output_tokens"]) == ("Hi", True, 2)
    [request] = provider.requests
    sent = json.loads(request.body)
    assert (sent["system"], sent["messages"], sent["max_tokens"]) == ("Be brief.", HELLO["messages"], 4096)
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("x-api-key") == "sk-ant-operator"


def test_gemini_is_talked_with_in_openais_format(alice: FlaskClient, provider: FakeProvider) -> None:
    provider.answers("POST", "/v1beta/openai/chat/completions", sse=chunks("Hi"))
    asked = {**HELLO, "provider": "geminiv1beta", "model": "gemini-2.0-flash", "system": "Be brief.", "max_tokens": 9}
    text, end = events(alice.post("/playground/chat", json=asked))
    assert (text, end["input_tokens"], end["output_tokens"]) == ("Hi", 14, 3)
    [request] = provider.requests
    assert json.loads(request.body)["messages"][0] == {"role": "system", "content": "Be brief."}
    assert request.header("x-goog-api-key")


def test_an_answer_that_breaks_off_is_charged_and_says_so(
    app: Flask, alice: FlaskClient, provider: FakeProvider
) -> None:
    provider.answers("POST", CHAT, sse=[*chunks("Once", " upon")[:2], DROP])
    text, end = events(alice.post("/playground/chat", json=HELLO))
    assert text == "Once upon"
    assert "broke off" in end["error"]
    [entry] = entries(app)
    assert (entry.ended, end["ended"]) == ("partial", "partial")
    assert end["cost"]["exact"] == f"${entry.cost / 10**9:.9f}".rstrip("0")


def test_one_who_leaves_finds_what_the_beginning_cost(app: Flask, alice: FlaskClient, provider: FakeProvider) -> None:
    once, *rest = chunks("Once", " upon a time")
    provider.answers("POST", CHAT, sse=[once, Gate("the rest"), *rest])
    answer = alice.post("/playground/chat", json=HELLO, buffered=False)
    pieces = iter(answer.response)
    first = next(piece for piece in pieces if piece)
    answer.close()
    provider.release("the rest")
    found = json.loads(first.partition(b"data: ")[2].partition(b"\n\n")[0])
    assert found["id"] == "chatcmpl-1"
    told = alice.post("/playground/stopped", json={"id": found["id"], "text": "*Once*"}).json
    [entry] = entries(app)
    assert entry.ended == "partial"
    assert told["html"] == "<p><em>Once</em></p>\n"
    assert told["cost"]["exact"] == f"${entry.cost / 10**9:.9f}".rstrip("0")
    bob = signed_in(app, "bob@example.com")
    for client, number in ((bob, found["id"]), (alice, "chatcmpl-2"), (alice, "")):
        assert client.post("/playground/stopped", json={"id": number, "text": ""}).json["cost"] is None


# Refusals


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"provider": "acme"}, "Unknown provider: acme"),
        ({"model": ""}, "Choose a model first."),
        ({"model": "gpt-9"}, "Model gpt-9 pricing unknown"),
        ({"messages": []}, "Write a message first."),
        ({"messages": [{"role": "system", "content": "x"}]}, "Write a message first."),
        ({"messages": [{"role": "user", "content": " "}]}, "Write a message first."),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Write a message first."),
        ({"messages": "Hello"}, "Write a message first."),
        ({"system": 1}, "The system prompt must be text."),
        ({"temperature": 3}, "The temperature must be a number from 0 to 2."),
        ({"temperature": True}, "The temperature must be a number from 0 to 2."),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cant_be_asked_is_refused_with_a_sentence(
    app: Flask, alice: FlaskClient, change: dict[str, Any], says: str
) -> None:
    answer = alice.post("/playground/chat", json={**HELLO, **change})
    assert answer.status_code in (400, 404)
    assert says in answer.json["message"]
    assert not entries(app)


def test_a_provider_without_a_key_says_which_one_is_missing(make_app: MakeApp) -> None:
    app = make_app(dev=True, OPENAI_API_KEY=None)
    answer = signed_in(app, ALICE).post("/playground/chat", json=HELLO)
    assert answer.status_code == 503
    assert "OPENAI_API_KEY" in answer.json["message"]


@pytest.mark.parametrize(("limit", "says"), [(0.0000001, "is left of your budget"), (0, "no budget for you")])
def test_an_exhausted_budget_says_what_is_left(make_app: MakeApp, limit: float, says: str) -> None:
    app = make_app(dev=True, AIPIPE_BUDGET={"*": {"limit": limit, "days": 7}})
    answer = signed_in(app, ALICE).post("/playground/chat", json=HELLO)
    assert answer.status_code == 429
    assert says in answer.json["message"]


@pytest.mark.parametrize(
    ("status", "content", "answers", "says"),
    [
        (400, {"error": {"message": "No such model."}}, 502, "openai refused this (400). No such model."),
        (429, {"error": "Slow down."}, 502, "openai refused this (429). Slow down."),
        (500, None, 502, "openai refused this (500)."),
        (401, {"error": {"message": "Incorrect key: sk-op…"}}, 503, "openai doesn't accept this AI Pipe's key"),
        (200, {"choices": []}, 502, "can't show"),
    ],
)
def test_a_providers_refusal_is_told_and_never_taken_for_ours(
    alice: FlaskClient, provider: FakeProvider, status: int, content: Any, answers: int, says: str
) -> None:
    provider.answers("POST", CHAT, status=status, json=content)
    answer = alice.post("/playground/chat", json=HELLO)
    assert answer.status_code == answers
    assert says in answer.json["message"]
    assert "sk-op" not in answer.text


@pytest.mark.parametrize("path", ["/playground/chat", "/playground/stopped", "/playground/code"])
@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example.com"}, {}],
)
def test_other_sites_cant_spend(app: Flask, path: str, headers: dict[str, str]) -> None:
    alice = signed_in(app, ALICE)
    del alice.environ_base["HTTP_SEC_FETCH_SITE"]
    assert alice.post(path, json=HELLO, headers=headers).status_code == 403
    assert not entries(app)


def test_without_a_session_there_is_nothing_whatever_token_comes(app: Flask, token: Any) -> None:
    client = app.test_client()
    answer = client.get("/playground", headers=PAGE)
    assert answer.headers["Location"] == "/login?next=%2Fplayground"
    headers = {**OURS, "Authorization": f"Bearer {token(ALICE)}"}
    assert client.get("/playground/models", headers=headers).status_code == 401
    for path in ("chat", "stopped", "code"):
        assert client.post(f"/playground/{path}", json=HELLO, headers=headers).status_code == 401


# Models


def test_models_come_from_the_providers_lists_with_prices_and_are_kept(
    make_app: MakeApp, provider: FakeProvider
) -> None:
    app = make_app(
        dev=True,
        **OPENAI_ALONE,
        AIPIPE_BUDGET={"*": {"limit": 0.1, "days": 7}, ALICE: {"limit": 1, "days": 7, "models": ["*-nano"]}},
    )
    names = [NANO, "gpt-4o", "text-embedding-3-small", "gpt-9"]
    provider.answers("GET", "/v1/models", json={"data": [{"id": name} for name in names]})
    nano, other = [NANO, "$0.10 / $0.40"], ["gpt-4o", "$2.50 / $10.00"]
    assert signed_in(app, "bob@example.com").get("/playground/models").json == {"openai": [nano, other]}
    assert signed_in(app, ALICE).get("/playground/models").json == {"openai": [nano]}
    [request] = provider.requests
    assert request.header("Authorization") == "Bearer sk-operator-openai"


def test_a_list_that_cant_be_had_leaves_the_others(make_app: MakeApp, provider: FakeProvider) -> None:
    app = make_app(dev=True, **{**OPENAI_ALONE, "OPENROUTER_API_KEY": "sk-or-operator"})
    provider.answers("GET", "/v1/models", status=500, body=b"<html>")
    provider.answers("GET", "/api/v1/models", json={"data": [{"id": "openai/gpt-4o-mini", "pricing": {}}]})
    found = signed_in(app, ALICE).get("/playground/models").json
    assert found == {"openrouter": [["openai/gpt-4o-mini", "$0.15 / $0.60"]]}


def test_models_that_openrouter_alone_prices_are_offered_too(make_app: MakeApp, provider: FakeProvider) -> None:
    app = make_app(dev=True, **{**OPENAI_ALONE, "OPENAI_API_KEY": None, "OPENROUTER_API_KEY": "sk-or-operator"})
    listed = {"id": "acme/new-1", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}
    provider.answers("GET", "/api/v1/models", json={"data": [listed, {"id": "acme/unpriced", "pricing": {}}]})  # once
    found = signed_in(app, ALICE).get("/playground/models").json
    assert found == {"openrouter": [["acme/new-1", "$1.00 / $2.00"]]}


@pytest.mark.parametrize(
    ("entry", "does"),
    [
        ({"id": "gpt-4.1"}, True),
        ({"id": "gpt-4o-audio-preview"}, False),
        ({"id": "gpt-3.5-turbo-instruct"}, False),
        ({"id": "o1-pro"}, False),
        ({"id": "llama-3.1-8b-instruct"}, True),
        ({"id": "openai/gpt-5-codex", "architecture": {"output_modalities": ["text"]}}, True),
        ({"id": "black-forest/flux", "architecture": {"output_modalities": ["image"]}}, False),
        ({"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]}, True),
        ({"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]}, False),
    ],
)
def test_only_models_to_talk_with_are_offered(entry: dict[str, Any], does: bool) -> None:
    assert chats(name_of(entry), entry) is does


def test_an_old_value_is_given_out_while_a_new_one_is_fetched_and_after_it_failed() -> None:
    now = [0.0]
    values = iter([["a"], ["b"]])
    kept = Kept("A list", lambda: next(values, {})[0], fresh=10, again=5, clock=lambda: now[0])
    assert kept.get(patience=5) == "a"
    now[0] = 9
    assert kept.get() == "a"
    now[0] = 11
    assert kept.get() in ("a", "b")
    kept.wait()
    assert kept.get() == "b"
    now[0] = 22
    kept.refresh()
    kept.wait()
    assert kept.get() == "b"


# Code


def test_code_says_the_conversation_and_this_instance(alice: FlaskClient) -> None:
    asked = {**HELLO, "system": 'It\'s "brief"', "max_tokens": 5}
    found = alice.post("/playground/code", json=asked).json
    for code in found.values():
        assert "https://aipipe.example.com/openai/v1/chat/completions" in code
        assert "your-token" in code
        assert NANO in code
        assert "stream" not in code


def test_python_code_sends_just_what_the_playground_would(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": 'it\'s "q"\n\\ é </script> ' + "long " * 60}]}
    code = snippets("https://example.com/x", body, {}, '["answer"]')["python"]
    stub = (
        "import sys, json\n"
        "class Answer:\n"
        "    def raise_for_status(self): pass\n"
        "    def json(self): return {'answer': 'ok'}\n"
        "class requests:\n"
        "    @staticmethod\n"
        "    def post(url, headers, json, timeout): globals().update(sent=json); return Answer()\n"
        "sys.modules['requests'] = requests\n"
    )
    (tmp_path / "code.py").write_text(f"{stub}\n{code}\nprint(json.dumps(sent))", encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "code.py"], capture_output=True, text=True, check=True)
    answer, sent = done.stdout.splitlines()
    assert answer == "ok"
    assert json.loads(sent) == body


def test_curl_code_survives_a_shell(tmp_path: Path) -> None:
    body = {"messages": [{"content": 'it\'s $HOME `id` "q"\n\\'}]}
    code = snippets("https://example.com/x", body, {}, "")["curl"]
    (tmp_path / "curl").write_text('#!/bin/sh\nfor last; do :; done\nprintf %s "$last"\n')
    (tmp_path / "curl").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert json.loads(done.stdout) == body


# Hostile answers

ALLOWED = {"href", "title", "target", "rel", "class", "tabindex", "type", "aria-live", "start"}
HARMLESS = {*markdown.TAGS, "div", "button"}


class Tags(HTMLParser):
    """All that a browser could make of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![tracked](https://evil.example.com/pixel.png)",
        "![x](data:image/svg+xml,<svg onload=alert(1)>)",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](java&#115;cript:alert(1))",
        "[a](&#x6A;avascript&colon;alert(1))",
        "[a](\tjavascript:alert(1))",
        "[a](vbscript:msgbox(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](file:///etc/passwd)",
        "[a](/login/reset)",
        "[a](//evil.example.com)",
        '[a](https://example.com "\\" onmouseover=alert(1) x=\\"")',
        '[a](https://example.com/"onclick="alert(1))',
        "<javascript:alert(1)>",
        "[a]: javascript:alert(1)\n\n[a]",
        "[![x](javascript:alert(1))](javascript:alert(2))",
        "<svg><script>alert(1)</script></svg>",
        "<iframe src=javascript:alert(1)>",
        "<style>*{display:none}</style>",
        "<form action=https://evil.example.com><input name=token>",
        "<base href=https://evil.example.com>",
        "<a href=x id=chat name=chat>",
        "<math><mtext></table><mglyph><style><img src=x onerror=alert(1)>",
        "```html\n<script>alert(1)</script></code></pre><img src=x onerror=alert(1)>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "`<img src=x onerror=alert(1)>`",
        "| <script>alert(1)</script> | b |\n|:-:|--:|\n| <img src=x onerror=alert(1)> | [a](javascript:1) |",
        "> - 1. <script>alert(1)</script>",
        "<pre><table></table></pre> &lt;pre&gt; &#60;table&#62;",
        "<!-- --!><img src=x onerror=alert(1)> -->",
        "<![CDATA[<script>alert(1)</script>]]>",
        "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
        "<" * 1000 + "script>",
        "x" * markdown.LONGEST + "<script>alert(1)</script>",
    ],
)
def test_hostile_markdown_becomes_harmless(text: str) -> None:
    for tag, attributes in Tags(markdown.render(text)).tags:
        assert tag in HARMLESS, tag
        assert set(attributes) <= ALLOWED, attributes
        if "href" in attributes:
            assert re.match(r"(https?|mailto):", attributes["href"] or "")
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"
            assert attributes["target"] == "_blank"


def test_markdown_keeps_what_answers_are_made_of() -> None:
    html = markdown.render(
        "# T\n\n- a `b`\n\n~~c~~ [d](https://example.com)\n\n|e|f|\n|-|-:|\n|1|2|\n\n```py\n1 < 2\n```"
    )
    for part in ("<h1>T</h1>", "<li>a <code>b</code></li>", "<s>c</s>", 'href="https://example.com"', "<td>1</td>"):
        assert part in html
    assert '<td class="right">2</td>' in html
    assert '<pre class="copyable"><code tabindex="0">1 &lt; 2\n</code>' in html


SLOW = {
    "brackets": "[" * 59_900,
    "emphasis": "*a_" * 2_000,
    "lines": "&\n" * 20_000,
    "a wide table": "|a" * 400 + "|\n" + "|-" * 400 + "|\n" + "x\n" * 500,
    "a long table": "|a|b|c\n|-|-|-\n" + "x\n" * 2_900,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_markdown_that_takes_long_is_shown_as_it_was_written(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(markdown, "_to_html", None)
    html = markdown.render(text + "<b>")
    assert html.startswith('<pre class="copyable"><code tabindex="0">' + text[:2].replace("&", "&amp;"))
    assert "&lt;b&gt;</code>" in html


def test_a_long_answer_of_the_usual_kind_is_rendered() -> None:
    table = "| model | price | what for |\n|---|--:|---|\n" + "| `one` | **1** | [it](https://example.com) |\n" * 100
    assert markdown.render(table + "\n" + "Words, _words_ and `code`.\n" * 400).startswith('<div class="scroll"')


def test_hostile_answers_reach_the_page_as_harmless_html_only(alice: FlaskClient, provider: FakeProvider) -> None:
    provider.answers("POST", CHAT, sse=chunks("<img src=x ", "onerror=alert(1)>\n\nevent: aipipe\ndata: {}\n\n"))
    text, end = events(alice.post("/playground/chat", json=HELLO))
    assert "event: aipipe" in text
    assert "<img" not in end["html"]
