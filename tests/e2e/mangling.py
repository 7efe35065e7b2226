"""Requests that nobody should send: good ones, spoilt in one to three places. The same seed makes the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from e2e.answers import question
from e2e.malformed import (
    BODIES,
    FIELDS,
    LINES,
    METHODS,
    PARAMETERS,
    PROVIDERS,
    QUERIES,
    TARGETS,
    VALUES,
    VERSIONS,
)  # fmt: skip

Header = tuple[bytes, bytes]
Route = tuple[str, str]  # method and path, with {parameters}


@dataclass(frozen=True)
class Message:
    """A request, part by part."""

    method: bytes
    target: bytes
    headers: list[Header] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)  # headers that may be none
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    end: bytes = b"\r\n"

    def written(self) -> bytes:
        first = b" ".join([self.method, self.target, self.version])
        headers = [b": ".join(pair) for pair in self.headers]
        return self.end.join([first, *headers, *self.lines, b"", b""]) + self.body


class Mangler:
    def __init__(self, seed: int, tokens: list[str]) -> None:
        self._random = Random(seed)
        self._tokens = tokens
        self._spoilers: list[Callable[[Message], Message]] = [
            self._spoil_line, self._spoil_line, self._spoil_body, self._spoil_target, self._spoil_first,
            self._spoil_query, self._drop_header, self._doubled,
        ]  # fmt: skip

    def request(self, route: Route) -> bytes:
        """A request to the route that is probably malformed."""
        message = self._good(route)
        for _ in range(self._random.randint(1, 3)):
            message = self._random.choice(self._spoilers)(message)
        written = message.written()
        return self._spoil_bytes(written) if self._random.random() < 0.25 else written

    def _good(self, route: Route) -> Message:
        method, path = route
        for name, values in PARAMETERS.items():
            path = path.replace(f"{{{name}}}", self._random.choice(values))
        path = path.replace("{provider}", self._random.choice(PROVIDERS))
        body = b"" if method in ("GET", "HEAD", "DELETE") else self._json()
        headers = [(b"Host", b"x"), (b"Authorization", b"Bearer " + self._random.choice(self._tokens).encode())]
        if body:
            headers += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        return Message(method.encode(), path.encode(), headers, body=body)

    def _json(self) -> bytes:
        """What an endpoint may take, with a field or two that it may not."""
        body: dict[str, Any] = question(max_tokens=20, docs=["a", "b"], input="x", email="bob@example.com", cost=1)
        for _ in range(self._random.randint(0, 2)):
            body[self._random.choice(FIELDS)] = self._random.choice(VALUES)
        return json.dumps(body).encode()

    def _spoil_line(self, message: Message) -> Message:
        line = self._random.choice(LINES)
        return replace(message, lines=[*message.lines, *[line] * self._random.choice((1, 1, 1, 2, 100))])

    def _spoil_body(self, message: Message) -> Message:
        body = self._random.choice((*BODIES, message.body[: len(message.body) // 2], self._random.randbytes(200)))
        if self._random.random() < 0.5:  # of the length that it has
            others = [pair for pair in message.headers if pair[0] != b"Content-Length"]
            return replace(message, headers=[*others, (b"Content-Length", b"%d" % len(body))], body=body)
        return replace(message, body=body)

    def _spoil_target(self, message: Message) -> Message:
        target, spoilt = message.target, self._random.choice(TARGETS)
        return replace(message, target=self._random.choice((spoilt, target + spoilt, target + b"/", target.swapcase())))

    def _spoil_query(self, message: Message) -> Message:
        return replace(message, target=message.target + self._random.choice(QUERIES))

    def _spoil_first(self, message: Message) -> Message:
        if self._random.random() < 0.3:
            return replace(message, version=self._random.choice(VERSIONS))
        if self._random.random() < 0.2:
            return replace(message, end=self._random.choice((b"\n", b"\r", b"\r\n\r\n", b"")))
        return replace(message, method=self._random.choice(METHODS))

    def _drop_header(self, message: Message) -> Message:
        gone = self._random.randrange(len(message.headers)) if message.headers else 0
        return replace(message, headers=message.headers[:gone] + message.headers[gone + 1 :])

    def _doubled(self, message: Message) -> Message:
        """The same request again behind it, as if it were sent ahead."""
        return replace(message, body=message.body + message.written())

    def _spoil_bytes(self, written: bytes) -> bytes:
        for _ in range(self._random.randint(1, 5)):
            at = self._random.randrange(len(written) + 1)
            kind = self._random.randrange(4)
            if kind == 0:
                written = written[:at] + self._random.randbytes(self._random.randint(1, 4)) + written[at:]
            elif kind == 1:
                written = written[:at] + written[at + self._random.randint(1, 4) :]
            elif kind == 2:
                flipped = bytes(each ^ (1 << self._random.randrange(8)) for each in written[at : at + 1])
                written = written[:at] + flipped + written[at + 1 :]
            else:
                written = written[:at]
        return written
