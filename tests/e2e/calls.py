"""Clients: plain HTTP that shows every byte, the `openai` SDK, and a socket for what no client would send."""

from __future__ import annotations

import http.client
import json as jsonlib
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import psutil
from openai import OpenAI

from e2e.server import HOST, PATIENCE, Caller, Server

Headers = Mapping[str, str]
Body = bytes | Iterable[bytes]  # an iterable is sent in chunks


@dataclass(frozen=True)
class Received:
    """An answer that was read to its end. Header names are in lower case; of equal ones the last counts."""

    status: int
    headers: dict[str, str]
    pairs: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return jsonlib.loads(self.body)


class Call:
    """A request under way on a connection of its own: read it, or leave."""

    def __init__(
        self, server: Server, method: str, target: str, caller: Caller | None, body: Body | None, headers: Headers
    ) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
        self._connection.connect()
        self.socket: socket.socket = self._connection.sock  # the connection forgets it with its last answer's head
        own = {"Authorization": f"Bearer {caller.token}"} if caller else {}
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.request(method, target, body, {**own, **headers})
        except BaseException:  # the server may have died in between
            self._connection.close()
            raise
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        """Its head, as soon as that is here."""
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    def line(self) -> bytes:
        """The next line that isn't empty, as soon as it is here; nothing at the end."""
        while True:
            line = self.response.readline()
            if line != b"\n":
                return line

    def received(self) -> Received:
        """The rest of the answer."""
        body = self.response.read()
        pairs = self.response.getheaders()
        return Received(self.response.status, {name.lower(): value for name, value in pairs}, pairs, body)

    def leave(self, *, reset: bool = False) -> None:
        """Hangs up with a farewell or, as browsers and crashes do, with a reset."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._response is not None:
            self._response.close()
        self._connection.close()


@contextmanager
def calling(
    server: Server,
    target: str,
    caller: Caller | None = None,
    json: Any = None,
    *,
    method: str | None = None,
    headers: Headers = MappingProxyType({}),
    body: Body | None = None,
) -> Iterator[Call]:
    """A request that has left, and whose answer isn't waited for. With a `json` or a `body` it is a POST."""
    if json is not None:
        body, headers = jsonlib.dumps(json).encode(), {"Content-Type": "application/json", **headers}
    call = Call(server, method or ("GET" if body is None else "POST"), target, caller, body, headers)
    try:
        yield call
    finally:
        call.leave()


def ask(server: Server, target: str, caller: Caller | None = None, json: Any = None, **rest: Any) -> Received:
    """A request and its answer."""
    with calling(server, target, caller, json, **rest) as call:
        return call.received()


def sdk(server: Server, caller: Caller, provider: str, **options: Any) -> OpenAI:
    """The `openai` SDK as README tells to set it up. It tries again what may be tried again."""
    return OpenAI(base_url=f"{server.url}/{provider}/v1", api_key=caller.token, timeout=PATIENCE, **options)


def written(caller: Caller, method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A request as it is written, for a connection that ends with its answer."""
    own = ["Host: x", f"Authorization: Bearer {caller.token}", "Connection: close"]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *own, *headers, "", ""]).encode("latin-1") + body


def raw(server: Server, message: bytes, *, half_close: bool = False) -> bytes:
    """Sends bytes as they are and returns all that comes back until the server hangs up."""
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as connection:
        found = b""
        with suppress(ConnectionError):  # it hung up on more than it cared to read
            connection.sendall(message)
            if half_close:
                with suppress(OSError):  # unless the other side has closed both ways
                    connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                found += piece
        return found


def answering(server: Server) -> psutil.Process:
    """A worker that answers just now."""
    with calling(server, "/healthz") as call:
        assert call.received().status == 200
        return server.worker_of(call.socket)
