"""A provider for a soak: it answers, dawdles, breaks off or talks nonsense, as the question asks it to."""

from __future__ import annotations

import base64
import itertools
import select
import socket
import struct
import threading
from dataclasses import dataclass
from random import Random
from typing import Any

from fake_provider import DROP, RESET, ClientLeft, Step
from wire import Received, chunk, head

from e2e.answers import CHAT, answer, end, event, piece
from e2e.conftest import Script
from e2e.willing import stream, whole

INPUT, OUTPUT = Script.rates["small"]
EMBEDDINGS = "/v1/embeddings"
ERRORS = (400, 401, 429, 500, 503)


@dataclass(frozen=True)
class Pause:
    """So many seconds of silence, unless the other side hangs up."""

    seconds: float


class Moody(Script):
    """Every answer has an id and a usage of its own; `worth` is what each costs, whole, in nanodollars."""

    def __init__(self, seed: int) -> None:
        self.worth: dict[str, int] = {}
        self._random, self._numbers, self._mind = Random(seed), itertools.count(1), threading.Lock()
        super().__init__()

    def _next(self, request: Received) -> list[Any]:
        with self._mind:
            if request.path == CHAT:
                return self._chat(request.json())
            if request.path == EMBEDDINGS:
                return self._embeddings(len(request.json()["input"]))
            return whole({"object": "list", "data": []})  # of its models

    def _chat(self, asked: dict[str, Any]) -> list[Any]:
        mood = asked["messages"][-1]["content"]
        if mood == "refuse":
            status = self._random.choice(ERRORS)
            return [head(status, {"Content-Type": "application/json", "Content-Length": "13"}), b'{"error": {}}']
        if mood == "nonsense":
            return [head(200, {"Content-Type": "text/html", "Content-Length": "13"}), b"<html></html>"]
        usage = {"prompt_tokens": self._random.randint(1, 900), "completion_tokens": self._random.randint(1, 50)}
        told = {"id": f"chatcmpl-{next(self._numbers)}", "usage": usage}
        self.worth[told["id"]] = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
        if not asked.get("stream"):
            steps = whole({**answer(), **told})
            return [steps[0][:-2] + b"X-Odd: 1\r\n\r\n", Pause(0.05), *steps[1:]]
        pieces = [chunk(event({**piece("word "), "id": told["id"]}))] * 10
        if mood in ("drop", "reset"):
            return [*stream()[:1], *pieces[:5], DROP if mood == "drop" else RESET]
        pauses = [Pause(0.4 if mood == "dawdle" else 0.01)] * len(pieces)
        stop, *_ = end()
        last = [chunk(event(each)) for each in (stop, {**piece(""), **told, "choices": []}, "[DONE]")]
        return [stream()[0], *itertools.chain.from_iterable(zip(pieces, pauses, strict=True)), *last, stream()[-1]]

    def _embeddings(self, count: int) -> list[Step]:
        vector = base64.b64encode(struct.pack("<2f", 1, 2)).decode()
        data = [{"index": number, "embedding": vector} for number in range(count)]
        return whole({"data": data, "usage": {"prompt_tokens": 3 * count, "total_tokens": 3 * count}})

    def _take(self, connection: socket.socket, step: Any) -> None:
        if not isinstance(step, Pause):
            super()._take(connection, step)
            return
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        if poller.poll(step.seconds * 1_000):
            raise ClientLeft
