"""How often, and how many times at once, somebody may ask for something: counted by all workers together.

Why so: docs/decisions/010-rate-limits.md
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from aipipe.errors import ConfigError, LedgerUnavailable, RateLimited

if TYPE_CHECKING:
    from aipipe.ledger.visits import Visits

PREFIX = "aipipe"  # of the names of all that is kept in Redis
REDIS_SECONDS = 1.0  # that a request waits for Redis
REDIS_PAUSE = 10.0  # seconds after it failed, until it is asked again
MOST_REFUSED = 10_000  # that are remembered before they are all forgotten

log = logging.getLogger(__name__)


class Throttle:
    """Counts in the ledger's `visits`, or in Redis where there is one, and goes on in `visits` while that is away.

    What is counted has a name that ends the sentence of a refusal.
    """

    def __init__(self, visits: Visits, *, redis: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self._visits, self._limiter, self._clock = visits, MovingWindowRateLimiter(visits), clock
        self._connection = connect(redis) if redis else None
        self._redis = MovingWindowRateLimiter(self._connection) if self._connection else None
        self._redis_from = 0.0
        self._refused: dict[tuple[str, str, int], float] = {}

    def close(self) -> None:
        """Hangs up on Redis."""
        if self._connection:
            self._connection.storage.close()

    def count(self, what: str, who: str, per_minute: int) -> None:
        """Counts what somebody does. Raises RateLimited for more than `per_minute`; those don't count."""
        key, now = (what, who, per_minute), self._clock()
        until = self._refused.get(key, 0.0)
        if not now < until <= now + 60:  # refused again without a look: a flood costs the store nothing
            item = RateLimitItemPerMinute(per_minute, namespace=what)
            until = self._hit(item, who)
        if until:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused[key] = until
            wait = max(1, math.ceil(until - self._clock()))  # the look may have taken a while
            raise RateLimited(f"AI Pipe allows {per_minute} {what} a minute. Try again in {wait} s.", retry_after=wait)
        self._refused.pop(key, None)

    def _hit(self, item: RateLimitItemPerMinute, who: str) -> float:
        """0 where that is counted, else when somebody may come again."""
        if self._redis and self._clock() >= self._redis_from:
            try:
                return _hit(self._redis, item, who)
            except StorageError:
                self._redis_from = self._clock() + REDIS_PAUSE
                log.warning("Redis does not answer: requests are counted in the ledger's database meanwhile.")
        return _hit(self._limiter, item, who)

    def enter(self, what: str, who: str, at_once: int, seconds: float) -> Callable[[], None]:
        """Begins what somebody does. What is returned ends it; if it never is, `seconds` do.

        Raises RateLimited for more than `at_once`.
        """
        number = self._visits.enter(f"{what} at once/{who}", at_once, seconds)
        if number is None:
            raise RateLimited(f"AI Pipe allows {at_once} {what} at once. Wait for one of them.", retry_after=1)

        def leave() -> None:
            with suppress(LedgerUnavailable):  # then it expires
                self._visits.leave(number)

        return leave


def _hit(limiter: MovingWindowRateLimiter, item: RateLimitItemPerMinute, who: str) -> float:
    return 0.0 if limiter.hit(item, who) else limiter.get_window_stats(item, who).reset_time


def connect(url: str) -> RedisStorage:
    """Redis as a storage; nothing is sent yet. Raises ConfigError where that can't be."""
    try:
        return RedisStorage(
            url,
            key_prefix=PREFIX,
            wrap_exceptions=True,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
        )
    except ConfigurationError:
        raise ConfigError("AIPIPE_REDIS_URL needs the package redis: pip install --editable '.[redis]'") from None


def client(address: str | None) -> str:
    """Who an address belongs to: with IPv6 everybody has at least 2**64 of them."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return address or ""
    return str(IPv6Network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)
