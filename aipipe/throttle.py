"""How often, and how many times at once, strangers may ask for something. Counted by client, in this process."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address

from aipipe.errors import RateLimited

MINUTE = 60.0
MOST_CLIENTS = 10_000  # that are remembered before those who have long left are forgotten


@dataclass(slots=True)
class Visits:
    """One client's: when they began in the last minute, and how many have not ended."""

    began: deque[float] = field(default_factory=deque)
    inside: int = 0

    def forget(self, before: float) -> None:
        while self.began and self.began[0] <= before:
            self.began.popleft()


class Throttle:
    """Admits `per_minute` visits of each client, and `at_once`."""

    def __init__(self, *, per_minute: int, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._at_once, self._clock = per_minute, at_once, clock
        self._clients: dict[str, Visits] = defaultdict(Visits)

    def enter(self, address: str) -> Callable[[], None]:
        """Begins a visit from an address; what is returned ends it, and may be called again. Raises RateLimited."""
        now = self._clock()
        if len(self._clients) > MOST_CLIENTS:
            self._tidy(now)
        visits = self._clients[client(address)]
        visits.forget(now - MINUTE)
        if visits.inside >= self._at_once:
            raise RateLimited(f"AI Pipe serves {self._at_once} of your requests at once. Wait for one.", retry_after=1)
        if len(visits.began) >= self._per_minute:
            wait = int(visits.began[0] + MINUTE - now) + 1
            raise RateLimited(f"AI Pipe serves {self._per_minute} of your requests a minute.", retry_after=wait)
        visits.began.append(now)
        visits.inside += 1
        inside = True

        def leave() -> None:
            nonlocal inside
            visits.inside -= inside
            inside = False

        return leave

    def _tidy(self, now: float) -> None:
        for visits in self._clients.values():
            visits.forget(now - MINUTE)
        kept = {name: visits for name, visits in self._clients.items() if visits.inside or visits.began}
        self._clients = defaultdict(Visits, kept)


def client(address: str) -> str:
    """Who an address belongs to: with IPv6 everybody has at least 2**64 of them."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address
