"""What a fake server and its test wait for. Every wait is bounded and ends in a clear error."""

from __future__ import annotations

import fcntl
import os
import queue
import socket
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from wire import PATIENCE, Received


class Departures:
    """The requests whose connection the client closed in mid-answer."""

    def __init__(self) -> None:
        self._found: queue.Queue[Received] = queue.Queue()

    def put(self, request: Received) -> None:
        self._found.put(request)

    def wait(self, timeout: float = PATIENCE) -> Received:
        """The next of them. Raises AssertionError when there is none in time."""
        try:
            return self._found.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"No client closed its connection in mid-answer within {timeout:g} s") from None

    def __len__(self) -> int:
        return self._found.qsize()


@dataclass
class Latch:
    """Opening it closes one end of a pipe, which every `poll` on the other end sees, now and later."""

    arrivals: int = 0
    wait_end: int = field(init=False)
    _open_end: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.wait_end, self._open_end = os.pipe()

    def open(self) -> None:
        if self._open_end is not None:
            os.close(self._open_end)
            self._open_end = None

    def close(self) -> None:
        """Nobody waits any more."""
        self.open()
        os.close(self.wait_end)


def eventually(so: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Returns as soon as `so` holds; raises AssertionError with `what` when it doesn't in time.

    For what tells no event: the state of another process, or of the system. Hence the one sleep between two looks.
    """
    deadline = time.monotonic() + patience
    while not so():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.005)  # between two looks: nothing tells when to look


def delivered(connection: socket.socket) -> None:
    """Waits until the other side has all that was sent: a reset throws the rest away."""

    def all_of_it() -> bool:
        return not int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    eventually(all_of_it, "the other side has all that was sent")
