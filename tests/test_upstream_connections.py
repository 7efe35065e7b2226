"""Connections to providers: when they are used again, how they are made, and how long anything may take."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_google
import gevent.event
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from raw_server import LIMITS, OK, PATIENCE, WHOLE, Peer, Pieces, Script, Server, read, send, serve, shared_pool

from aipipe.errors import ProviderError, ProviderTimeout
from aipipe.upstream import Body, Limits, Pool


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def pool(server: Server) -> Iterator[Pool]:
    """Closed before the server: what it keeps would keep the server's threads."""
    yield shared_pool()
    shared_pool().close()


# Connections


def test_a_connection_is_used_again_when_its_answer_was_read_to_the_end(server: Server, pool: Pool) -> None:
    told = [
        told for told, _ in WHOLE.values() if b"HTTP/1.0" not in told and told != WHOLE["until the connection ends"][0]
    ]
    server.plays(serve(*told, OK))
    for _ in range(len(told) + 1):
        read(send(pool, server))
    assert server.done() == len(told) + 1
    assert server.accepted == 1


def test_after_a_head_alone_the_connection_is_left_to_those_who_send_the_body_too(server: Server, pool: Pool) -> None:
    server.plays(serve(OK), serve(OK))
    assert read(send(pool, server, "HEAD", body=None)) == b""
    assert read(send(pool, server)) == b"ok"
    assert server.accepted == 2


LAST = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "said so": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    "about to time out": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1, max=9\r\n\r\nok",
}


@pytest.mark.parametrize("told", LAST.values(), ids=LAST)
def test_a_connection_that_the_provider_will_close_is_not_used_again(told: bytes, server: Server, pool: Pool) -> None:
    server.plays(serve(told, OK), serve(OK))
    assert read(send(pool, server)) == b"ok"
    assert read(send(pool, server)) == b"ok"
    assert server.accepted == 2


@pytest.mark.parametrize(
    "told", ["timeout=5", "timeout=\xb2", "timeout=x", "max=5", "timeout=", ", ,=", "timeout=99999"]
)
def test_a_strange_keep_alive_does_no_harm(told: str, server: Server, pool: Pool) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: {told}\r\n\r\nok".encode("latin-1")
    server.plays(serve(head, head))
    assert read(send(pool, server)) == b"ok"
    assert read(send(pool, server)) == b"ok"
    assert server.accepted == 1


def test_a_connection_that_the_provider_closed_meanwhile_is_not_used(server: Server, pool: Pool) -> None:
    server.plays(serve(OK), serve(OK))
    read(send(pool, server))
    assert server.done() == 1  # it is closed now
    assert read(send(pool, server)) == b"ok"
    assert server.accepted == 2


def test_what_a_provider_sends_unasked_never_answers_the_next_request(server: Server, pool: Pool) -> None:
    unasked = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers"
    may_send, has_sent = threading.Event(), threading.Event()

    def play(peer: Peer) -> bytes:
        peer.request()
        peer.send(OK)
        assert may_send.wait(PATIENCE)
        peer.send(unasked)
        has_sent.set()
        return peer.gone()

    server.plays(play, serve(OK + unasked), serve(OK))
    assert read(send(pool, server)) == b"ok"
    may_send.set()
    assert has_sent.wait(PATIENCE)
    assert read(send(pool, server)) == b"ok"
    assert read(send(pool, server)) == b"ok"


