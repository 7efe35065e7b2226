"""What is seen of a request, and of its calls of providers: gathered once, for the log and whoever else watches.

Never anything of a question or an answer, and no token, key or address of ours.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aipipe.formats import Reading
    from aipipe.ledger import Usages
    from aipipe.providers import Call

# Short and plain, and no key of a provider: AI Pipe's own tokens are longer.
SANE = re.compile(r"(?!sk-|AIza)[A-Za-z0-9._:=-]{1,64}", re.ASCII)


def make_id() -> str:
    return f"req_{os.urandom(12).hex()}"


@dataclass(slots=True)
class Request:
    """One request to us. `gunicorn.conf.py` makes a line of the log from it, by these names; None is left out.

    `cost` is in nanodollars, `first_byte` in milliseconds until the head of our answer leaves, `first_token` in
    milliseconds from when the provider was asked until its stream says something; `ended` is an entry's, or `released`.
    `trace` has the caller's headers of https://www.w3.org/TR/trace-context/.
    """

    id: str = field(default_factory=make_id)
    trace: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    email: str | None = None
    provider: str | None = None
    model: str | None = None
    cost: int | None = None
    ended: str | None = None
    error: str | None = None
    first_byte: int | None = None
    first_token: int | None = None
    upstream_id: str | None = None


_present: ContextVar[Request] = ContextVar("request")


def begin(wanted: str) -> Request:
    """The record of a request that has just come, under the id that its caller `wanted` where that is a sane one."""
    request = Request(wanted) if SANE.fullmatch(wanted) else Request()
    _present.set(request)
    return request


def present() -> Request:
    """The record of the request that is handled here; an empty one outside of any."""
    return _present.get(None) or Request()


def since(moment: float) -> int:
    """Milliseconds since a moment of the monotonic clock."""
    return round((time.monotonic() - moment) * 1000)


@dataclass(slots=True)
class Sight:
    """One call of a provider, from its admission until its charge is resolved.

    `started` is in nanoseconds of the wall clock, `first_byte` in seconds; `error` is what the provider failed with.
    """

    observers: Sequence[Observer]
    request: Request
    call: Call
    started: int = field(default_factory=time.time_ns)
    sent: float = field(default_factory=time.monotonic)
    streams: bool = False
    first_byte: float | None = None
    first_token: int | None = None
    error: int | None = None
    cost: int = 0
    usages: Usages | None = None
    reading: Reading | None = None
    ended: str = ""

    @property
    def provider(self) -> str:
        return self.call.provider.name

    def answers(self, *, streams: bool) -> None:
        """The head of its answer is here."""
        self.streams, self.first_byte = streams, time.monotonic() - self.sent
        for observer in self.observers:
            observer.answers(self)

    def speaks(self) -> None:
        """The first token of a streamed answer has come."""
        self.first_token = self.request.first_token = since(self.sent)

    def fails(self, status: int) -> None:
        """The provider refused the operator, or broke."""
        self.error, self.request.error = status, "provider_error"
        for observer in self.observers:
            observer.fails(self, status)

    def settles(self, cost: int, usages: Usages, reading: Reading, how: str) -> None:
        """It is charged; cost in nanodollars."""
        self.cost, self.usages, self.reading = cost, usages, reading
        self.ends(how)

    def ends(self, how: str) -> None:
        """Its charge is resolved; a request with several calls has their costs together."""
        self.ended = self.request.ended = how
        self.request.provider, self.request.model = self.provider, self.call.model
        self.request.cost = (self.request.cost or 0) + self.cost
        for observer in self.observers:
            observer.ends(self)


class Observer(Protocol):
    """Told as it happens, in the middle of a request: it only takes note."""

    def answers(self, sight: Sight) -> None: ...

    def fails(self, sight: Sight, status: int) -> None: ...

    def ends(self, sight: Sight) -> None: ...
