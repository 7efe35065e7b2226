"""HTTP/1.1 as a client speaks it: the bytes of a request, and the answer in the bytes that come. No sockets here.

https://www.rfc-editor.org/rfc/rfc9112. Strict where an answer ends, and lenient in what it says: one that has been paid
for isn't thrown away for a header that nobody needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Headers = list[tuple[str, str]]

LONGEST = 65_536  # bytes of a head, of trailers, or of whatever else is no body
MOST_HEADERS = 100

_START = re.compile(r"[A-Z]+ [\x21-\x7e]+")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_VALUE = re.compile(r"[\0\r\n]")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request, its target as it is. Raises ValueError for what HTTP doesn't allow."""
    start = f"{method} {target or '/'}"
    lines = [f"{start} HTTP/1.1"]
    for name, value in headers:
        if not _NAME.fullmatch(name) or _NOT_IN_A_VALUE.search(value):
            raise ValueError("not a header")
        lines.append(f"{name}: {value}")
    if not _START.fullmatch(start):
        raise ValueError("not a method and target")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


class Malformed(Exception):
    """This is no answer, or no more of one."""


class Incoming:
    """One answer, as its bytes come in; interim ones before it (103, say) are passed over.

    It has `begun` when its head is there, and `ended` with its body. Then it is `reusable` if the connection may carry
    another request. To a request that asks for the head alone, an answer is `bodiless`.
    """

    __slots__ = (
        "_bodiless",
        "_broken",
        "_came",
        "_chunked",
        "_keep",
        "_left",
        "_pieces",
        "_step",
        "_wordless",
        "begun",
        "ended",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self, *, bodiless: bool = False) -> None:
        self.status = 0
        self.headers: Headers = []
        self.begun = self.ended = self.reusable = False
        self._bodiless = bodiless
        self._broken = self._chunked = self._keep = False
        self._came = b""  # and not understood yet
        self._wordless = 0  # bytes since there was something of a body
        self._pieces: list[bytes] = []
        self._left: int | None = None  # bytes of the body, or of its chunk; None: until the connection ends
        self._step: Callable[[Incoming], bool] = Incoming._head

    def feed(self, data: bytes) -> None:
        """Takes what came; nothing at all is the end of the connection."""
        if not data:
            self.ended = self.ended or (self._step is Incoming._body and self._left is None)
            self._broken = not self.ended
            return
        self._came += data
        while self._came and not self.ended and self._step(self):
            pass
        self._wordless = 0 if self._pieces else self._wordless + len(data)
        self._broken = self._broken or self._wordless > LONGEST

    def head(self) -> bool:
        """Whether the head is there. Raises Malformed when it never will be."""
        if self._broken and not self.begun:
            raise Malformed
        return self.begun

    def take(self) -> bytes:
        """What came of the body since the last time. Raises Malformed when there is none, and won't be any more."""
        if self._pieces:
            taken = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
            self._pieces.clear()
            return taken
        if self._broken and not self.ended:
            raise Malformed
        return b""

    # Each step takes what it understands of what came, and tells whether to go on.

    def _head(self) -> bool:
        end = _END_OF_HEAD.search(self._came)
        if end is None:
            return False
        first, *lines = self._came[: end.start()].decode("latin-1").split("\n")
        self._came = self._came[end.end() :]
        start = _STATUS.fullmatch(first.rstrip("\r"))
        if start is None or len(lines) > MOST_HEADERS or end.start() > LONGEST:
            return self._break()
        status = int(start[2])
        if 100 <= status < 200 and status != 101:
            return True
        self.begun, self.status = True, status
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                self.headers.append((name, value.strip(" \t\r")))
        return self._delimit(start[1] == "1")

    def _delimit(self, lasts: bool) -> bool:
        """Finds out where the body ends, and whether the connection `lasts` longer."""
        told = {name.lower(): value for name, value in reversed(self.headers)}
        self._keep = lasts and "close" not in told.get("connection", "").lower()
        length, coding = told.get("content-length", ""), told.get("transfer-encoding", "").lower()
        if self._bodiless or self.status in (204, 304):
            # Some send the body all the same, and it would be the next answer.
            self._keep = self._keep and not self._bodiless
            return self._end()
        if coding.endswith("chunked"):
            self._chunked, self._step = True, Incoming._size
        else:
            self._step = Incoming._body
            if not coding and length.isascii() and length.isdecimal():
                self._left = int(length[:18])
                return self._left > 0 or self._end()
        return True

    def _body(self) -> bool:
        piece = self._came if self._left is None else self._came[: self._left]
        self._pieces.append(piece)
        self._came = self._came[len(piece) :]
        if self._left is not None:
            self._left -= len(piece)
            if not self._left:
                self._step = Incoming._gap
                return self._chunked or self._end()
        return True

    def _line(self) -> bytes | None:
        line, feed, rest = self._came.partition(b"\n")
        if not feed:
            return None
        self._came = rest
        return line.removesuffix(b"\r")

    def _size(self) -> bool:
        if (line := self._line()) is None:
            return False
        size = _SIZE.fullmatch(line)
        if size is None:
            return self._break()
        self._left = int(size[1], 16)
        self._step = Incoming._body if self._left else Incoming._trailer
        return True

    def _gap(self) -> bool:
        """What follows a chunk: an empty line."""
        if (line := self._line()) is None:
            return False
        self._step = Incoming._size
        return not line or self._break()

    def _trailer(self) -> bool:
        if (line := self._line()) is None:
            return False
        return bool(line) or self._end()

    def _end(self) -> bool:
        self.ended = True
        self.reusable = self._keep and not self._came  # nobody asked for more
        return False

    def _break(self) -> bool:
        self._broken = True
        return False
