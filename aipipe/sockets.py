"""A look at a socket without waiting, gevent or not."""

from __future__ import annotations

import select
import socket

from gevent.monkey import get_original

# gevent's own would let other greenlets run, and `select.select` ends at file descriptor 1,023.
poll = get_original("select", "poll")


def readable(connection: socket.socket) -> bool:
    """Whether there is something to read, be it the other side's farewell."""
    poller = poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
