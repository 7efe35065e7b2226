"""Callers may be slow, but not for ever: a body must come, and an answer be taken, at some pace."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import gevent
from gevent import socket as cooperative

from aipipe.errors import TooSlow

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LEAST_RATE = 4096  # bytes a second
PIECE = 16_384  # bytes that are counted as they come


class Paced:
    """A WSGI app whose callers may take `seconds` for the next piece of an answer, and to begin with a body.

    A body has a second more for each `LEAST_RATE` bytes that came, up to `longest` for the whole. Only under
    gunicorn's gevent worker; heads have their time from gunicorn itself.
    """

    def __init__(self, app: WSGIApplication, *, seconds: float, longest: float) -> None:
        self._app, self._seconds, self._longest = app, seconds, longest

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: Any = environ.get("gunicorn.socket")
        if type(connection) is cooperative.socket:
            connection.settimeout(self._seconds)
            if environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ:
                environ["wsgi.input"] = Body(environ["wsgi.input"], self._seconds, self._longest)
        return self._app(environ, start_response)


class Body(io.RawIOBase):
    """A request's body. Reading it raises TooSlow where it doesn't come in time."""

    def __init__(self, stream: IO[bytes], seconds: float, longest: float) -> None:
        self._stream, self._seconds, self._longest = stream, seconds, longest
        self._began = time.monotonic()
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        allowed = min(self._longest, self._seconds + self._size / LEAST_RATE)
        left = self._began + allowed - time.monotonic()
        # Each byte that drips in begins a socket's timeout anew: this one is for the whole.
        with gevent.Timeout(max(0.001, left), TooSlow("The request's body came too slowly for AI Pipe. Try again.")):
            data = self._stream.read(min(len(buffer), PIECE))
        buffer[: len(data)] = data
        self._size += len(data)
        return len(data)
