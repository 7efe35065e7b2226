"""Passes on what is not a stream of events: whole answers, large ones, and those that nobody meters."""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from aipipe.client import Client
from aipipe.errors import ProviderError
from aipipe.formats import JSON, UNREADABLE, Reading, parse
from aipipe.metering import Bill, Charge
from aipipe.upstream import Answer

log = logging.getLogger(__name__)

PIECE = 2**18  # bytes of a whole answer that are sent at once
EDGE = 2**16  # bytes at the end of a large answer that are searched for the usage


def hang_up() -> ConnectionResetError:
    """What makes gunicorn close the caller's connection without a word: a cut answer must not look whole."""
    return ConnectionResetError(errno.ECONNRESET, "the provider broke off")


class Whole:
    """Bytes that are all there."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), PIECE):  # each has its own time to be taken in
            yield self._body[start : start + PIECE]

    def close(self) -> None:
        """There is nothing to close."""


class Source(Protocol):
    """An answer on its way, whoever sends it: see `upstream.Answer`."""

    def read(self) -> bytes: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Unmetered:
    """An answer that costs the operator nothing. Who sends it is hung up on as soon as the caller leaves."""

    def __init__(self, answer: Source, client: Client) -> None:
        self._answer = answer
        self._stop_watching = client.watch(answer.abort)

    def __iter__(self) -> Iterator[bytes]:
        try:
            while chunk := self._answer.read():
                yield chunk
        except ProviderError:
            raise hang_up() from None

    def close(self) -> None:
        self._stop_watching()
        self._answer.close()


class Large:
    """A metered answer too large to be read whole. Its last bytes wait until it is charged."""

    def __init__(self, answer: Answer, charge: Charge, chunks: list[bytes]) -> None:
        self._answer, self._charge = answer, charge
        self._chunks = deque(chunks)
        self._tail = b"".join(chunks)[-EDGE:]
        self._open = True
        self._cut = False

    def __iter__(self) -> Large:
        return self

    def __next__(self) -> bytes:
        while self._open and len(self._chunks) < 2:
            self._fetch()
        if self._chunks:
            return self._chunks.popleft()
        if self._cut:
            raise hang_up()
        raise StopIteration

    def _fetch(self) -> None:
        """One more chunk; at the end the charge is settled."""
        try:
            chunk = self._answer.read()
        except ProviderError as error:
            chunk, self._cut = b"", True
            self._charge.failed(error.status, error.message)
        if chunk:
            self._chunks.append(chunk)
            self._tail = (self._tail + chunk)[-EDGE:]
            return
        self._open = False
        self._answer.close()
        reading = usage_at_end(self._charge, self._tail)
        settle(self._charge, reading, self._answer.status, interrupted=self._cut)

    def close(self) -> None:
        """The caller has all, or has left: an answer that isn't a stream is read on to its end."""
        while self._open:
            self._chunks.clear()
            self._fetch()


def settle(charge: Charge, reading: Reading, status: int, *, interrupted: bool = False) -> Bill | None:
    """Charges an answer that isn't a stream. A refusal that tells no usage costs nothing, cut short or not."""
    if status >= 400 and reading.usage is None:
        charge.release()
        return None
    return charge.settle(reading, status=status, interrupted=interrupted)


def usage_at_end(charge: Charge, tail: bytes) -> Reading:
    """The usage that a large answer ends with. Inside of a JSON string the quotes around the name would be escaped."""
    at = tail.rfind(b'"usage')  # and Gemini's "usageMetadata"
    return read(charge, parse(b"{" + tail[at:]) if at >= 0 else None)


def read(charge: Charge, answer: JSON | None) -> Reading:
    """What an answer tells, or an empty reading where it isn't what the provider documents."""
    if answer is None:
        return Reading()
    try:
        return charge.call.format.read(answer)
    except UNREADABLE:
        log.warning("%s sent an answer that can't be read", charge.call.provider.name)
        return Reading()
