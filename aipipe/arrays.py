"""Reads a JSON array's elements as its bytes go by, however they are cut: a stream that is no event stream.

Gemini streams like this unless it is asked for events:
https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent
"""

from __future__ import annotations

import re

from aipipe.sse import MAX_EVENT_BYTES, Event

_STRUCTURE = re.compile(rb'["\[\]{},]')
_STRING = re.compile(rb'["\\]')


class Reader:
    """Finds the objects in one array, each as an event. The same bytes give the same events, however they are cut.

    The bracket that ends the array is an event too, named `end`, which starts with the last element. An answer that is
    one object rather than an array is its only element. One of more than `MAX_EVENT_BYTES` is left out and counted in
    `skipped`. No bytes raise an error: what isn't JSON gives no events, or odd ones.
    """

    __slots__ = (
        "_depth",
        "_escaped",
        "_joint",
        "_level",
        "_newest",
        "_offset",
        "_pieces",
        "_size",
        "_start",
        "_string",
        "skipped",
    )

    at_boundary = False  # whether a comment may be put into the stream here: there are none in JSON

    def __init__(self) -> None:
        self.skipped = 0
        self._offset = 0  # bytes taken so far, in the whole stream
        self._level: int | None = None  # the depth at which elements begin, once it is known
        self._depth = 0
        self._joint = b""  # what an element would need in front of it
        self._string = self._escaped = False  # whether the next byte is in a string, and after a backslash
        self._start: int | None = None  # of the unfinished element
        self._newest = 0  # where the last element began
        self._pieces: list[bytes] = []  # of the unfinished element, as far as it isn't too long
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The elements that `chunk` completes, in order."""
        events: list[Event] = []
        kept = at = 0  # what of the unfinished element is not kept yet begins at `kept`
        while at < len(chunk):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            mark = (_STRING if self._string else _STRUCTURE).search(chunk, at)
            if mark is None:
                break
            at = mark.end()
            self._take(mark[0])
            if self._start is None and self._level is not None and self._depth > self._level:
                kept = at - 1
                self._start = self._offset + kept
            elif self._start is not None and self._depth == self._level:
                self._keep(chunk[kept:at])
                events += self._element(self._offset + at)
            elif mark[0] == b"]" and not self._depth:
                events.append(Event("end", b"]", self._newest, self._offset + at))
        if self._start is not None:
            self._keep(chunk[kept:])
        self._offset += len(chunk)
        return events

    def close(self) -> list[Event]:
        """The end of the stream completes nothing: half an object can't be read."""
        return []

    def _take(self, mark: bytes) -> None:
        """A quote, backslash, comma, brace or bracket, outside of strings or at the end of one."""
        if mark == b'"':
            self._string = not self._string
        elif mark == b"\\":
            self._escaped = True
        elif mark == b",":
            self._joint = b"" if self._start is None else self._joint
        elif mark in b"]}":
            self._depth -= 1
        elif self._level is None and mark == b"[":
            self._level = self._depth = 1
        else:
            self._level = self._level or 0
            self._depth += 1

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= MAX_EVENT_BYTES:
            self._pieces.append(piece)

    def _element(self, end: int) -> list[Event]:
        """The element that ends here, unless it is too long."""
        self._newest = self._start or 0
        found = [Event("message", b"".join(self._pieces), self._newest, end)]
        if self._size > MAX_EVENT_BYTES:
            self.skipped += 1
            found = []
        self._start, self._size, self._joint = None, 0, b","
        self._pieces.clear()
        return found

    def parting(self, failure: bytes) -> bytes:
        """What tells that the stream broke off here: `failure`, a data event, as the last element of the array.

        Nothing inside of an element: what is cut there is no JSON, which any parser notices.
        """
        payload = failure.removeprefix(b"data: ").strip()
        if self._level is None:
            return b"[" + payload + b"]"
        between = self._level == self._depth == 1 and not self._string
        return self._joint + payload + b"]" if between else b""
