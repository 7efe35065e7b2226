"""Streams through the real server: pieces as they come, and clients who leave before the end."""

from __future__ import annotations

import json

import pytest
from fake_provider import Gate
from wire import head

from e2e.answers import CHAT, COST, answer, end, event, piece, question
from e2e.calls import ask, calling, sdk
from e2e.conftest import Script
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e


def test_each_piece_arrives_while_the_provider_still_thinks_of_the_next(
    server: Server, provider: Script, alice: Caller
) -> None:
    provider.answers("POST", CHAT, sse=[piece("one"), Gate("first"), piece("two"), Gate("second"), *end()])
    with sdk(server, alice, "openai") as client, client.chat.completions.create(**question(stream=True)) as stream:
        assert next(stream).choices[0].delta.content == "one"
        provider.reached("first")
        provider.release("first")
        assert next(stream).choices[0].delta.content == "two"
        provider.reached("second")
        provider.release("second")
        assert [chunk.usage.total_tokens for chunk in stream if chunk.usage] == [30]
    assert server.entry(alice).cost == COST


@pytest.mark.parametrize("reset", [False, True], ids=["farewell", "reset"])
def test_who_leaves_while_the_provider_is_silent_ends_its_work_at_once_and_pays_for_what_there_was(
    server: Server, provider: Script, alice: Caller, reset: bool
) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), piece(" there"), Gate("silent"), *end()])
    asked = question(stream=True)
    with calling(server, f"/openai{CHAT}", alice, asked) as call:
        assert b"Hello" in call.line()
        assert b" there" in call.line()
        provider.reached("silent")
        call.leave(reset=reset)
        assert provider.closed.wait().path == CHAT
    entry = server.entry(alice)
    assert entry.ended == "partial"
    assert entry.output_tokens == 3  # "Hello there" at four bytes a token
    assert len(json.dumps(asked)) / 8 < entry.input_tokens < len(json.dumps(asked))
    assert entry.cost == entry.input_tokens * 1_000 + entry.output_tokens * 2_000


def test_who_leaves_before_the_first_piece_pays_for_the_input(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[Gate("silent"), *end()])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True)) as call:
        assert call.response.status == 200
        call.leave()
        provider.closed.wait()
    entry = server.entry(alice)
    assert (entry.ended, entry.output_tokens) == ("partial", 0)
    assert entry.cost == entry.input_tokens * 1_000 > 0


def test_who_leaves_before_the_provider_answers_at_all_ends_its_work_at_once_too(
    server: Server, provider: Script, alice: Caller
) -> None:
    provider.answers("POST", CHAT, steps=[Gate("silent")])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True)) as call:
        provider.reached("silent")
        call.leave()
        provider.closed.wait()
    entry = server.entry(alice)
    assert (entry.ended, entry.output_tokens) == ("partial", 0)
    assert entry.cost == entry.input_tokens * 1_000 > 0


def test_who_leaves_a_provider_that_bills_on_pays_the_truth(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("left"), piece(" there"), Gate("end"), *end()])
    with calling(server, f"/patient{CHAT}", alice, question(stream=True)) as call:
        assert b"Hello" in call.line()
        call.leave(reset=True)
    provider.release("left")
    provider.reached("end")
    assert [hold.purpose.email for hold in server.ledger.holds()] == [alice.email]
    provider.release("end")
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)
    assert len(provider.closed) == 0


@pytest.mark.parametrize("at", ["head", "body"])
def test_who_leaves_an_answer_that_is_no_stream_pays_the_truth(
    server: Server, provider: Script, alice: Caller, at: str
) -> None:
    body = json.dumps(answer()).encode()
    steps = [head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}), body[:20], body[20:]]
    steps.insert(0 if at == "head" else 2, Gate("left"))
    provider.answers("POST", CHAT, steps=steps)
    with calling(server, f"/openai{CHAT}", alice, question()) as call:
        provider.reached("left")
        call.leave()
    provider.release("left")
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)
    assert len(provider.closed) == 0


def test_who_leaves_while_waiting_in_line_gives_the_place_up(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[Gate("busy"), *end()])
    dear = question(stream=True, max_tokens=60_000)  # more than a dime buys, so all of it is held
    with calling(server, f"/openai{CHAT}", alice, dear) as first:
        provider.reached("busy")
        with calling(server, f"/openai{CHAT}", alice, dear) as second:
            eventually(lambda: len(server.ledger.holds()) == 2, "the second request waits in line")
            second.leave()
            eventually(lambda: len(server.ledger.holds()) == 1, "its place is free again")
        provider.release("busy")
        first.received()
    assert len(provider.requests) == 1
    assert server.entry(alice).cost == COST


def test_who_waits_in_line_is_served_when_the_money_comes_back(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[Gate("first in line"), *end()])
    provider.answers("POST", CHAT, sse=[piece("Hello"), *end()])
    dear = question(stream=True, max_tokens=60_000)
    with calling(server, f"/openai{CHAT}", alice, dear) as first:
        provider.reached("first in line")
        with calling(server, f"/openai{CHAT}", alice, dear) as second:
            eventually(lambda: len(server.ledger.holds()) == 2, "the second request waits in line")
            provider.release("first in line")
            first.received()
            assert b"Hello" in second.line()
            second.received()
    assert [entry.cost for entry in server.ledger.entries(alice.email)] == [COST, COST]


def test_who_leaves_with_a_native_key_ends_the_providers_work_at_once(
    server: Server, provider: Script, native: Caller
) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("silent"), *end()])
    with calling(server, f"/openai{CHAT}", native, question(stream=True)) as call:
        assert b"Hello" in call.line()
        provider.reached("silent")
        call.leave()
        provider.closed.wait()


def test_who_leaves_with_a_native_key_before_there_is_an_answer_ends_the_work_too(
    server: Server, provider: Script, native: Caller
) -> None:
    provider.answers("POST", CHAT, steps=[Gate("silent")])
    with calling(server, f"/openai{CHAT}", native, question()) as call:
        provider.reached("silent")
        call.leave()
        provider.closed.wait()


def test_an_answer_can_be_read_at_any_pace(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("x" * 60_000), *(piece("y" * 60_000) for _ in range(40)), *end()])
    body = ask(server, f"/openai{CHAT}", alice, question(stream=True)).body
    assert body.count(b"y") == 40 * 60_000
    assert body.endswith(b"data: [DONE]\n\n")
    assert server.entry(alice).cost == COST


def test_a_streams_bytes_pass_untouched_but_for_the_comment(server: Server, provider: Script, alice: Caller) -> None:
    odd = b': a comment\r\n\r\nevent: odd\ndata: {"choices":[]}\n\n\xff\xfe not UTF-8\n\n'
    provider.answers("POST", CHAT, sse=[odd, *end()])
    received = ask(server, f"/openai{CHAT}", alice, question(stream=True))
    before, _, after = received.body.partition(b": aipipe cost=0.00005 remaining=0.09995\n\n")
    assert before + after == odd + b"".join(map(event, end()))
    assert after == b"data: [DONE]\n\n"