def test_an_answer_that_was_not_read_to_its_end_closes_its_connection(server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> bytes:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello")
        return peer.gone()

    server.plays(play, serve(OK))
    found = send(pool, server)
    assert found.read() == b"hello"
    found.close()
    assert server.done() == b""
    assert read(send(pool, server)) == b"ok"
    assert server.accepted == 2


def test_a_pooled_connection_that_fails_is_not_tried_again_once_something_was_sent(server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> bytes:
        peer.request()
        peer.send(OK)
        return peer.request()[0]  # and hangs up

    server.plays(play, serve(OK))
    read(send(pool, server))
    with pytest.raises(ProviderError, match="broke off before it answered"):
        send(pool, server)
    assert server.done().startswith(b"POST")
    assert server.accepted == 1
    read(send(pool, server))  # takes the second script


def test_those_who_wait_at_the_same_time_have_connections_of_their_own(server: Server, pool: Pool) -> None:
    server.plays(serve(OK, OK), serve(OK, OK))
    first, second = send(pool, server), send(pool, server)
    assert (read(first), read(second)) == (b"ok", b"ok")
    first, second = send(pool, server), send(pool, server)
    assert (read(second), read(first)) == (b"ok", b"ok")
    assert server.accepted == 2


def test_idle_connections_of_another_provider_are_not_touched(server: Server, pool: Pool) -> None:
    other = Server()
    server.plays(serve(OK, OK))
    other.plays(serve(OK))
    read(send(pool, server))
    assert read(send(pool, other)) == b"ok"
    read(send(pool, server))
    assert (server.accepted, other.accepted) == (1, 1)
    pool.close()
    other.close()


def test_an_answer_can_be_hung_up_on_while_another_waits_for_it(server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> bytes:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        return peer.gone()

    server.plays(play)
    found = send(pool, server)
    assert found.read() == b"hi"
    hangs_up = threading.Thread(target=found.abort)
    hangs_up.start()
    with pytest.raises(ProviderError):
        found.read()
    assert server.done() == b""
    hangs_up.join(PATIENCE)
    found.abort()
    found.close()


# Connecting


@pytest.mark.parametrize(("failures", "succeeds"), [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize(
    ("failure", "status"), [(ConnectionRefusedError(), 502), (socket.gaierror(), 502), (TimeoutError(), 504)]
)
def test_a_failed_connect_is_tried_once_more(
    failures: int,
    succeeds: bool,
    failure: OSError,
    status: int,
    server: Server,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[Any] = []
    connect = socket.create_connection

    def unreliable(*arguments: Any, **named: Any) -> socket.socket:
        tries.append(arguments)
        if len(tries) <= failures:
            raise failure
        return connect(*arguments, **named)

    monkeypatch.setattr(socket, "create_connection", unreliable)
    if succeeds:
        server.plays(serve(OK))
        assert read(send(pool, server)) == b"ok"
    else:
        with pytest.raises(ProviderError, match="could not connect to provider") as caught:
            send(pool, server)
        assert caught.value.status == status
        assert getattr(caught.value, "billable", False) is False
        assert "127.0.0.1" not in caught.value.message
    assert len(tries) == min(failures + 1, 2)


def test_nobody_there_is_the_providers_error(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ProviderError, match="could not connect"):
        pool.send("provider", f"http://127.0.0.1:{port}", "GET", "/", [], None)


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """TLS with a certificate that nobody vouches for."""
    key = fake_google.key("somebody")
    private = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "server.pem").write_bytes(private + key.certificate.encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def test_nothing_is_sent_to_who_can_not_prove_who_it_is(certified: ssl.SSLContext, server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> bytes:
        peer.secure(certified)
        return peer.gone()

    server.plays(play, play)
    with pytest.raises(ProviderError, match="could not connect to provider"):
        pool.send("provider", server.url.replace("http:", "https:"), "GET", "/", [], None)
    assert [type(server.done()) for _ in range(2)] == [ssl.SSLError] * 2


def test_nothing_is_sent_to_who_does_not_speak_tls(server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> bytes:
        peer.send(OK)
        return peer.gone()

    server.plays(play, play)
    with pytest.raises(ProviderError, match="could not connect to provider"):
        pool.send("provider", server.url.replace("http:", "https:"), "GET", "/secret", [], None)
    assert not any(b"secret" in server.done() for _ in range(2))


# Time


def silent(told: bytes) -> Script:
    def play(peer: Peer) -> bytes:
        peer.request()
        peer.send(told)
        return peer.gone()

    return play


def dripping(told: bytes, drop: bytes) -> Script:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(told)
        peer.drip(drop)

    return play


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_SLOW: dict[str, tuple[dict[str, float], Script]] = {
    "no first byte": ({"first_byte": 0.05}, silent(b"")),
    "no more of the head": ({"first_byte": 0.05}, silent(b"HTTP/1.1 200 OK\r\n")),
    "no more of the body": ({"idle": 0.05}, silent(HEAD + b"x")),
    "no more in time for all": ({"request": 0.05}, silent(HEAD + b"x")),
    "a head for ever": ({"request": 0.1}, dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x")),
    "interim answers for ever": ({"request": 0.1}, dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    "a body for ever": ({"request": 0.1}, dripping(HEAD, b"x")),
    "chunks for ever": ({"request": 0.1}, dripping(CHUNKED, b"1\r\nx\r\n")),
    "one chunk's size for ever": ({"request": 0.1}, dripping(CHUNKED, b"0")),
    "trailers for ever": ({"request": 0.1}, dripping(CHUNKED + b"0\r\n", b"X: x\r\n")),
}


@pytest.mark.parametrize(("limits", "script"), TOO_SLOW.values(), ids=TOO_SLOW)
def test_each_limit_of_time_ends_what_takes_too_long(limits: dict[str, float], script: Script, server: Server) -> None:
    pool = Pool(replace(LIMITS, **limits))
    server.plays(script)
    with pytest.raises(ProviderTimeout) as caught:
        read(send(pool, server))
    assert caught.value.status == 504
    assert not isinstance(server.done(), Exception)


def test_a_connection_that_nobody_takes_ends_in_time() -> None:
    pool = Pool(replace(LIMITS, connect=0.05))
    with ThreadPoolExecutor(1) as threads, closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        address = listener.getsockname()
        with closing(socket.create_connection(address)):  # all that fits into its queue
            url = f"http://{address[0]}:{address[1]}"
            failure = threads.submit(pool.send, "provider", url, "GET", "/", [], None).exception(PATIENCE)
    assert isinstance(failure, ProviderTimeout)


def test_the_look_up_of_a_name_is_a_part_of_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gevent.event.Event().wait(PATIENCE))
    with pytest.raises(ProviderTimeout):
        Pool(replace(LIMITS, connect=0.05)).send("provider", "http://example.com", "GET", "/", [], None)


def test_a_request_that_was_sent_may_be_billed_though_no_answer_came(server: Server) -> None:
    pool = Pool(replace(LIMITS, first_byte=0.05))
    server.plays(silent(b""))
    with pytest.raises(ProviderTimeout) as caught:
        send(pool, server)
    assert caught.value.billable is True


@pytest.mark.parametrize("body", [b"x" * 30_000_000, Pieces(30_000_000, [b"x" * 30_000] * 1000)])
def test_a_request_that_nobody_takes_is_not_billed(body: Body, server: Server) -> None:
    pool = Pool(replace(LIMITS, idle=0.1))
    go_on = threading.Event()
    server.plays(lambda peer: go_on.wait(PATIENCE))
    with pytest.raises(ProviderTimeout) as caught:
        send(pool, server, body=body)
    go_on.set()
    assert caught.value.billable is False


def test_a_limit_for_one_step_does_not_end_another(server: Server) -> None:
    pool = Pool(Limits(connect=0.2, first_byte=PATIENCE, idle=PATIENCE, request=PATIENCE))
    go_on = threading.Event()

    def play(peer: Peer) -> None:
        peer.request()
        go_on.wait(0.3)
        peer.send(OK)

    server.plays(play)
    assert read(send(pool, server)) == b"ok"
    pool.close()
