"""A provider that answers at once, in a process of its own: `python -m benchmarks.upstream PORT`.

It must be far faster than what it is put behind, so it reads no more of a request than where it ends and what for.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import random
import re
import struct
import sys

from benchmarks import answers

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PACE = re.compile(rb'"user": ?"(\d+)x(\d+)ms"')  # how many chunks, and how long between two
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_WHOLE = answers.whole()
_JSON = _HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n%s"
DIMENSIONS = 1536


@functools.cache
def embedding(number: int) -> str:
    """The embedding of a text, in base64."""
    numbers = random.Random(number)
    return base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *(numbers.gauss(0, 1) for _ in range(DIMENSIONS)))).decode()


@functools.lru_cache(maxsize=4)
def embeddings(body: bytes) -> bytes:
    """Texts are numbers here: the answer is made once, so that making it isn't measured."""
    texts = json.loads(body)["input"]
    data = [{"object": "embedding", "index": at, "embedding": embedding(int(text))} for at, text in enumerate(texts)]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return json.dumps({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}).encode()


class Provider(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._came = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_lost(self, _reason: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._came, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._came) < size:
                return
            head, body = bytes(self._came[:end]), bytes(self._came[end + 4 : size])
            del self._came[:size]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if pace := _PACE.search(body):
            self._task = asyncio.ensure_future(self._stream(int(pace[1]), int(pace[2]) / 1000))
            return
        content = embeddings(body) if b"/embeddings" in head.split(b"\r\n", 1)[0] else _WHOLE
        self._transport.write(_JSON % (len(content), content))

    async def _stream(self, chunks: int, pause: float) -> None:
        self._transport.write(_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n")
        # A stream begins somewhere within its first pause: all of them at once would be one peak after another.
        due = asyncio.get_running_loop().time() + random.random() * pause
        for _ in range(chunks):
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            self._write(answers.piece(" token"))
            due += pause
        self._write(answers.last())
        self._transport.write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
