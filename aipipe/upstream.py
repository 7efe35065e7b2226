"""Pooled HTTP to the providers. Bytes go out and come back untouched; failures become our own errors.

The standard library's client is used as it is: it sends a request's target byte for byte, reads "whatever is
there" (`read1`), and works with gevent's sockets.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import certifi

from aipipe.errors import InvalidRequest, ProviderError, ProviderTimeout
from aipipe.sockets import readable

CHUNK_BYTES = 65_536
IDLE_SECONDS = 30.0  # a pooled connection that nobody used for so long is closed

# The standard library's client lets folded lines and null bytes through.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NOT_IN_A_VALUE = re.compile(r"[\0\r\n]")

Headers = list[tuple[str, str]]


class Sized(Protocol):
    """A body that is read piece by piece, of a `size` known beforehand."""

    size: int

    def __iter__(self) -> Iterator[bytes]: ...


Body = bytes | Sized
Origin = tuple[str, str, int | None]
Watch = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to connect, to the first byte of the answer, between two bytes, and for the whole request."""

    connect: float = 5
    first_byte: float = 120
    idle: float = 60
    request: float = 900


class Paced(io.RawIOBase):
    """What comes on a connection; each wait for more ends after `limit` seconds, and all of them at `deadline`."""

    def __init__(self, connection: socket.socket, limit: float, deadline: float) -> None:
        self._connection, self._raw = connection, connection.makefile("rb", buffering=0)
        self.limit, self._deadline = limit, deadline
        self.ended = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """As a socket does it, for the standard library's client."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(self.limit, left))
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Response(http.client.HTTPResponse):
    """A final answer: those before it (103, say) are passed over, or the next request would be given what follows."""

    def begin(self) -> None:
        super().begin()
        while 100 < self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # not begun
            super().begin()


class Answer:
    """A provider's answer, read piece by piece. `abort` may be called from another greenlet, `close` always."""

    def __init__(
        self, pool: Pool, origin: Origin, connection: http.client.HTTPConnection, name: str, deadline: float
    ) -> None:
        self._pool, self._origin, self._connection, self._name = pool, origin, connection, name
        self._socket: socket.socket = connection.sock
        paced = Paced(self._socket, pool.limits.first_byte, deadline)
        connection.response_class = lambda _, method: Response(paced, method=method)  # type: ignore
        self._response = connection.getresponse()
        if paced.ended:  # in the middle of the head, which the standard library takes for its end
            raise http.client.IncompleteRead(b"")
        paced.limit = pool.limits.idle
        self.status = self._response.status
        self.headers: Headers = self._response.getheaders()
        self._done = False

    def header(self, name: str) -> str:
        return self._response.getheader(name, "")

    def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end.

        Raises:
            ProviderTimeout: no byte for too long, or the whole request took too long.
            ProviderError: the provider broke off.
        """
        try:
            chunk = self._response.read1(CHUNK_BYTES)
        except TimeoutError:
            raise ProviderTimeout(f"{self._name} stopped answering; AI Pipe hung up.") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise ProviderError(f"{self._name} broke off in the middle of its answer.") from None
        if not chunk:
            if self._response.length:
                raise ProviderError(f"{self._name} broke off in the middle of its answer.")
            self._done = True
        return chunk

    def abort(self) -> None:
        """Hangs up at once: a `read` under way elsewhere ends."""
        hang_up(self._socket)

    def close(self) -> None:
        """Gives the connection back for the next request if the answer was read to its end, else closes it."""
        if self._done and not self._response.will_close:
            self._pool.keep(self._origin, self._connection, self._response.getheader("Keep-Alive", ""))
        else:
            self._connection.close()
        self._response.close()


def hang_up(connection: socket.socket) -> None:
    """Ends whatever waits for the connection, in whichever greenlet."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def unwatched(_leave: Callable[[], None]) -> Callable[[], None]:
    """Nothing is a reason to hang up."""
    return lambda: None


