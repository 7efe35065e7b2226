"""What is fetched from elsewhere and kept for a while: an old value is given out while a new one is on its way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from aipipe.errors import AppError

T = TypeVar("T")
log = logging.getLogger(__name__)


class Kept(Generic[T]):
    """The value of `fetch`, which runs in a thread of its own and may raise AppError, LookupError, TypeError or
    ValueError. It is fetched when it is asked for and older than `fresh` seconds, and after a failure not sooner than
    in `again` seconds. `name` is for the log."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[], T],
        *,
        fresh: float = 3600,
        again: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._fetch, self._fresh, self._again, self._clock = name, fetch, fresh, again, clock
        self._value: T | None = None
        self._due = float("-inf")
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Begins to fetch the value if that is due; doesn't wait for it."""
        with self._lock:
            if self._clock() < self._due or (self._thread and self._thread.is_alive()):
                return
            self._due = self._clock() + self._again
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def get(self, patience: float = 0) -> T | None:
        """The value, waiting up to `patience` seconds for the very first one; None where there is none yet."""
        self.refresh()
        if self._value is None:
            self.wait(patience)
        return self._value

    def wait(self, patience: float | None = None) -> None:
        """Waits until nothing is being fetched."""
        if self._thread:
            self._thread.join(patience)

    def _run(self) -> None:
        try:
            self._value = self._fetch()
            self._due = self._clock() + self._fresh
        except (AppError, LookupError, TypeError, ValueError) as error:
            log.warning("%s can't be fetched (%s); tried again in %g s", self._name, type(error).__name__, self._again)
