"""The provider's stand-in keeps to its script, and says so when the code under test doesn't."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from billing import Billed
from fake_provider import DROP, RESET, Drip, FakeProvider, Gate
from wire import chunk, head

CHAT = "/v1/chat/completions"


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=10)
    yield connection
    connection.close()


def post(connection: http.client.HTTPConnection, target: str = CHAT) -> http.client.HTTPResponse:
    connection.request("POST", target, b'{"model": "m"}')
    return connection.getresponse()


def test_it_remembers_a_request_byte_for_byte(provider: FakeProvider, client: http.client.HTTPConnection) -> None:
    provider.answers("POST", CHAT, json={"id": "1"}, headers={"X-Request-Id": "req-1"})
    client.putrequest("POST", CHAT + "?a=%2F&a=%zz", skip_accept_encoding=True)
    client.putheader("Transfer-Encoding", "chunked")
    client.putheader("X-Twice", "one")
    client.putheader("x-twice", "two")
    client.endheaders([b'{"model"', b': "m"}'], encode_chunked=True)
    answer = client.getresponse()
    assert (answer.status, answer.headers["X-Request-Id"], answer.read()) == (200, "req-1", b'{"id": "1"}')
    request = provider.requests[0]
    assert (request.target, request.path) == (CHAT + "?a=%2F&a=%zz", CHAT)
    assert request.all("X-Twice") == ["one", "two"]
    assert request.json() == {"model": "m"}


def test_answers_are_used_in_order_on_one_connection(
    provider: FakeProvider, client: http.client.HTTPConnection
) -> None:
    provider.answers("POST", CHAT, status=429, json={"error": {}})
    provider.answers("POST", CHAT, sse=[{"n": 1}, b": a comment\n\n", "[DONE]"])
    assert post(client).read() == b'{"error": {}}'
    connected = client.sock
    answer = post(client)
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.read() == b'data: {"n": 1}\n\n: a comment\n\ndata: [DONE]\n\n'
    assert client.sock is connected


def test_a_gate_holds_an_answer_until_it_is_released(
    provider: FakeProvider, client: http.client.HTTPConnection
) -> None:
    provider.answers("POST", CHAT, sse=["one", Gate("half"), "two"])
    answer = post(client)
    assert answer.read1() == b"data: one\n\n"
    provider.reached("half")
    provider.release("half")
    assert answer.read() == b"data: two\n\n"


def test_a_client_that_leaves_is_noticed_while_a_gate_is_shut(
    provider: FakeProvider, client: http.client.HTTPConnection
) -> None:
    provider.answers("POST", CHAT, sse=["one", Gate("never"), "two"])
    answer = post(client)
    provider.reached("never")
    answer.close()
    client.close()
    assert provider.closed.wait().path == CHAT


def test_a_dropped_answer_ends_early(provider: FakeProvider, client: http.client.HTTPConnection) -> None:
    provider.answers("POST", CHAT, steps=[head(200, {"Content-Length": "100"}), b"short", DROP])
    with pytest.raises(http.client.IncompleteRead):
        post(client).read()


def test_a_reset_answer_ends_in_an_error(provider: FakeProvider, client: http.client.HTTPConnection) -> None:
    provider.answers("POST", CHAT, steps=[head(200, {"Transfer-Encoding": "chunked"}), chunk(b"half"), RESET])
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        post(client).read()


def test_what_differs_from_the_script_is_told_at_the_end() -> None:
    told = r"no answer was planned for GET /v1/files\?x=1; nobody asked .* POST /v1"
    with pytest.raises(AssertionError, match=told), FakeProvider() as provider:
        provider.answers("POST", CHAT, json={})
        client = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=10)
        client.request("GET", "/v1/files?x=1")
        assert client.getresponse().status == 599
        client.close()


def test_a_test_that_failed_keeps_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError), FakeProvider() as provider:
        provider.answers("POST", CHAT, json={})
        raise ZeroDivisionError


def test_two_hundred_clients_at_once_are_all_answered(provider: FakeProvider) -> None:
    provider.answers("POST", CHAT, sse=["one", Gate("together"), "[DONE]"], times=None)

    def one(_: int) -> bytes:
        connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=10)
        try:
            return post(connection).read()
        finally:
            connection.close()

    with ThreadPoolExecutor(200) as pool:
        answers = pool.map(one, range(200))
        provider.reached("together", times=200)
        provider.release("together")
        assert set(answers) == {b"data: one\n\ndata: [DONE]\n\n"}


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.com"])
def test_the_network_is_out_of_reach(host: str, forbidden_calls: list[str]) -> None:
    with pytest.raises(RuntimeError, match="network"):
        socket.create_connection((host, 80), timeout=10)
    assert forbidden_calls.pop().startswith(host)


@pytest.mark.parametrize("stream", [False, True])
def test_it_remembers_what_it_charges_for(
    provider: FakeProvider, client: http.client.HTTPConnection, stream: bool
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
    if stream:
        provider.answers("POST", CHAT, sse=[{"usage": None}, {"usage": usage}, "[DONE]"])
    else:
        provider.answers("POST", CHAT, json={"usage": usage})
    post(client).read()
    assert provider.billed == [Billed("m", 3, 5)]


@pytest.mark.parametrize("usage", [b'"usage": null', b'"usage": {"prompt_tokens": -1}', b'"usage": {"prompt_tokens'])
def test_it_charges_for_nothing_that_makes_no_sense(
    provider: FakeProvider, client: http.client.HTTPConnection, usage: bytes
) -> None:
    provider.answers("POST", CHAT, body=usage)
    post(client).read()
    assert provider.billed == []


def test_it_drips_until_the_other_side_hangs_up(provider: FakeProvider, client: http.client.HTTPConnection) -> None:
    provider.answers("POST", CHAT, steps=[head(200, {"Content-Length": "1000000"}), Drip(b"x")])
    answer = post(client)
    assert answer.read(3) == b"xxx"
    answer.close()
    client.close()
    assert provider.closed.wait().path == CHAT
