"""Fetches a stranger's URL: from an address that was checked, on a connection of its own, in limited time.

Nothing is shared between two fetches, and nothing is taken from the environment: no proxies, no passwords.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
import gevent
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from aipipe.addresses import Address, Rules, Target, rules
from aipipe.errors import NotAllowed, ProviderError, ProviderTimeout
from aipipe.sockets import Watch
from aipipe.throttle import Throttle, client

CHUNK_BYTES = 65_536
CONNECT_SECONDS = LOOKUP_SECONDS = 5.0
# At once; more than one address may have begun in the half minute that one may hang. gevent's own ten threads are left
# to the look-ups of providers.
LOOKUPS = 64
MOST_ADDRESSES = 4  # of one host, that are tried one after another
MOST_INTERIM = 8  # answers such as 103 before the real one
SLOWEST_READER = 60.0  # seconds after the end of a fetch; by then a worker that never said so is dead

Headers = list[tuple[str, str]]
LookUp = Callable[[str, int], list[str]]
ReadBody = Callable[[], bytes | None]

_getaddrinfo = get_original("socket", "getaddrinfo")


def look_up(host: str, port: int) -> list[str]:
    """The addresses that a name stands for; none where there are none. Blocks."""
    try:
        return [found[4][0] for found in _getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def is_ours(address: Address) -> bool:
    """Whether this machine itself has the address, however public: what listens there may count on a firewall."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for a whole fetch, bytes of its answer, and how many of them each address may have."""

    seconds: float
    answer_bytes: int
    per_minute: int
    at_once: int


class Fetcher:
    """Fetches what `rules` and `limits` allow. `look_up` is how names become addresses."""

    def __init__(self, rules: Rules, throttle: Throttle, limits: Limits, look_up: LookUp, tls: ssl.SSLContext) -> None:
        self._rules, self._throttle, self._limits = rules, throttle, limits
        self._look_up, self._tls = look_up, tls
        self._threads: ThreadPool | None = None

    def fetch(
        self, address: str, method: str, target: Target, headers: Headers, body: ReadBody, watch: Watch
    ) -> Fetched:
        """Sends a request to `target` for who comes from `address`, and waits for the head of the answer.

        The body is asked for once they have been let in. `watch` tells of a reason to hang up while we wait. Redirects
        are not followed. Whoever takes the answer must close it.

        Raises:
            RateLimited: the client asks too often.
            NotAllowed: the host, its port or one of its addresses is not for strangers to reach through us.
            ProviderError: no such host, no connection, or no HTTP.
            ProviderTimeout: not in time.
        """
        self._rules.check(target)
        leave = self._enter(client(address))
        try:
            sent = body()
            deadline = time.monotonic() + self._limits.seconds
            connection = self._connect(target, deadline)
        except BaseException:
            leave()
            raise
        fetched = Fetched(connection, target, self._limits, deadline, leave)
        stop = watch(fetched.abort)
        try:
            if target.scheme == "https":
                fetched.encrypt(self._tls)
            fetched.send(method, headers, sent)
        except (OSError, http.client.HTTPException, ValueError):
            fetched.close()
            raise fetched.failure("did not answer as a web server does") from None
        except BaseException:
            fetched.close()
            raise
        finally:
            stop()
        return fetched

    def _enter(self, who: str) -> Callable[[], None]:
        self._throttle.count("fetches from your address", who, self._limits.per_minute)
        longest = self._limits.seconds + SLOWEST_READER
        return self._throttle.enter("fetches from your address", who, self._limits.at_once, longest)

    def _connect(self, target: Target, deadline: float) -> socket.socket:
        """A connection to an address that was checked: the look-up, too, is a part of the time for the whole."""
        try:
            seconds = min(LOOKUP_SECONDS, deadline - time.monotonic())
            return self._dial(target, self.resolve(target.host, target.port, seconds), deadline)
        except ProviderError:
            if time.monotonic() >= deadline:
                raise too_late(target, self._limits) from None
            raise

    def resolve(self, host: str, port: int, seconds: float = LOOKUP_SECONDS) -> list[Address]:
        """The addresses of a host: the only way to one. Each of them may be dialled, or none is.

        Raises:
            NotAllowed: one of them is not on the public internet, is this machine's, or is denied by the operator.
            ProviderError: there are none, or not in time.
        """
        try:
            found = [ip_address(host)]
        except ValueError:
            found = [ip_address(text) for text in self._in_thread(host, port, seconds)]
        if not found:
            raise ProviderError(f"AI Pipe's proxy can't find {host}.")
        for address in found:
            if not self._rules.admits(address) or (is_ours(address) and not address.is_loopback):
                raise NotAllowed(f"AI Pipe's proxy doesn't reach {host}: it is not on the public internet.")
        return list(dict.fromkeys(found))

    def _in_thread(self, host: str, port: int, seconds: float) -> list[str]:
        """What `look_up` finds in time, in a thread of ours; one that hangs is left behind."""
        self._threads = self._threads or ThreadPool(LOOKUPS)
        with gevent.Timeout(seconds, False):  # ends the block, without an exception
            return list(self._threads.spawn(self._look_up, host, port).get())
        return []

    def _dial(self, target: Target, addresses: list[Address], deadline: float) -> socket.socket:
        for address in addresses[:MOST_ADDRESSES]:
            left = min(CONNECT_SECONDS, deadline - time.monotonic())
            with suppress(OSError):
                return socket.create_connection((str(address), target.port), timeout=max(0.001, left))
        raise ProviderError(f"AI Pipe's proxy can't connect to {target.host}.")


