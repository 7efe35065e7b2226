"""A provider that needs no script."""

from __future__ import annotations

import json

from fake_provider import Step
from wire import Received, chunk, head

from e2e.answers import CHAT, answer, end, event, piece
from e2e.conftest import Script


class Willing(Script):
    """Where nothing else is planned it answers every chat as it is asked, whole or in a stream."""

    def _next(self, request: Received) -> list[Step]:
        if request.path != CHAT or self._script[request.method, request.path]:
            return super()._next(request)
        return stream() if request.json().get("stream") else whole(answer())


def whole(content: dict[str, object]) -> list[Step]:
    body = json.dumps(content).encode()
    return [head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}), body]


def stream(*before: Step) -> list[Step]:
    """A streamed answer; `before` comes ahead of its end."""
    told = head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    last = [chunk(event(each)) for each in end()]
    return [told, chunk(event(piece("Hello"))), *before, *last, chunk(b"")]
