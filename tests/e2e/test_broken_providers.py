"""Providers that break off, fall silent or talk nonsense: what the caller sees, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from fake_provider import DROP, RESET, Drip, Ending, Gate
from wire import chunk, head

from e2e import willing
from e2e.answers import CHAT, COMMENT, COST, answer, end, event, piece, question
from e2e.calls import ask, calling, sdk
from e2e.conftest import Site, running
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def impatient_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"AIPIPE_FIRST_BYTE_TIMEOUT": 2, "AIPIPE_IDLE_TIMEOUT": 2, "AIPIPE_REQUEST_TIMEOUT": 3}
    with running(tmp_path_factory.mktemp("impatient"), **settings) as site:
        yield site


@pytest.fixture
def impatient(impatient_site: Site) -> Iterator[Site]:
    """A server that waits two seconds, but no longer, for whatever a provider says next; and three for all of it."""
    yield impatient_site
    impatient_site.check()


def partial(server: Server, caller: Caller, output_tokens: int) -> None:
    entry = server.entry(caller)
    assert (entry.ended, entry.output_tokens) == ("partial", output_tokens)
    assert entry.input_tokens > 0
    assert entry.cost == entry.input_tokens * 1_000 + output_tokens * 2_000


@pytest.mark.parametrize("ending", [DROP, RESET], ids=["drop", "reset"])
def test_a_stream_that_is_cut_off_ends_with_an_error_that_the_sdk_understands(
    site: Site, alice: Caller, ending: Ending
) -> None:
    site.provider.answers("POST", CHAT, sse=[piece("Hello"), ending])
    with (
        sdk(site.server, alice, "openai") as client,
        client.chat.completions.create(**question(stream=True)) as stream,
    ):
        assert next(stream).choices[0].delta.content == "Hello"
        with pytest.raises(openai.APIError, match="broke off"):
            next(stream)
    partial(site.server, alice, 2)


@pytest.mark.parametrize("ending", [DROP, RESET], ids=["drop", "reset"])
def test_a_stream_that_is_cut_off_is_never_called_done(site: Site, alice: Caller, ending: Ending) -> None:
    site.provider.answers("POST", CHAT, sse=[piece("Hello"), b'data: {"choices": [{"del', ending])
    body = ask(site.server, f"/openai{CHAT}", alice, question(stream=True)).body
    assert b"[DONE]" not in body
    assert body.rpartition(b"\n\ndata: ")[2].startswith(b'{"error":{"message":"openai ')
    partial(site.server, alice, 2)


def test_a_provider_that_falls_silent_is_hung_up_on_and_its_stream_ends_with_an_error(impatient: Site) -> None:
    alice = impatient.server.caller()
    impatient.provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("silent for ever")])
    with (
        sdk(impatient.server, alice, "patient") as client,
        client.chat.completions.create(**question(stream=True)) as stream,
    ):
        assert next(stream).choices[0].delta.content == "Hello"
        with pytest.raises(openai.APIError, match="stopped answering"):
            next(stream)
    impatient.provider.closed.wait()
    partial(impatient.server, alice, 2)


def test_a_provider_that_drips_for_ever_is_hung_up_on_and_its_stream_ends_with_an_error(impatient: Site) -> None:
    alice = impatient.server.caller()
    impatient.provider.answers("POST", CHAT, sse=[piece("Hello"), Drip(chunk(b": still thinking\n\n"))])
    body = ask(impatient.server, f"/openai{CHAT}", alice, question(stream=True)).body
    assert body.count(b": still thinking") > 100
    assert body.rpartition(b"\n\ndata: ")[2].startswith(b'{"error":{"message":"openai stopped answering')
    impatient.provider.closed.wait()
    partial(impatient.server, alice, 2)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_an_answer_that_comes_byte_by_byte_is_whole(site: Site, alice: Caller, stream: bool) -> None:
    told, *rest = willing.stream() if stream else willing.whole(answer())
    site.provider.answers("POST", CHAT, steps=[told, *(bytes([byte]) for step in rest for byte in step)])
    body = ask(site.server, f"/openai{CHAT}", alice, question(stream=stream)).body
    if stream:  # the cost goes in front of the last event, or behind it where that had begun to leave
        assert COMMENT.subn(b"", body) == (b"".join(map(event, [piece("Hello"), *end()])), 1)
    else:
        assert body == json.dumps(answer()).encode()
    entry = site.server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)


def test_a_stream_cut_off_after_its_last_event_is_whole(site: Site, alice: Caller) -> None:
    site.provider.answers("POST", CHAT, sse=[piece("Hello"), *end(), DROP])
    body = ask(site.server, f"/openai{CHAT}", alice, question(stream=True)).body
    assert body.endswith(b"data: [DONE]\n\n")
    entry = site.server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)


def test_no_answer_in_time_is_a_504(impatient: Site) -> None:
    alice = impatient.server.caller()
    impatient.provider.answers("POST", CHAT, steps=[Gate("silent for ever")])
    received = ask(impatient.server, f"/openai{CHAT}", alice, question())
    assert (received.status, received.json()["error"]["type"]) == (504, "provider_error")
    impatient.provider.closed.wait()
    partial(impatient.server, alice, 0)  # the provider had the whole request, and may bill it


def test_an_answer_that_stops_halfway_is_a_504(impatient: Site) -> None:
    alice = impatient.server.caller()
    start = [head(200, {"Content-Type": "application/json", "Content-Length": "1000"}), b'{"id": ']
    impatient.provider.answers("POST", CHAT, steps=[*start, Gate("silent for ever")])
    assert ask(impatient.server, f"/openai{CHAT}", alice, question()).status == 504
    impatient.provider.closed.wait()
    partial(impatient.server, alice, 2)  # for the seven bytes that came


def test_an_answer_shorter_than_its_length_is_a_502(site: Site, alice: Caller) -> None:
    start = [head(200, {"Content-Type": "application/json", "Content-Length": "1000"}), b'{"id": ']
    site.provider.answers("POST", CHAT, steps=[*start, DROP])
    assert ask(site.server, f"/openai{CHAT}", alice, question()).status == 502
    partial(site.server, alice, 2)  # for the seven bytes that came


def test_an_answer_longer_than_its_length_is_cut_there_and_what_follows_is_nobodys_answer(
    site: Site, alice: Caller
) -> None:
    bob = site.server.caller("bob@example.com")
    body = json.dumps(answer()).encode()
    lie = head(200, {"Content-Type": "application/json", "Content-Length": "20"})
    smuggled = head(200, {"Content-Length": "8"}) + b"smuggled"
    site.provider.answers("POST", CHAT, steps=[lie + body + smuggled])
    site.provider.answers("POST", CHAT, json=answer())
    assert ask(site.server, f"/openai{CHAT}", alice, question()).body == body[:20]
    assert site.server.entry(alice).ended == "partial"
    assert ask(site.server, f"/openai{CHAT}", bob, question()).json() == answer()
    assert site.server.entry(bob).cost == COST


def test_a_stream_shorter_than_its_length_is_whole_if_its_last_event_has_come(site: Site, alice: Caller) -> None:
    events = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode() for each in end()]
    lie = head(200, {"Content-Type": "text/event-stream", "Content-Length": "100000"})
    site.provider.answers("POST", CHAT, steps=[lie, *events, DROP])
    received = ask(site.server, f"/openai{CHAT}", alice, question(stream=True))
    assert received.body.endswith(b"data: [DONE]\n\n")
    entry = site.server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)


def test_a_stream_longer_than_its_length_is_cut_there_and_is_never_free(site: Site, alice: Caller) -> None:
    event = f"data: {json.dumps(piece('Hello'))}\n\n".encode()
    lie = head(200, {"Content-Type": "text/event-stream", "Content-Length": str(len(event))})
    site.provider.answers("POST", CHAT, steps=[lie + event + b"data: [DONE]\n\n"])
    body = ask(site.server, f"/openai{CHAT}", alice, question(stream=True)).body
    assert body.startswith(event)
    assert b"[DONE]" not in body
    partial(site.server, alice, 2)


@pytest.mark.parametrize("first", [DROP, b"", b"SMTP ready\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_provider_that_speaks_no_http_is_a_502_and_costs_nothing(
    site: Site, alice: Caller, first: Ending | bytes
) -> None:
    site.provider.answers("POST", CHAT, steps=[first, DROP])
    received = ask(site.server, f"/openai{CHAT}", alice, question())
    assert (received.status, received.json()["error"]["type"]) == (502, "provider_error")
    assert site.server.ledger.entries(alice.email) == []


def test_a_provider_that_takes_no_connection_is_a_502_and_costs_nothing(site: Site, alice: Caller) -> None:
    received = ask(site.server, f"/nowhere{CHAT}", alice, question())
    assert (received.status, received.json()["error"]["type"]) == (502, "provider_error")
    assert "could not connect to nowhere" in received.json()["message"]
    assert site.server.ledger.entries(alice.email) == []
    assert site.server.ledger.holds() == []


@pytest.mark.parametrize(
    "odd", [b"X-Odd: a\r\n folded line", b"X-Odd: bell \x07", b"X Odd: a name", b"X-Odd: \xf0\x9f\x98\x80", b"no colon"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_odd_headers_of_a_provider_do_no_harm(site: Site, alice: Caller, odd: bytes, stream: bool) -> None:
    kind = b"text/event-stream" if stream else b"application/json"
    start = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nX-First: 1\r\n" + odd + b"\r\n"
    content = b"data: [DONE]\n\n" if stream else b'{"usage": {"prompt_tokens": 10, "completion_tokens": 20}}'
    site.provider.answers("POST", CHAT, steps=[start + b"Connection: close\r\n\r\n", content, DROP])
    received = ask(site.server, f"/openai{CHAT}", alice, question(stream=stream))
    assert (received.status, received.headers["x-first"]) == (200, "1")
    assert content.removesuffix(b"data: [DONE]\n\n") in received.body
    assert site.server.entry(alice).status == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>down for maintenance</html>"),
        ("application/json", b'{"id": "cut o'),
        ("application/json", b"[1, 2]"),
        ("application/json", b'{"usage": {"prompt_tokens": "many"}, "choices": 7}'),
        ("application/json", b'{"usage": {"prompt_tokens": -5, "completion_tokens": -5}}'),
        ("application/json", b""),
        ("application/json", b'{"usage": {"prompt_tokens": 1e400, "completion_tokens": 20}}'),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"id": "\\ud800", "usage": {"prompt_tokens": NaN}}'),
        ("application/json", b"\xff\xfe\x00"),
    ],
)
def test_nonsense_that_is_called_an_answer_passes_and_is_never_free(
    site: Site, alice: Caller, kind: str, body: bytes
) -> None:
    site.provider.answers("POST", CHAT, headers={"Content-Type": kind}, body=body)
    received = ask(site.server, f"/openai{CHAT}", alice, question())
    assert (received.status, received.body) == (200, body)
    entry = site.server.entry(alice)
    assert (entry.ended, entry.cost > 0) == ("partial", True)


def test_after_all_of_that_the_server_answers(site: Site, alice: Caller) -> None:
    site.provider.answers("POST", CHAT, json=answer())
    with calling(site.server, f"/openai{CHAT}", alice, question()) as call:
        assert call.received().json() == answer()
    assert site.server.entry(alice).cost == COST
