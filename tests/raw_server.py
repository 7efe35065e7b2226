"""A server that does whatever it likes on each connection, byte by byte, and what a test asks it with."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from aipipe.upstream import Answer, Body, Headers, Limits, Pool

PATIENCE = 10.0
LIMITS = Limits(connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE, request=PATIENCE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


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


@dataclass
class Pieces:
    """A body that is read as it is sent."""

    size: int
    pieces: list[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)


@cache
def shared_pool() -> Pool:
    """Making one reads all the certificates there are, which takes its time."""
    return Pool(LIMITS)


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
