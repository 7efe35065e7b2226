"""A look at a socket without waiting, gevent or not, and how somebody is watched while we wait for somebody else."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from gevent.monkey import get_original

# gevent's own would let other greenlets run, and `select.select` ends at file descriptor 1,023.
poll = get_original("select", "poll")

# Begins to watch for a reason to hang up, calls what it is given when there is one, and returns what ends the watch.
Watch = Callable[[Callable[[], None]], Callable[[], None]]


def readable(connection: socket.socket) -> bool:
    """Whether there is something to read, be it the other side's farewell."""
    poller = poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
