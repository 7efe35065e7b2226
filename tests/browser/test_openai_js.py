"""The openai npm package in a page on another origin: what a browser asks before it lets a page call us."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import OPERATOR_KEY, Script, Site
from e2e.server import Caller
from playwright.sync_api import Page

from browser.pages import Pages

pytestmark = pytest.mark.e2e

SHORT = {"model": "small", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
USAGE = {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
COST = 14 * 1_000 + 2 * 2_000  # nanodollars
PAGE = """<!doctype html><title>An app</title>
<script type="module">
  import OpenAI from "/openai/index.mjs";
  window.client = new OpenAI({
    apiKey: %s, baseURL: %s, dangerouslyAllowBrowser: true, maxRetries: 0,
    defaultHeaders: { "X-App-Version": "7" },
  });
</script>"""


@pytest.fixture
def client(site: Site, app: Pages, page: Page, npm: Callable[[str], Path], alice: Caller) -> Page:
    """A page with `window.client`, OpenAI's own, for Alice at our `openai`."""
    app.folders["/openai/"] = npm("openai")
    app.pages["/"] = PAGE % (json.dumps(alice.token), json.dumps(f"{site.server.url}/openai/v1"))
    page.goto(f"{app.origin}/")
    page.wait_for_function("window.client")
    return page


def test_a_completion_comes_whole_with_its_cost(client: Page, site: Site, provider: Script, alice: Caller) -> None:
    message = {"role": "assistant", "content": "4"}
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    provider.answers("POST", "/v1/chat/completions", json={**completion, "usage": USAGE})
    found: dict[str, Any] = client.evaluate(
        """async (body) => {
          const { data, response } = await client.chat.completions.create(body).withResponse();
          return { content: data.choices[0].message.content, cost: response.headers.get("x-aipipe-cost") };
        }""",
        SHORT,
    )
    assert found == {"content": "4", "cost": "0.000018"}
    assert site.server.entry(alice).cost == COST
    [request] = provider.requests
    assert request.header("Authorization") == f"Bearer {OPERATOR_KEY}"
    assert request.header("X-App-Version") == "7"
    assert request.header("X-Stainless-Lang") == "js"
    assert request.header("Origin") is None


def test_a_stream_comes_piece_by_piece(client: Page, site: Site, provider: Script, alice: Caller) -> None:
    pieces = [{"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("4", "!")]
    usage = {"id": "chatcmpl-1", "choices": [], "usage": USAGE}
    provider.answers("POST", "/v1/chat/completions", sse=[*pieces, usage, "[DONE]"])
    text = client.evaluate(
        """async (body) => {
          let text = "";
          for await (const chunk of await client.chat.completions.create({ ...body, stream: true }))
            text += chunk.choices[0]?.delta.content ?? "";
          return text;
        }""",
        SHORT,
    )
    assert text == "4!"
    assert site.server.entry(alice).cost == COST


def test_a_call_without_a_body_passes(client: Page, provider: Script) -> None:
    provider.answers("GET", "/v1/models", json={"object": "list", "data": [{"id": "small", "object": "model"}]})
    assert client.evaluate("client.models.list().then((page) => page.data.map((model) => model.id))") == ["small"]


def test_a_refusal_is_the_sdks_own_error(client: Page) -> None:
    found = client.evaluate(
        """client.files.list().then(() => null, (error) => ({
          name: error.constructor.name, status: error.status, message: error.message, type: error.type }))"""
    )
    assert (found["name"], found["status"], found["type"]) == ("PermissionDeniedError", 403, "permission_error")
    assert "AI Pipe doesn't allow GET /v1/files" in found["message"]


def test_the_preflight_allows_the_headers_that_it_asks_for(client: Page, site: Site, provider: Script) -> None:
    """What Chromium asks here is not told to pages; so it is asked with the SDK's headers once more, by hand."""
    provider.answers("GET", "/v1/models", json={"object": "list", "data": []})
    with client.expect_request(lambda request: request.method == "GET" and "models" in request.url) as asked:
        client.evaluate("client.models.list()")
    names = sorted(name for name in asked.value.all_headers() if name.startswith(("x-", "authorization")))
    assert {"authorization", "x-stainless-lang", "x-stainless-package-version", "x-app-version"} <= set(names)
    answer = client.request.fetch(
        f"{site.server.url}/openai/v1/models",
        method="OPTIONS",
        headers={"Origin": "https://app.example.com", "Access-Control-Request-Headers": ",".join(names)},
    )
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == ",".join(names)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
