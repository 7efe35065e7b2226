"""Pooled HTTP to the providers. Bytes go out and come back untouched; failures become our own errors.

A request's target goes out byte for byte, and of an answer is read whatever is there. The sockets are Python's own,
which gevent makes cooperative.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol
from urllib.parse import urlsplit

import certifi
import gevent

from aipipe.errors import InvalidRequest, ProviderError, ProviderTimeout
from aipipe.http1 import Headers, Incoming, Malformed, request_head
from aipipe.sockets import Watch, readable

CHUNK_BYTES = 65_536
IDLE_SECONDS = 30.0  # a pooled connection that nobody used for so long is closed


class Sized(Protocol):
    """A body that is read piece by piece, of a `size` known beforehand."""

    size: int

    def __iter__(self) -> Iterator[bytes]: ...


Body = bytes | Sized
Origin = tuple[str, str, int]  # scheme, host and port


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to connect, to the first byte of the answer, between two bytes, and for the whole request."""

    connect: float = 5
    first_byte: float = 120
    idle: float = 60
    request: float = 900


class Answer:
    """A provider's answer, read piece by piece. `abort` may be called from another greenlet, `close` always."""

    def __init__(
        self, pool: Pool, origin: Origin, connection: socket.socket, name: str, deadline: float, *, bodiless: bool
    ) -> None:
        """Waits for the head. Raises TimeoutError, OSError or Malformed."""
        self._pool, self._origin, self._connection, self._name = pool, origin, connection, name
        self._deadline = deadline
        self._incoming = Incoming(bodiless=bodiless)
        while not self._incoming.head():
            self._receive(pool.limits.first_byte)
        self.status, self.headers = self._incoming.status, self._incoming.headers

    def _receive(self, limit: float) -> None:
        """Waits at most `limit` seconds for more, and not beyond the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(limit, left))
        self._incoming.feed(self._connection.recv(CHUNK_BYTES))

    def header(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end.

        Raises:
            ProviderTimeout: no byte for too long, or the whole request took too long.
            ProviderError: the provider broke off.
        """
        try:
            while not (chunk := self._incoming.take()) and not self._incoming.ended:
                self._receive(self._pool.limits.idle)
        except TimeoutError:
            raise ProviderTimeout(f"{self._name} stopped answering; AI Pipe hung up.") from None
        except (OSError, Malformed):
            raise ProviderError(f"{self._name} broke off in the middle of its answer.") from None
        return chunk

    def abort(self) -> None:
        """Hangs up at once: a `read` under way elsewhere ends."""
        hang_up(self._connection)

    def close(self) -> None:
        """Gives the connection back for the next request if the answer was read to its end, else closes it."""
        if self._incoming.reusable:
            self._incoming.reusable = False
            self._pool.keep(self._origin, self._connection, self.header("Keep-Alive"))
        else:
            self._connection.close()


def hang_up(connection: socket.socket) -> None:
    """Ends whatever waits for the connection, in whichever greenlet."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=256)
def split(base: str) -> tuple[Origin, str, str]:
    """Where a base is, what names it as a host, and the path that its targets begin with."""
    url = urlsplit(base)
    port = url.port or (443 if url.scheme == "https" else 80)
    return (url.scheme, url.hostname or "", port), url.netloc, url.path


def length_of(body: Body | None) -> Headers:
    if body is None:
        return []
    return [("Content-Length", str(len(body) if isinstance(body, bytes) else body.size))]


def send_all(connection: socket.socket, head: bytes, body: Body | None) -> None:
    """Sends a request: of a small one head and body together, which is one packet less."""
    if isinstance(body, bytes) and len(body) < CHUNK_BYTES:
        whole = head + body
        sent = connection.send(whole)  # `sendall` takes its time to prepare for what doesn't go at once
        if sent < len(whole):
            connection.sendall(memoryview(whole)[sent:])
        return
    connection.sendall(head)
    for piece in iter((body,) if isinstance(body, bytes) else body or ()):
        connection.sendall(piece)


def unwatched(_leave: Callable[[], None]) -> Callable[[], None]:
    """Nothing is a reason to hang up."""
    return lambda: None


class Pool:
    """Connections to any number of providers. One for a process, made after the fork."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._idle: dict[Origin, deque[tuple[socket.socket, float]]] = defaultdict(deque)
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

        `name` is the provider's, for messages. `watch` tells of a reason to hang up while we wait; the
        answer is then a ProviderError.

        Raises:
            InvalidRequest: the target or a header holds what HTTP doesn't allow.
            ProviderError: no connection, after two tries, or none that held until the answer began.
            ProviderTimeout: the same for lack of time. Its `billable` is true when the request had been sent.
        """
        origin, host, path = split(base)
        try:
            head = request_head(method, path + target, [("Host", host), *headers, *length_of(body)])
        except ValueError:
            raise InvalidRequest("The path or a header holds characters that HTTP doesn't allow.") from None
        deadline = time.monotonic() + self.limits.request
        connection = self._reuse(origin) or self._connect(name, origin)
        sending = True
        try:
            connection.settimeout(self.limits.idle)
            send_all(connection, head, body)
            sending = False
            stop = watch(partial(hang_up, connection))
            try:
                answer = Answer(self, origin, connection, name, deadline, bodiless=method == "HEAD")
            finally:
                stop()
            if answer.status < 200:  # another protocol
                raise Malformed
            return answer
        except TimeoutError:
            connection.close()
            raise ProviderTimeout(f"{name} did not answer in time.", billable=not sending) from None
        except (OSError, Malformed):
            connection.close()
            raise ProviderError(f"{name} broke off before it answered. Try again.") from None
        except BaseException:
            connection.close()
            raise

    def _connect(self, name: str, origin: Origin) -> socket.socket:
        for last in (False, True):
            try:
                # For all of it: the look-up of the name has no limit of its own, and each address has the whole anew.
                with gevent.Timeout(self.limits.connect, False):  # ends the block, without an exception
                    return self._dial(*origin)
                raise TimeoutError
            except TimeoutError:
                if last:
                    raise ProviderTimeout(f"AI Pipe could not connect to {name} in time. Try again later.") from None
            except OSError:
                if last:
                    raise ProviderError(f"AI Pipe could not connect to {name}. Try again later.") from None
        raise AssertionError("the second try returns or raises")

    def _dial(self, scheme: str, host: str, port: int) -> socket.socket:
        connection = socket.create_connection((host, port), self.limits.connect)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(connection, server_hostname=host) if scheme == "https" else connection
        except BaseException:
            connection.close()
            raise

    def _reuse(self, origin: Origin) -> socket.socket | None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._idle[origin]:
                    return None
                connection, until = self._idle[origin].pop()
            # Something to read on an idle connection is the provider's farewell.
            if now < until and not readable(connection):
                return connection
            connection.close()

    def keep(self, origin: Origin, connection: socket.socket, keep_alive: str) -> None:
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
