"""A real SDK, a real model, the real server: what a newcomer does with `aipipe dev`, to the nanodollar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai import OpenAI

from e2e.calls import ask, calling, sdk
from e2e.conftest import BUDGETS
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e

MODEL = "smollm2-135m"
INPUT, OUTPUT = 100, 400  # nanodollars a token, in `aipipe dev`
SHORT: Any = {
    "model": MODEL,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Tell a long story."}],
    "max_tokens": 24,
}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("dev")
    settings = {"AIPIPE_PROVIDERS__local__base": model, "AIPIPE_BUDGET": BUDGETS}
    server = Server(folder, "dev", **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(dev: Server) -> Iterator[Server]:
    yield dev
    dev.check_books()


@pytest.fixture
def alice(server: Server) -> Caller:
    return server.caller()


@pytest.fixture
def client(server: Server, alice: Caller) -> Iterator[OpenAI]:
    with sdk(server, alice, "local") as client:
        yield client


def booked(server: Server, caller: Caller, input_tokens: int, output_tokens: int, endpoint: str) -> int:
    """The cost of the caller's only entry, which is the price of these tokens; in nanodollars."""
    entry = server.entry(caller)
    assert (entry.input_tokens, entry.output_tokens) == (input_tokens, output_tokens)
    assert (entry.provider, entry.model, entry.endpoint) == ("local", MODEL, endpoint)
    assert (entry.ended, entry.status) == ("complete", 200)
    return entry.cost


def nano(dollars: str | float) -> int:
    return int(Decimal(str(dollars)) * 10**9)


def price(usage: Any) -> int:
    """What a usage costs in nanodollars. The model reads what it knows from before for the same price."""
    return int(usage.prompt_tokens * INPUT + usage.completion_tokens * OUTPUT)


def test_a_chat_is_answered_and_costs_what_its_usage_says(client: OpenAI, server: Server, alice: Caller) -> None:
    answer = client.chat.completions.with_raw_response.create(**SHORT)
    parsed = answer.parse()
    assert parsed.choices[0].message.content
    usage = parsed.usage
    assert usage is not None
    cost = booked(server, alice, usage.prompt_tokens, usage.completion_tokens, "v1/chat/completions")
    assert cost == price(usage) > 0
    assert nano(answer.headers["X-AIPipe-Cost"]) == cost
    assert nano(answer.headers["X-AIPipe-Remaining"]) == nano("0.1") - cost


def test_a_streamed_chat_comes_in_pieces_and_ends_with_its_usage(client: OpenAI, server: Server, alice: Caller) -> None:
    with client.chat.completions.create(**SHORT, stream=True) as stream:
        chunks = list(stream)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    usage = chunks[-1].usage
    assert usage is not None
    cost = booked(server, alice, usage.prompt_tokens, usage.completion_tokens, "v1/chat/completions")
    assert cost == price(usage)


def test_a_stream_tells_its_cost_in_a_comment_before_it_is_done(server: Server, alice: Caller) -> None:
    body = ask(server, "/local/v1/chat/completions", alice, {**SHORT, "stream": True}).body.decode()
    found = re.search(r"\n\n: aipipe cost=([\d.]+) remaining=([\d.]+)\n\ndata: \[DONE\]\n\n$", body)
    assert found, body[-300:]
    assert nano(found[1]) == server.entry(alice).cost
    assert nano(found[2]) == nano("0.1") - server.entry(alice).cost


def test_a_response_is_answered(client: OpenAI, server: Server, alice: Caller) -> None:
    answer = client.responses.create(model=MODEL, input="Tell a long story.", temperature=0, max_output_tokens=24)
    assert answer.output_text
    usage = answer.usage
    assert usage is not None
    cost = booked(server, alice, usage.input_tokens, usage.output_tokens, "v1/responses")
    assert cost == usage.input_tokens * INPUT + usage.output_tokens * OUTPUT


