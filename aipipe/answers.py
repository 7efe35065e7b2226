"""Passes on what is not a stream of events: whole answers, and those that nobody meters."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from typing import IO, Protocol

from aipipe.client import Client
from aipipe.errors import ProviderError
from aipipe.formats import JSON, UNREADABLE, Reading
from aipipe.metering import Bill, Charge

log = logging.getLogger(__name__)

PIECE = 2**18  # bytes of a whole answer that are sent at once


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


class Spooled:
    """Bytes that are all there, in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def close(self) -> None:
        self._file.close()


def is_answer(status: int) -> bool:
    """Whether what comes with this status is what was asked for: nobody bills a refusal, or a way to somewhere else."""
    return 200 <= status < 300 and status not in (204, 205)


def settle(charge: Charge, reading: Reading, status: int, *, interrupted: bool = False) -> Bill | None:
    """Charges an answer that isn't a stream. What is none and tells no usage costs nothing, cut short or not."""
    if reading.usage is None and not is_answer(status):
        charge.release()
        return None
    return charge.settle(reading, status=status, interrupted=interrupted)


def read(charge: Charge, answer: JSON | None) -> Reading:
    """What an answer tells, or an empty reading where it isn't what the provider documents."""
    if answer is None:
        return Reading()
    try:
        return charge.call.format.read(answer)
    except UNREADABLE:
        log.warning("%s sent an answer that can't be read", charge.call.provider.name)
        return Reading()