class Fetched:
    """An answer on its way, read piece by piece. `abort` may be called from another greenlet, `close` always."""

    status: int
    headers: Headers

    def __init__(
        self, connection: socket.socket, target: Target, limits: Limits, deadline: float, leave: Callable[[], None]
    ) -> None:
        self._target, self._limits, self._leave = target, limits, leave
        self._http = http.client.HTTPConnection(target.host)
        self._http.sock = connection
        self._socket = connection
        self._response: http.client.HTTPResponse | None = None
        self._size = 0
        self._late = False
        # Each byte that drips in begins a socket's timeout anew: this one is for the whole.
        connection.settimeout(None)
        self._timer = threading.Timer(max(0, deadline - time.monotonic()), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speaks TLS from here on, with the host that was asked for, whatever its address."""
        self._socket = context.wrap_socket(
            self._socket, server_hostname=self._target.host, do_handshake_on_connect=False
        )
        self._http.sock = self._socket
        self._socket.do_handshake()

    def send(self, method: str, headers: Headers, body: bytes | None) -> None:
        """Sends the request and takes the head of the answer. Raises OSError, HTTPException or ValueError."""
        self._http.putrequest(method, self._target.path, skip_host=True, skip_accept_encoding=True)
        self._http.putheader("Host", self._target.authority)
        for name, value in headers:
            self._http.putheader(name, value.encode("latin-1"))
        self._http.putheader("Connection", "close")
        if body is not None:
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body)
        self._response = final(self._http.getresponse())
        self.status, self.headers = self._response.status, self._response.getheaders()
        if self._late:
            raise TimeoutError
        if method != "HEAD" and (self.length or 0) > self._limits.answer_bytes:
            raise self._too_large()

    @property
    def length(self) -> int | None:
        """The bytes of the answer, where it told them and nothing else contradicts it."""
        told = {value.strip() for name, value in self.headers if name.lower() == "content-length"}
        if (self._response and self._response.chunked) or len(told) != 1 or not (text := told.pop()).isdecimal():
            return None
        return int(text) if len(text) < 16 else None

    def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end.

        Raises:
            ProviderTimeout: time is up.
            ProviderError: the other side broke off, or sends more than we pass on.
        """
        try:
            chunk = self._response.read1(CHUNK_BYTES) if self._response else b""
        except (OSError, http.client.HTTPException, ValueError):
            raise self.failure("broke off in the middle of its answer") from None
        self._size += len(chunk)
        if self._size > self._limits.answer_bytes:
            raise self._too_large()
        if not chunk and (self._late or (self._response and self._response.length)):
            raise self.failure("broke off in the middle of its answer")
        return chunk

    def failure(self, what: str) -> ProviderError:
        return too_late(self._target, self._limits) if self._late else ProviderError(f"{self._target.host} {what}.")

    def _too_large(self) -> ProviderError:
        most = f"{self._limits.answer_bytes:,} bytes"
        return ProviderError(f"{self._target.host} sends more than the {most} that AI Pipe's proxy passes on.")

    def _expire(self) -> None:
        self._late = True
        self.abort()

    def abort(self) -> None:
        """Hangs up at once: a `read` under way elsewhere ends."""
        # On a second socket for the same connection: TLS would lose its state, on which the reader still relies.
        with suppress(OSError), socket.socket(fileno=os.dup(self._socket.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._leave()
        self._timer.cancel()
        self._http.close()
        if self._response:
            self._response.close()


def final(response: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """The answer behind the interim ones (such as 103) on the same connection. Raises BadStatusLine without one."""
    for _ in range(MOST_INTERIM):
        if not 102 <= response.status < 200:
            break
        response.headers = None  # type: ignore[assignment]  # makes `begin` read the next head
        response.begin()
    if response.status < 200:
        raise http.client.BadStatusLine(str(response.status))
    return response


def too_late(target: Target, limits: Limits) -> ProviderTimeout:
    return ProviderTimeout(f"Requests timeout after {limits.seconds:g} seconds: {target.host} took longer.")


def build(
    proxy: Mapping[str, Any],
    throttle: Throttle,
    *,
    loopback: bool,
    look_up: LookUp = look_up,
    authorities: Path | None = None,
) -> Fetcher:
    """The fetcher that the settings `PROXY` and `UNSAFE_LOOPBACK` make. `authorities` sign certificates: by default
    those that everybody trusts."""
    tls = ssl.create_default_context(cafile=authorities or certifi.where())
    tls.set_alpn_protocols(["http/1.1"])
    limits = Limits(proxy["timeout"], proxy["max_bytes"], proxy["per_minute"], proxy["at_once"])
    return Fetcher(rules(proxy, loopback=loopback), throttle, limits, look_up, tls)