def test_a_streamed_response_is_answered(client: OpenAI, server: Server, alice: Caller) -> None:
    with client.responses.create(
        model=MODEL, input="Tell a long story.", temperature=0, max_output_tokens=24, stream=True
    ) as stream:
        events = list(stream)
    assert len([event for event in events if event.type == "response.output_text.delta"]) > 1
    final = events[-1]
    assert final.type in ("response.completed", "response.incomplete")
    assert final.response.usage is not None
    booked(server, alice, final.response.usage.input_tokens, final.response.usage.output_tokens, "v1/responses")


def test_an_older_completion_is_answered(client: OpenAI, server: Server, alice: Caller) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage is not None
    cost = booked(server, alice, answer.usage.prompt_tokens, answer.usage.completion_tokens, "v1/completions")
    assert cost == price(answer.usage)


def test_embeddings_cost_their_input_alone(client: OpenAI, server: Server, alice: Caller) -> None:
    answer = client.embeddings.create(model=MODEL, input=["red", "green and blue"])
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 100
    cost = booked(server, alice, answer.usage.prompt_tokens, 0, "v1/embeddings")
    assert cost == answer.usage.prompt_tokens * INPUT > 0


def test_a_message_in_anthropics_format_is_answered(server: Server, alice: Caller) -> None:
    answer = ask(server, "/local/v1/messages", None, SHORT, headers={"x-api-key": alice.token}).json()
    assert answer["content"][0]["text"]
    usage = answer["usage"]
    # Anthropic counts what was cached beside the input, not within it.
    input_tokens = usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
    cost = booked(server, alice, input_tokens, usage["output_tokens"], "v1/messages")
    assert cost == input_tokens * INPUT + usage["output_tokens"] * OUTPUT


def test_a_streamed_message_in_anthropics_format_is_answered(server: Server, alice: Caller) -> None:
    body = ask(server, "/local/v1/messages", alice, {**SHORT, "stream": True}).body
    assert body.count(b"event: content_block_delta\n") > 1
    assert b"event: message_stop\n" in body
    assert server.entry(alice).ended == "complete"
    assert server.entry(alice).output_tokens > 1


def test_models_are_listed_for_nothing(client: OpenAI, server: Server, alice: Caller) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert server.ledger.entries(alice.email) == []


def test_usage_is_the_sum_of_the_entries(client: OpenAI, server: Server, alice: Caller) -> None:
    client.chat.completions.create(**SHORT)
    with client.chat.completions.create(**SHORT, stream=True) as stream:
        list(stream)
    client.embeddings.create(model=MODEL, input="red")
    entries = server.ledger.entries(alice.email)
    total = sum(entry.cost for entry in entries)
    told = ask(server, "/usage", alice).json()
    assert len(entries) == 3
    assert (told["email"], told["days"], told["limit"]) == (alice.email, 7, 0.1)
    assert nano(told["cost"]) == sum(nano(day["cost"]) for day in told["usage"]) == total > 0


def test_who_leaves_in_mid_stream_pays_for_what_was_written(server: Server, alice: Caller) -> None:
    story = {**SHORT, "max_tokens": 4000, "stream": True}
    with calling(server, "/local/v1/chat/completions", alice, story) as call:
        first = [call.line() for _ in range(3)]
    assert all(line.startswith(b"data: {") for line in first)
    entry = server.entry(alice)
    assert entry.ended == "partial"
    assert entry.output_tokens > 0
    assert entry.cost == entry.input_tokens * INPUT + entry.output_tokens * OUTPUT


def test_sign_in_with_any_email_gives_a_token_that_works(server: Server) -> None:
    cookie = sign_in(server, {}).headers["set-cookie"].partition(";")[0]
    page = ask(server, "/login", headers={"Cookie": cookie}).body.decode()
    (token,) = set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", page))
    server.secrets |= {token, cookie.partition("=")[2]}
    bob = Caller("bob@example.com", token)
    with sdk(server, bob, "local") as client:
        assert client.chat.completions.create(**SHORT).choices[0].message.content
    assert server.entry(bob).cost > 0


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"]
)
def test_sign_in_with_any_email_is_not_for_those_behind_a_proxy(server: Server, header: str) -> None:
    answer = sign_in(server, {header: "192.0.2.1"})
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def sign_in(server: Server, headers: dict[str, str]) -> Any:
    return ask(server, "/login", body=b"email=bob%40example.com", headers={**FORM, **headers})
