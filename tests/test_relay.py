"""Answers from a real connection to a real ledger: what is passed on and charged, of streams at their edges."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from asking import BUDGET, call
from ledgers import ALICE, open_at
from raw_server import PATIENCE, Server, answer, shared_pool

from aipipe import relay, sse
from aipipe.client import Client
from aipipe.errors import ProviderError
from aipipe.ledger import Ledger
from aipipe.metering import Charge, Metering
from aipipe.streaming import Stream
from aipipe.tokens import Identity

USAGE = {"prompt_tokens": 10, "completion_tokens": 20}  # 210 nanodollars
WHOLE = orjson.dumps({"id": "c", "choices": [{"message": {"content": "Hi"}}], "usage": USAGE})
UNTOLD = orjson.dumps({"id": "c", "choices": [{"message": {"content": "Hi" * 100}}]})
HI = call().ask.likely
# Half a character, a number beyond measure and a thousand lists in each other, all of which a model may write.
ODD = b'{"id": "c", "choices": ["\\ud83d", 1e999, %b%b], "usage": %b}' % (b"[" * 1100, b"]" * 1100, orjson.dumps(USAGE))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_at(tmp_path / "ledger.db")
    yield ledger
    assert ledger.balanced()
    assert ledger.holds() == []
    ledger.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    shared_pool().close()
    server.close()


def charge_at(server: Server, ledger: Ledger, **asked: Any) -> Charge:
    """An admitted request to `server`."""
    asked_call = call(**asked)
    provider = replace(asked_call.provider, base=server.url)
    metering = Metering(ledger, patience=PATIENCE, request_limit=60)
    charge = metering.admit(Identity(ALICE), BUDGET, replace(asked_call, provider=provider), lambda: False)
    metering.close()
    return charge


def relayed(server: Server, charge: Charge, *, whole: int = relay.WHOLE) -> tuple[int, bytes]:
    client = Client({})
    reply = relay.send(shared_pool(), charge, "POST", "/v1/x", [], b"{}", client, whole=whole)
    try:
        return reply.status, b"".join(reply.body)
    finally:
        reply.body.close()


def head(status: int, length: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, length)


# status, body, bytes that never come: cost and how it ended, where anything is booked
ANSWERS: dict[str, tuple[int, bytes, int, tuple[int, str] | None]] = {
    "whole": (200, WHOLE, 0, (210, "complete")),
    "without a usage": (200, UNTOLD, 0, (HI + 10 * -(-len(UNTOLD) // 4), "partial")),
    "beside what can't be read": (200, ODD, 0, (210, "complete")),
    "beside another": (200, b'{"metadata": {"usage": "mine"}, ' + WHOLE[1:], 0, (210, "complete")),
    "in front of more": (200, WHOLE[:-1] + b', "more": {"usage": "%b"}}' % (b"x" * 99_999), 0, (210, "complete")),
    "no JSON": (200, b"<html>Bad gateway</html>", 0, (HI, "partial")),
    "nothing": (200, b"", 0, (HI, "partial")),
    "cut short": (200, UNTOLD, 1, (HI + 10 * -(-len(UNTOLD) // 4), "partial")),
    "cut short at once": (200, b"", 1, (HI, "partial")),
    "nothing, and said so": (204, b"", 0, None),
    "a way to somewhere else": (307, b"<html>Moved", 0, None),
    "a refusal": (400, b'{"error": {"message": "No"}}', 0, None),
    "a refusal that was billed": (400, WHOLE, 0, (210, "complete")),
    "a refusal cut short": (500, b"<html>Inter", 9, None),
}


@pytest.mark.parametrize("whole", [relay.WHOLE, 4], ids=["read whole", "large"])
@pytest.mark.parametrize(("status", "body", "missing", "booked"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_passed_on_and_charged(
    status: int,
    body: bytes,
    missing: int,
    booked: tuple[int, str] | None,
    whole: int,
    server: Server,
    ledger: Ledger,
) -> None:
    server.plays(answer(head(status, len(body) + missing), body))
    charge = charge_at(server, ledger)
    if missing:
        with pytest.raises(ProviderError):
            relayed(server, charge, whole=whole)
    else:
        assert relayed(server, charge, whole=whole) == (status, body)
    entries = ledger.entries(ALICE)
    assert [(entry.cost, entry.ended) for entry in entries] == ([booked] if booked else [])
    assert all(entry.status == status for entry in entries)


FAILURES = {
    "an answer": (answer(head(200, len(WHOLE)), WHOLE), None),
    "what the caller did wrong": (answer(head(400, 2), b"{}"), None),
    "a key that isn't known": (answer(head(401, 5), b"sk-us"), (401, "It does not take AI Pipe's key.")),
    "too many requests": (answer(head(429, 0)), (429, "It wants AI Pipe to ask less, or its quota is used up.")),
    "a crash": (answer(head(503, 9), b"Traceback"), (503, "It failed.")),
    "an answer cut short": (answer(head(200, 9), b"{"), (502, "school broke off in the middle of its answer.")),
    "no answer": (answer(b""), (502, "school broke off before it answered. Try again.")),
    "a stream cut short": (
        answer(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n", b"data: {}\n\n"),
        (502, "school broke off in the middle of its answer."),
    ),
}


@pytest.mark.parametrize("whole", [relay.WHOLE, 0], ids=["read whole", "large"])
@pytest.mark.parametrize(("played", "noted"), FAILURES.values(), ids=FAILURES)
def test_the_last_failure_of_a_provider_is_noted_in_words_of_ours(
    played: Any, noted: tuple[int, str] | None, whole: int, server: Server, ledger: Ledger
) -> None:
    server.plays(played)
    with suppress(ProviderError, ConnectionResetError):
        relayed(server, charge_at(server, ledger), whole=whole)
    told = {name: (failure.status, failure.message) for name, failure in ledger.failures.last().items()}
    assert told == ({"school": noted} if noted else {})


def test_a_provider_that_hangs_up_before_it_answers_is_not_paid(server: Server, ledger: Ledger) -> None:
    server.plays(answer(b""))
    with pytest.raises(ProviderError):
        relayed(server, charge_at(server, ledger))
    assert ledger.entries(ALICE) == []


def test_what_is_told_by_the_request_is_charged_before_the_answer_is_passed_on(server: Server, ledger: Ledger) -> None:
    server.plays(answer(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 99\r\n\r\nhalf"))
    charge = charge_at(server, ledger, model="speaks", path="/v1/audio/speech", input="Hello", voice="alloy")
    with pytest.raises(ConnectionResetError):
        relayed(server, charge)
    assert [(entry.cost, entry.ended) for entry in ledger.entries(ALICE)] == [(5, "complete")]


def test_embeddings_that_break_off_cost_their_input(server: Server, ledger: Ledger) -> None:
    server.plays(answer(head(200, 999), b"[0.1, 0.2"))
    charge = charge_at(server, ledger, model="embeds", path="/v1/embeddings", input="Hi")
    with pytest.raises(ProviderError):
        relayed(server, charge)
    (entry,) = ledger.entries(ALICE)
    assert (entry.cost, entry.output_tokens) == (charge.call.ask.likely, 0)


def test_what_is_large_is_passed_on_though_it_is_taken_for_longer_than_a_hold_lasts(
    server: Server, ledger: Ledger
) -> None:
    server.plays(answer(head(200, len(WHOLE)), WHOLE))
    reply = relay.send(shared_pool(), charge_at(server, ledger), "POST", "/v1/x", [], b"{}", Client({}), whole=4)
    assert [entry.cost for entry in ledger.entries(ALICE)] == [210]  # before anybody took any of it
    assert reply.bill and reply.bill.cost == 210
    assert b"".join(reply.body) == WHOLE
    reply.body.close()


def test_without_room_for_a_large_answer_what_came_is_charged(
    server: Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    server.plays(answer(head(200, len(WHOLE)), WHOLE))
    with pytest.raises(ProviderError, match="no room"):
        relayed(server, charge_at(server, ledger), whole=4)
    (entry,) = ledger.entries(ALICE)
    assert (entry.cost, entry.ended) == (HI + 10 * -(-len(WHOLE) // 4), "partial")


# Streams, of which not all was read

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOLD = b"data: " + orjson.dumps({"id": "c", "choices": [], "usage": USAGE, "padding": "x" * 100}) + b"\n\n"


def begun(server: Server, ledger: Ledger, said: bytes) -> Stream:
    server.plays(answer(STREAM, said))
    charge = charge_at(server, ledger)
    body = relay.send(shared_pool(), charge, "POST", "/v1/x", [], b"{}", Client({})).body
    assert isinstance(body, Stream)
    return body


def test_the_usage_that_comes_as_the_caller_leaves_is_charged(server: Server, ledger: Ledger) -> None:
    stream = begun(server, ledger, TOLD)
    assert next(stream) == b""
    stream._left = True  # seen by the watch while the last chunk was on its way
    assert list(stream) == []
    assert [entry.cost for entry in ledger.entries(ALICE)] == [210]


def test_an_event_too_long_to_be_read_is_charged_as_if_all_of_it_were_text(
    server: Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 80)
    stream = begun(server, ledger, TOLD)
    assert TOLD in b"".join(stream)
    (entry,) = ledger.entries(ALICE)
    assert (entry.cost, entry.ended) == (HI + 10 * 80 // 4, "partial")
