"""Requests to providers, against a server that does whatever it likes: bytes as they are, failures as our errors."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fake_google
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aipipe.errors import InvalidRequest, ProviderError, ProviderTimeout
from aipipe.upstream import Answer, Body, Headers, Limits, Pool

PATIENCE = 10.0
LIMITS = Limits(connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE, request=PATIENCE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """The provider's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self._connection = connection
        self._buffer = b""

    def request(self) -> tuple[bytes, bytes]:
        """The head and the body of the next request, as they came. Raises EOFError when there is none."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len")]
        while len(self._buffer) < sum(length):
            self._more()
        body, self._buffer = self._buffer[: sum(length)], self._buffer[sum(length) :]
        return head, body

    def _more(self) -> None:
        chunk = self._connection.recv(65_536)
        if not chunk:
            raise EOFError(self._buffer)
        self._buffer += chunk

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._connection.sendall(piece)

    def drip(self, piece: bytes) -> None:
        """Sends the piece again and again, until the other side hangs up."""
        pause = threading.Event()
        with suppress(OSError):
            while not pause.wait(0.01):
                self._connection.sendall(piece)

    def secure(self, context: ssl.SSLContext) -> None:
        self._connection = context.wrap_socket(self._connection, server_side=True)

    def gone(self) -> bytes:
        """What comes until the other side hangs up."""
        with suppress(EOFError, ConnectionError):
            while True:
                self._more()
        return self._buffer

    def close(self) -> None:
        self._connection.close()


Script = Callable[[Peer], Any]


def answer(*pieces: bytes) -> Script:
    """One request, one answer; then the connection ends."""

    def play(peer: Peer) -> bytes:
        head, _ = peer.request()
        peer.send(*pieces)
        return head

    return play


class Server:
    """Plays a script for each connection, in their order. What a script returned is got from `done`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._done: queue.Queue[Any] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self.accepted = 0

    def plays(self, *scripts: Script) -> None:
        self._start(lambda: self._accept(scripts))

    def _start(self, work: Callable[[], object]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _accept(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._start(partial(self._play, script, Peer(connection)))

    def _play(self, script: Script, peer: Peer) -> None:
        try:
            found = script(peer)
        except Exception as error:
            found = error
        peer.close()
        self._done.put(found)

    def done(self) -> Any:
        """What the next script that ended has returned or raised; its connection is closed."""
        return self._done.get(timeout=PATIENCE)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def shared_pool() -> Pool:
    return Pool(LIMITS)  # it reads all the certificates there are, which takes its time


@pytest.fixture
def pool(server: Server, shared_pool: Pool) -> Iterator[Pool]:
    """Closed before the server: what it keeps would keep the server's threads."""
    yield shared_pool
    shared_pool.close()


def send(
    pool: Pool,
    server: Server,
    method: str = "POST",
    target: str = "/v1/x",
    headers: Headers | None = None,
    body: Body | None = b"{}",
    base: str = "",
) -> Answer:
    return pool.send("provider", server.url + base, method, target, headers or [], body)


def read(answer: Answer) -> bytes:
    """The whole of an answer, whose connection is given back."""
    try:
        return b"".join(iter(answer.read, b""))
    finally:
        answer.close()


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


@dataclass
class Pieces:
    """A body that is read as it is sent."""

    size: int
    pieces: list[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


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
    server.plays(Peer.gone)
    with pytest.raises(InvalidRequest):
        send(pool, server, **request_)
    assert server.done() == b""


# What comes back

WHOLE = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
        b"hello",
    ),
    "chunked, whatever the length says": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "until the connection ends": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "by HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "empty chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 9\r\n\r\n', b""),
    "with line feeds alone": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello"),
    "after an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    "after several interim answers": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
        b"ok",
    ),
}


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


# Connections


def serve(*answers: bytes) -> Script:
    """Several requests on one connection; returns how many came."""

    def play(peer: Peer) -> int:
        for number, each in enumerate(answers):
            try:
                peer.request()
            except EOFError:
                return number
            peer.send(each)
        return len(answers)

    return play


def test_a_connection_is_used_again_when_its_answer_was_read_to_the_end(server: Server, pool: Pool) -> None:
    told = [
        told for told, _ in WHOLE.values() if b"HTTP/1.0" not in told and told != WHOLE["until the connection ends"][0]
    ]
    server.plays(serve(*told, OK))
    for _ in range(len(told) + 1):
        read(send(pool, server))
    assert server.done() == len(told) + 1
    assert server.accepted == 1


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

    server.plays(play, serve(OK + unasked, OK))
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
