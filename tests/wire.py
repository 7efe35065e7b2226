"""HTTP/1.1 as a fake server needs it: requests read byte for byte, answers written as they are told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import responses
from typing import Any

MAX_HEAD_BYTES = 65_536
PATIENCE = 10.0  # seconds, for anything that is waited for


@dataclass(frozen=True)
class Received:
    """A request as it came. `target` is the raw path and query; header names keep their case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of the only header of that name, or None."""
        found = self.all(name)
        if len(found) > 1:
            raise AssertionError(f"{self.method} {self.target} came with {name} {len(found)} times")
        return found[0] if found else None


def chunk(content: bytes) -> bytes:
    """One chunk of a chunked body. An empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} {responses.get(status, 'Scripted')}", *lines, "", ""]).encode("latin-1")


def requests(connection: socket.socket) -> Iterator[Received]:
    """The requests that come on a connection, until it ends."""
    stream = _Stream(connection)
    while True:
        connection.settimeout(None)
        stream.more()
        connection.settimeout(PATIENCE)
        first, *lines = stream.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        fields = {name.lower(): value for name, value in headers}
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join(_chunks(stream))
        else:
            body = stream.take(int(fields.get("content-length", 0)))
        yield Received(method, target, headers, body)


def _chunks(stream: _Stream) -> Iterator[bytes]:
    while size := int(stream.until(b"\r\n").partition(b";")[0], 16):
        yield stream.take(size)
        stream.until(b"\r\n")
    stream.until(b"\r\n")


class _Stream:
    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._buffer = connection, b""

    def more(self) -> None:
        """Waits for bytes unless there are some left. Raises EOFError at the end."""
        if not self._buffer:
            self._receive()

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ValueError("a head or line of a request that never ends")
            self._receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def take(self, size: int) -> bytes:
        pieces = [self._buffer]
        missing = size - len(self._buffer)
        while missing > 0:
            self._buffer = b""
            self._receive()
            pieces.append(self._buffer)
            missing -= len(self._buffer)
        whole = b"".join(pieces)
        self._buffer = whole[size:]
        return whole[:size]

    def _receive(self) -> None:
        received = self._connection.recv(65_536)
        if not received:
            raise EOFError
        self._buffer += received
