"""Anthropic's own SDK through AI Pipe: https://github.com/anthropics/anthropic-sdk-python"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from fake_provider import DROP, Gate

from e2e.conftest import NATIVE_KEY, Script, Site, running
from e2e.server import PATIENCE, Caller, Server

pytestmark = pytest.mark.e2e

KEY = "sk-ant-operators-own"
MODEL = "claude-haiku-4-5"
QUESTION: dict[str, Any] = {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [],
    "stop_reason": None,
    "usage": USAGE,
}
COST = 9 * 1_000 + 3 * 5_000


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    script = Script()
    providers = {"anthropic": {"base": script.url}}
    folder = tmp_path_factory.mktemp("anthropic")
    with running(folder, script, AIPIPE_PROVIDERS=providers, ANTHROPIC_API_KEY=KEY) as site:
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    yield module_site
    module_site.check()


def sdk(server: Server, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{server.url}/anthropic", api_key=key, timeout=PATIENCE)


@pytest.fixture
def claude(server: Server, alice: Caller) -> Iterator[anthropic.Anthropic]:
    with sdk(server, alice.token) as client:
        yield client


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def text(piece: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})


START = event("message_start", message=MESSAGE) + event(
    "content_block_start", index=0, content_block={"type": "text", "text": ""}
)
END = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
    + event("message_stop")
)


def test_an_answer_in_one_piece(claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller) -> None:
    said = {"content": [{"type": "text", "text": "Hello!"}], "usage": {**USAGE, "output_tokens": 3}}
    provider.answers("POST", "/v1/messages", json={**MESSAGE, **said})
    answer = claude.messages.create(**QUESTION)
    assert isinstance(answer.content[0], anthropic.types.TextBlock) and answer.content[0].text == "Hello!"
    [request] = provider.requests
    assert request.header("x-api-key") == KEY
    assert request.all("Authorization") == []
    assert request.header("anthropic-version")
    entry = server.entry(alice)
    assert (entry.cost, entry.ended, entry.answer_id) == (COST, "complete", "msg_1")


def test_a_stream_as_it_arrives(claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller) -> None:
    provider.answers("POST", "/v1/messages", sse=[START, text("Hel"), Gate("half"), text("lo"), END])
    with claude.messages.stream(**QUESTION) as stream:
        pieces = stream.text_stream
        assert next(pieces) == "Hel"
        provider.release("half")
        assert [*pieces] == ["lo"]
        assert stream.get_final_message().usage.output_tokens == 3
    assert server.entry(alice).cost == COST


def test_a_stream_that_fails_is_an_error_to_the_sdk(
    claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller
) -> None:
    provider.answers("POST", "/v1/messages", sse=[START, text("Hel"), DROP])
    with claude.messages.stream(**QUESTION) as stream, pytest.raises(anthropic.APIError, match="broke off"):
        assert [*stream.text_stream] == ["Hel"]
    assert server.entry(alice).ended == "partial"


def test_leaving_a_stream_ends_what_it_costs(
    claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller
) -> None:
    provider.answers("POST", "/v1/messages", sse=[START, text("Hello there"), Gate("more"), END])
    with claude.messages.stream(**QUESTION) as stream:
        assert next(stream.text_stream) == "Hello there"
    provider.closed.wait()
    entry = server.entry(alice)
    assert (entry.cost, entry.ended) == (9 * 1_000 + 3 * 5_000, "partial")  # 11 bytes are 3 tokens


def test_thinking_that_nobody_sees_is_read_on_and_paid(
    claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller
) -> None:
    end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2_000}) + event(
        "message_stop"
    )
    provider.answers("POST", "/v1/messages", sse=[START, Gate("thinking"), end])
    thinking = {"type": "enabled", "budget_tokens": 1_024, "display": "omitted"}
    with claude.messages.stream(**{**QUESTION, "max_tokens": 4_000, "thinking": thinking}):
        provider.reached("thinking")
    provider.release("thinking")
    entry = server.entry(alice)
    assert (entry.cost, entry.ended) == (9 * 1_000 + 2_000 * 5_000, "complete")


def test_models_and_tokens_are_free(
    claude: anthropic.Anthropic, provider: Script, server: Server, alice: Caller
) -> None:
    model = {"type": "model", "id": MODEL, "display_name": "Claude", "created_at": "2025-10-01T00:00:00Z"}
    provider.answers("GET", "/v1/models", json={"data": [model], "has_more": False})
    provider.answers("POST", "/v1/messages/count_tokens", json={"input_tokens": 9})
    assert [found.id for found in claude.models.list()] == [MODEL]
    assert claude.messages.count_tokens(model=MODEL, messages=QUESTION["messages"]).input_tokens == 9
    assert server.ledger.entries(alice.email) == []


def test_a_key_of_the_callers_own_leaves_as_anthropic_reads_it(
    native: Caller, provider: Script, server: Server
) -> None:
    provider.answers("POST", "/v1/messages", json=MESSAGE)
    with sdk(server, native.token) as client:
        client.messages.create(**QUESTION)
    [request] = provider.requests
    assert request.header("x-api-key") == NATIVE_KEY
    assert request.all("Authorization") == []


def test_a_refusal_is_read_by_the_sdk(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.PermissionDeniedError, match="web_search_20250305"):
        claude.messages.create(**QUESTION, tools=[{"type": "web_search_20250305", "name": "web_search"}])
