"""The load: requests and streams over connections that are kept, from one event loop. Answers that are wrong end it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.servers import HOST, Failed, Server

PATIENCE = 120.0  # seconds for a round
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SENT = re.compile(rb'"sent": ?(\d+)')
_ERROR = re.compile(rb'^data: ?{"(message|error)"', re.MULTILINE)


def request(server: Server, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a request."""
    told = {"Host": f"{HOST}:{server.port}", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [
        f"POST {server.path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in (told | server.headers | (headers or {})).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One connection, on which one answer at a time is awaited. `taken` is given what comes of a stream."""

    def __init__(self, taken: Callable[[bytes], None] | None = None) -> None:
        self._taken = taken
        self._came = bytearray()
        self._size: int | None = None
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, data: bytes) -> asyncio.Future[bytes]:
        """The whole answer to a request, head included. Raises Failed unless that is 200 and complete."""
        self._came.clear()
        self._size = None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._came += data
        if self._taken:
            self._taken(data)
        if self._size is None:
            self._begin()
        if self._size is not None and (len(self._came) == self._size if self._size else self._ends()):
            self._done()

    def _begin(self) -> None:
        """The head, once it is there. A size of 0 stands for an answer in chunks."""
        end = self._came.find(b"\r\n\r\n")
        if end >= 0 and not self._came.startswith(b"HTTP/1.1 200 "):
            self._fail(bytes(self._came[:1000]))
        elif end >= 0:
            length = _LENGTH.search(self._came, 0, end)
            self._size = end + 4 + int(length[1]) if length else 0

    def _ends(self) -> bool:
        return self._came.endswith(b"\r\n0\r\n\r\n")

    def _done(self) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(bytes(self._came))

    def _fail(self, what: bytes) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(Failed(what.decode(errors="replace")))

    def connection_lost(self, _reason: Exception | None) -> None:
        self._fail(b"hung up in the middle of an answer: " + bytes(self._came[-300:]))

    def close(self) -> None:
        self._transport.close()


async def connect(server: Server, taken: Callable[[bytes], None] | None = None) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(taken), HOST, server.port)
    return connection


def one(server: Server, body: bytes) -> bytes:
    """The body of the answer to one request."""
    answer: list[bytes] = []

    async def ask() -> None:
        connection = await connect(server)
        answer.append(await connection.ask(request(server, body)))
        connection.close()

    run(ask())
    head, _, content = answer[0].partition(b"\r\n\r\n")
    return content if _LENGTH.search(head) else unchunked(content)


def unchunked(content: bytes) -> bytes:
    pieces, at = [], 0
    while size := int(content[at : (start := content.index(b"\r\n", at))], 16):
        pieces.append(content[start + 2 : start + 2 + size])
        at = start + size + 4
    return b"".join(pieces)


@dataclass(slots=True)
class Requests:
    """What a round of requests took: seconds on the clock, of the server's CPU, and for each."""

    seconds: float
    cpu: float
    latencies: list[float]


def requests(server: Server, body: bytes, count: int, connections: int) -> Requests:
    """Sends `count` requests, a new one as soon as one is answered, on each of some connections."""
    data = request(server, body)
    left = iter(range(count))
    latencies: list[float] = []

    async def one() -> None:
        connection = await connect(server)
        for _ in left:
            begun = time.perf_counter()
            await connection.ask(data)
            latencies.append(time.perf_counter() - begun)
        connection.close()

    begun, cpu = time.perf_counter(), server.cpu()
    run(*(one() for _ in range(connections)))
    return Requests(time.perf_counter() - begun, server.cpu() - cpu, latencies)


@dataclass(slots=True)
class Streams:
    """What a round of streams took: the server's CPU in seconds, and the seconds that each chunk was on its way."""

    cpu: float = 0.0
    delays: list[float] = field(default_factory=list)

    @property
    def chunks(self) -> int:
        return len(self.delays)

    def taken(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.delays.extend((now - int(sent[1])) / 1e9 for sent in _SENT.finditer(data))


def streams(
    server: Server, requests: Iterable[bytes], chunks: int, open_all: Callable[[], None] | None = None
) -> Streams:
    """Opens a stream for each request at once and reads them to their ends; `open_all` is called half-way through."""
    found = Streams()
    asked = list(requests)

    async def one(data: bytes) -> None:
        connection = await connect(server, found.taken)
        answer = await connection.ask(data)
        if b"data: [DONE]" not in answer or _ERROR.search(answer):
            raise Failed(answer[-500:].decode(errors="replace"))
        connection.close()

    async def look() -> None:
        while found.chunks < len(asked) * chunks // 2:
            await asyncio.sleep(0.01)
        if open_all:
            open_all()

    cpu = server.cpu()
    run(look(), *(one(data) for data in asked))
    found.cpu = server.cpu() - cpu
    if found.chunks != len(asked) * chunks:
        raise Failed(f"{server.name} passed {found.chunks} chunks on instead of {len(asked) * chunks}")
    return found


def run(*tasks: Coroutine[Any, Any, None]) -> None:
    """Runs coroutines together, not for ever."""

    async def together() -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)

    asyncio.run(together())
