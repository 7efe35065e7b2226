"""The other end of a request: tells when the one who asked has gone away, while we wait for something else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent import socket as cooperative

from aipipe.sockets import readable

READ = 1  # libev's and libuv's name for "readable"


def nothing() -> None:
    """For a watch that watches nothing."""


class Client:
    """The connection that a request came on, as gunicorn's gevent worker hands it out.

    Under any other server, and behind TLS that gunicorn itself ends, nobody is ever seen to leave. `left` is true
    once a watch has seen it.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        found = environ.get("gunicorn.socket")
        self._socket = found if type(found) is cooperative.socket else None
        self.left = False

    def gone(self) -> bool:
        """Whether the client has closed its end."""
        if self._socket is None or self._socket.fileno() < 0:
            return self._socket is not None
        try:
            return readable(self._socket) and self._socket.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def watch(self, leave: Callable[[], None]) -> Callable[[], None]:
        """Calls `leave`, from another greenlet, as soon as the client goes away; until the returned stop is called."""
        if self._socket is None:
            return nothing
        watcher = gevent.get_hub().loop.io(self._socket.fileno(), READ)
        stopped = False

        def look() -> None:
            if stopped:  # between the event and now: what was to be left may be somebody else's by now
                return
            # Its farewell, or a request sent ahead; after the latter we can't tell any more.
            watcher.stop()
            if self.gone():
                self.left = True
                leave()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            watcher.stop()
            watcher.close()

        # The event loop itself must not call into sockets.
        watcher.start(lambda: gevent.spawn(look))
        return stop