class Pool:
    """Connections to any number of providers. One for a process, made after the fork."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._idle: dict[Origin, deque[tuple[http.client.HTTPConnection, float]]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context(cafile=certifi.where())

    def send(
        self,
        name: str,
        base: str,
        method: str,
        target: str,
        headers: Headers,
        body: Body | None,
        watch: Watch = unwatched,
    ) -> Answer:
        """Sends a request to `base` + `target`, both byte for byte, and waits for the head of the answer.

        `name` is the provider's, for messages. `watch` begins to watch for a reason to hang up while we wait, calls
        what it is given when there is one, and returns what ends it; the answer is then a ProviderError.

        Raises:
            InvalidRequest: the target or a header holds what HTTP doesn't allow.
            ProviderError: no connection, after two tries, or none that held until the answer began.
            ProviderTimeout: the same for lack of time. Its `billable` is true when the request had been sent.
        """
        url = urlsplit(base)
        origin = (url.scheme, url.hostname or "", url.port)
        deadline = time.monotonic() + self.limits.request
        connection = self._reuse(origin) or self._connect(name, origin)
        sending = True
        try:
            self._request(connection, method, url.path + target, url.netloc, headers, body)
            sending = False
            stop = watch(partial(hang_up, connection.sock))
            try:
                answer = Answer(self, origin, connection, name, deadline)
            finally:
                stop()
            if answer.status < 200:  # another protocol
                raise http.client.BadStatusLine(str(answer.status))
            return answer
        except (ValueError, http.client.InvalidURL):
            connection.close()
            raise InvalidRequest("The path or a header holds characters that HTTP doesn't allow.") from None
        except TimeoutError:
            connection.close()
            raise ProviderTimeout(f"{name} did not answer in time.", billable=not sending) from None
        except (OSError, http.client.HTTPException):
            connection.close()
            raise ProviderError(f"{name} broke off before it answered. Try again.") from None
        except BaseException:
            connection.close()
            raise

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        host: str,
        headers: Headers,
        body: Body | None,
    ) -> None:
        connection.sock.settimeout(self.limits.idle)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in headers:
            if not HEADER_NAME.fullmatch(name) or NOT_IN_A_VALUE.search(value):
                raise ValueError
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body) if isinstance(body, bytes) else body.size))
        connection.endheaders(body)

    def _connect(self, name: str, origin: Origin) -> http.client.HTTPConnection:
        scheme, host, port = origin
        for last in (False, True):
            connection = (
                http.client.HTTPSConnection(host, port, timeout=self.limits.connect, context=self._tls)
                if scheme == "https"
                else http.client.HTTPConnection(host, port, timeout=self.limits.connect)
            )
            try:
                connection.connect()
                return connection
            except TimeoutError:
                if last:
                    raise ProviderTimeout(f"AI Pipe could not connect to {name} in time. Try again later.") from None
            except OSError:
                if last:
                    raise ProviderError(f"AI Pipe could not connect to {name}. Try again later.") from None
        raise AssertionError("the second try returns or raises")

    def _reuse(self, origin: Origin) -> http.client.HTTPConnection | None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._idle[origin]:
                    return None
                connection, until = self._idle[origin].pop()
            # Something to read on an idle connection is the provider's farewell.
            if now < until and not readable(connection.sock):
                return connection
            connection.close()

    def keep(self, origin: Origin, connection: http.client.HTTPConnection, keep_alive: str) -> None:
        """Keeps a connection for the next request, a little less long than the provider says it does."""
        told = [part.partition("=")[2] for part in keep_alive.split(",") if part.strip().startswith("timeout=")]
        seconds = min([IDLE_SECONDS, *(int(value) - 1 for value in told if value.isdecimal())])
        now = time.monotonic()
        with self._lock:
            idle = self._idle[origin]
            while idle and idle[0][1] < now:  # left over from busier times
                idle.popleft()[0].close()
            idle.append((connection, now + seconds))

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        with self._lock:
            for waiting in self._idle.values():
                while waiting:
                    waiting.pop()[0].close()
