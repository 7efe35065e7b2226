"""Reads `text/event-stream` bytes as they go by, however they are cut.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html, with one
difference: `Reader.close` also gives a last event that lacks its blank line, since a provider's
final usage may be in it.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 64 * 2**20  # twice what the largest picture takes

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `start` and `end` are byte offsets in the whole stream.

    `start` is where the event's first line begins (blank lines and comments before it are left out),
    `end` is just past its blank line. `data` holds the data lines joined by a line feed.
    """

    name: str
    data: bytes
    start: int
    end: int


class Reader:
    """Finds the events of one stream. The same bytes give the same events, however they are cut.

    A chunk's last CR waits for the next byte, which may be its LF. An event of more than
    `MAX_EVENT_BYTES` is left out and counted in `skipped`; reading goes on after it, so that a usage
    which follows is still seen. No bytes raise an error.
    """

    __slots__ = ("_cr", "_data", "_line_start", "_name", "_offset", "_pieces", "_start", "skipped")

    def __init__(self) -> None:
        self.skipped = 0
        self._offset = 0  # bytes taken so far, in the whole stream
        self._cr = False  # a CR that was fed but not yet taken
        self._pieces: list[bytes] = []  # the unfinished line
        self._line_start = 0
        self._start: int | None = None  # of the unfinished event
        self._name = b""
        self._data: list[bytes] = []

    @property
    def at_boundary(self) -> bool:
        """Whether a comment may be put into the stream here: no event or line is unfinished."""
        return self._start is None and not self._pieces and not self._cr

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes, in order."""
        if self._cr:
            chunk = b"\r" + chunk
        self._cr = chunk.endswith(b"\r")
        return self._read(chunk[:-1] if self._cr else chunk)

    def close(self) -> list[Event]:
        """What the end of the stream completes. Call it once; `at_boundary` stays meaningful."""
        events = self._read(b"\r") if self._cr else []
        self._cr = False
        if self._pieces:
            self._take(b"".join(self._pieces))
        last = self._event(self._offset)
        return [*events, last] if last else events

    def parting(self, failure: bytes) -> bytes:
        """What tells that the stream broke off here: `failure`, an event, after what ends an unfinished one."""
        return (b"" if self.at_boundary else b"\n\n") + failure

    def _read(self, chunk: bytes) -> list[Event]:
        events = []
        end = self._offset
        for line in chunk.splitlines(keepends=True):
            end += len(line)
            text = line.rstrip(b"\r\n")
            if len(text) == len(line):  # the chunk's last line goes on in the next one
                self._pieces.append(line)
                break
            if self._pieces:
                text = b"".join((*self._pieces, text))
                self._pieces.clear()
            if not self._take(text):
                event = self._event(end)
                if event:
                    events.append(event)
                self._start = None
                self._name = b""
                self._data.clear()
            self._line_start = end
        self._offset = end
        self._bound()
        return events

    def _take(self, line: bytes) -> bool:
        """Add a line, without its end, to the event. False: the line is blank and ends the event."""
        if self._line_start == 0 and line.startswith(_BOM):
            line = line[len(_BOM) :]
            self._line_start = len(_BOM)
        if not line:
            return False
        if line[0] == 0x3A:  # a colon: a comment
            return True
        if self._start is None:
            self._start = self._line_start
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
        return True

    def _event(self, end: int) -> Event | None:
        if self._start is None:
            return None
        if end - self._start > MAX_EVENT_BYTES:
            self.skipped += 1
            return None
        if not self._data:
            return None
        name = self._name.decode("utf-8", "replace") or "message"
        return Event(name, b"\n".join(self._data), self._start, end)

    def _bound(self) -> None:
        """Let go of an event or line that is already too long: its beginning tells what it is."""
        start = self._line_start if self._start is None else self._start
        if self._offset - start > MAX_EVENT_BYTES:
            del self._pieces[1:]
            del self._data[1:]
