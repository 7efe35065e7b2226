"""The rows that go into the ledger and come out of it. Money is in nanodollars, times in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ended = Literal["complete", "partial", "adjusted", "imported"]


@dataclass(frozen=True, slots=True)
class Purpose:
    """Who spends, and what for. `app` is empty for a personal token."""

    email: str
    app: str
    provider: str
    model: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that an app may spend of its user's budget, by their own word, and how much of it is gone."""

    limit: int
    spent: int
    held: int

    @property
    def available(self) -> int:
        return self.limit - self.spent - self.held


@dataclass(frozen=True, slots=True)
class Funds:
    """What a decision about admission may rest on, read in the very transaction that carries it out.

    `ahead` counts the requests that already wait in line, `oldest` is the first date in the window with spending
    (`YYYY-MM-DD`), `cap` is that of the app that asks, if it has one.
    """

    limit: int
    spent: int
    held: int
    ahead: int
    oldest: str | None
    cap: Cap | None = None

    @property
    def available(self) -> int:
        left = self.limit - self.spent - self.held
        return min(left, self.cap.available) if self.cap else left

    @property
    def unspent(self) -> int:
        """What would be available with nothing under way."""
        left = self.limit - self.spent
        return min(left, self.cap.limit - self.cap.spent) if self.cap else left


@dataclass(frozen=True, slots=True)
class Usages:
    """Tokens of one request, as its entry keeps them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """Admitted: set `amount` aside. `estimate` and `usages` are booked only if the worker dies on the way.

    The answer may have `tokens` for each choice; `cap` is that number where it must be told to the provider, and
    `capped` says that more was wanted.
    """

    amount: int
    estimate: int
    usages: Usages
    tokens: int = 0
    cap: int | None = None
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: others hold the money, and some of it will come back."""

    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside. Resolved exactly once: settled, released or swept."""

    id: int
    purpose: Purpose
    grant: Grant
    created: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. `duration` is in milliseconds, from admission on; so is `first_token`, from when the
    request was sent until a streamed answer said something. None where it did not, or was no stream."""

    time: float
    date: str
    email: str
    app: str
    provider: str
    model: str
    endpoint: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: int
    status: int
    ended: Ended
    answer_id: str
    duration: int
    first_token: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: the cost that was booked, and what its owner has spent since the window began.

    `cap_left` is what the app may still spend, where its user set a cap.
    """

    cost: int
    spent: int
    cap_left: int | None = None


@dataclass(frozen=True, slots=True)
class Day:
    email: str
    date: str
    cost: int


@dataclass(frozen=True, slots=True)
class AllowedApp:
    """A web origin that a user let spend from their budget, at `allowed` until `expires`.

    `spent` counts from then on; `cap` is the most it may become. A `revoked` one has had its time, by the user's word.
    """

    origin: str
    cap: int | None
    spent: int
    allowed: float
    expires: float
    last_used: float | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class AppToken:
    jti: str
    app: str
    issued: float


@dataclass(frozen=True, slots=True)
class Total:
    """What the lines with the same `key` come to: the values, in order, of what was asked to sum by."""

    key: tuple[str, ...]
    cost: int
    requests: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How a provider did of late: median milliseconds to the first token of its streams, and to its whole answers."""

    requests: int
    first_token: int | None
    whole: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """How a provider last failed: when, with which HTTP status, and a sentence of ours about it."""

    time: float
    status: int
    message: str


Column = Literal["email", "date", "provider", "model", "app"]
