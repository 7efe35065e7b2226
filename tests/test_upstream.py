"""Requests to providers: what goes out and comes back, byte for byte, and what is refused either way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from raw_server import OK, PATIENCE, WHOLE, Peer, Pieces, Server, answer, read, send, shared_pool

from aipipe.errors import InvalidRequest, ProviderError
from aipipe.upstream import Body, Pool


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


# What goes out


@pytest.mark.parametrize(
    "target",
    [
        "/v1/chat/completions",
        "/v1/a%2Fb/%C3%A9/%e2%82%ac?x=%20&y=a+b&z=%2B",
        "//v1/../v1/./x;p=1?a=b?c=d//",
        "/v1/m:generate?alt=sse&a[]='\"<>^`{|}",
        "?only=query",
        "",
    ],
)
@pytest.mark.parametrize("base", ["", "/api", "/v1beta/%7Euser"])
def test_the_target_goes_out_byte_for_byte(target: str, base: str, server: Server, pool: Pool) -> None:
    server.plays(answer(OK))
    assert read(send(pool, server, target=target, base=base)) == b"ok"
    assert server.done().split(b"\r\n")[0] == b"POST %b HTTP/1.1" % ((base + target) or "/").encode()


def test_headers_go_out_as_they_are_and_none_is_added_but_host_and_length(server: Server, pool: Pool) -> None:
    server.plays(answer(OK))
    headers = [("X-Twice", "1"), ("x-twice", "2"), ("X-Empty", ""), ("X-Name", "Zo\xeb \xa3")]
    read(send(pool, server, headers=headers, body=b"{}"))
    lines = server.done().split(b"\r\n")[1:]
    assert lines == [
        b"Host: 127.0.0.1:%d" % server.address[1],
        b"X-Twice: 1",
        b"x-twice: 2",
        b"X-Empty: ",
        b"X-Name: Zo\xeb \xa3",
        b"Content-Length: 2",
    ]


@pytest.mark.parametrize(
    ("body", "arrives"),
    [(b"", b""), (b"\x00\xff\r\n\r\n", b"\x00\xff\r\n\r\n"), (Pieces(5, [b"ab", b"", b"cde"]), b"abcde")],
)
def test_a_body_goes_out_with_its_length(body: Body, arrives: bytes, server: Server, pool: Pool) -> None:
    def play(peer: Peer) -> tuple[bytes, bytes]:
        found = peer.request()
        peer.send(OK)
        return found

    server.plays(play)
    read(send(pool, server, body=body))
    head, sent = server.done()
    assert head.endswith(b"\r\nContent-Length: %d" % len(arrives))
    assert sent == arrives


def test_without_a_body_there_is_no_length(server: Server, pool: Pool) -> None:
    server.plays(answer(OK))
    read(send(pool, server, method="GET", body=None))
    assert b"Content-Length" not in server.done()


REFUSED: dict[str, dict[str, Any]] = {
    "line feed in a value": {"headers": [("X-A", "a\nX-B: b")]},
    "CRLF in a value": {"headers": [("X-A", "a\r\nX-B: b")]},
    "CR in a value": {"headers": [("X-A", "a\rb")]},
    "a folded line": {"headers": [("X-A", "a\r\n b")]},
    "null in a value": {"headers": [("X-A", "a\0b")]},
    "space in a name": {"headers": [("X A", "b")]},
    "no name": {"headers": [("", "b")]},
    "null in a name": {"headers": [("X\0A", "a")]},
    "CRLF in a name": {"headers": [("X-A: a\r\nX-B", "b")]},
    "colon in a name": {"headers": [("X:A", "b")]},
    "beyond Latin-1": {"headers": [("X-A", "€")]},
    "space in the target": {"target": "/v1/x HTTP/1.1"},
    "CRLF in the target": {"target": "/v1/x\r\nX-A: a"},
    "null in the target": {"target": "/v1/x\0"},
    "target beyond ASCII": {"target": "/v1/é"},
    "CRLF in the method": {"method": "GET / HTTP/1.1\r\nX-A: a\r\n\r\n"},
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_http_does_not_allow_is_refused_and_nothing_is_sent(
    request_: dict[str, Any], server: Server, pool: Pool
) -> None:
    with pytest.raises(InvalidRequest):
        send(pool, server, **request_)
    assert server.accepted == 0


# What comes back


@pytest.mark.parametrize("cut", [None, 1])
@pytest.mark.parametrize(("told", "body"), WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_is_read_however_it_is_delimited_and_cut(
    told: bytes, body: bytes, cut: int | None, server: Server, pool: Pool
) -> None:
    server.plays(answer(*([told] if cut is None else [bytes([byte]) for byte in told])))
    found = send(pool, server)
    assert read(found) == body
    assert found.status == int(told.rpartition(b"HTTP/1.")[2][2:5])


def test_bytes_are_passed_on_as_soon_as_they_are_there(server: Server, pool: Pool) -> None:
    go_on = threading.Semaphore(0)

    def play(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
            assert go_on.acquire(timeout=PATIENCE)
            peer.send(piece)

    server.plays(play)
    found = send(pool, server)
    for expected in (b"one", b"two", b""):
        go_on.release()
        assert found.read() == expected
    found.close()
    assert server.done() is None


def test_headers_come_back_as_they_were(server: Server, pool: Pool) -> None:
    server.plays(answer(b"HTTP/1.1 418 No\r\nX-A: 1\r\nx-a: Zo\xeb\r\nContent-Length: 0\r\n\r\n"))
    found = send(pool, server)
    assert found.status == 418
    assert found.headers == [("X-A", "1"), ("x-a", "Zo\xeb"), ("Content-Length", "0")]
    assert found.header("X-Missing") == ""
    read(found)


NO_ANSWER = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no HTTP": b"SSH-2.0-OpenSSH_9.7\r\n",
    "no status": b"HTTP/1.1 hello\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "another version": b"HTTP/2 200 OK\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 " + b"x" * 70_000,
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    "interim answers alone": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3,
}


@pytest.mark.parametrize("told", NO_ANSWER.values(), ids=NO_ANSWER)
def test_what_is_no_answer_is_the_providers_error_and_is_not_tried_again(
    told: bytes, server: Server, pool: Pool
) -> None:
    server.plays(answer(told))
    with pytest.raises(ProviderError, match="provider broke off"):
        send(pool, server)
    assert server.done().startswith(b"POST /v1/x")
    assert server.accepted == 1


BROKEN = {
    "less than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\nhello",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "no chunk at all": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n\r\n",
}


@pytest.mark.parametrize("told", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_breaks_off_is_told_apart_from_a_whole_one(told: bytes, server: Server, pool: Pool) -> None:
    server.plays(answer(told))
    found = send(pool, server)
    assert found.read() == b"hello"
    with pytest.raises(ProviderError, match="broke off in the middle"):
        while found.read():
            pass
    found.close()
