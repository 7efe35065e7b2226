"""How much of a budget a request may set aside, and how long an answer that buys. Pure: values in, values out.

The rules are those of docs/decisions/001-holds.md: a request goes out only with a bound on its cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aipipe.rates import Card

UNKNOWN_OUTPUT = 16_384  # tokens, where a model's documented maximum isn't known
WHOLE_ANSWER = 1_024  # tokens: below this a request rather waits than be cut short
SHORTEST_ANSWER = 16  # tokens: below this an answer is of no use
TYPICAL_ANSWER = 500  # tokens, for the estimate that is booked when a worker dies
BYTES_PER_TOKEN = 4  # of ordinary English
LONGEST_LINE = 32  # requests of one person that may wait for money at once


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, in tokens.

    `input_bytes` bounds the text: a token is at least a byte. `input_tokens` is what comes on top and is
    known in tokens (images at their documented maximum). `cap` is the caller's own limit for each of the
    `choices`; `most` the model's documented maximum (None: unknown). `least` is the shortest answer of use:
    a model that thinks first needs more. A request for embeddings has no `output`. Where nothing bounds the cost
    (`unbounded`: what is in a recording?) a quarter of the money is set aside, or what it probably takes if that is
    more. `presumed` is the usage, by genai-prices' units, of a request whose answer isn't billed by the text in it; it
    is `told` when the request itself says all that is billed. An input that is partly `guessed` has all the money there
    is set aside, and runs alone: no more than one can turn out to be longer. `modalities` are what beside text goes in
    or comes out.
    """

    input_bytes: int
    input_tokens: int = 0
    cap: int | None = None
    most: int | None = None
    choices: int = 1
    least: int = SHORTEST_ANSWER
    output: bool = True
    unbounded: bool = False
    guessed: bool = False
    modalities: frozenset[str] = frozenset()
    presumed: Mapping[str, int] = field(default_factory=dict)
    told: bool = False

    @property
    def bound(self) -> int:
        return self.input_bytes + self.input_tokens

    @property
    def likely(self) -> int:
        """The tokens that the input probably is."""
        return -(-self.input_bytes // BYTES_PER_TOKEN) + self.input_tokens

    @property
    def want(self) -> int:
        """Tokens wanted for each choice."""
        if not self.output:
            return 0
        most = self.most or UNKNOWN_OUTPUT
        return most if self.cap is None else self.cap if self.most is None else min(self.cap, most)


@dataclass(frozen=True, slots=True)
class Share:
    """Money to set aside in nanodollars, and tokens for each choice."""

    amount: int
    tokens: int


def share(ask: Ask, card: Card, available: int, *, alone: bool) -> Share | None:
    """The share of `available` money that the request gets, or None where that isn't enough.

    Beside other requests (`alone` false) a request that set no cap takes at most a quarter of the money, and
    one that can't have a whole answer takes nothing. Alone it gets what there is, down to the shortest
    answer; and if its bytes as tokens don't fit but a quarter of them does, it takes everything.
    """
    if card.free:
        return Share(0, ask.want)
    if ask.unbounded:
        return _quarter(ask, card, available)
    if not ask.guessed and (found := _whole(ask, card, available, alone=alone)):
        return found
    return _everything(ask, card, available) if alone else None


def _whole(ask: Ask, card: Card, available: int, *, alone: bool) -> Share | None:
    reading = card.input_cost(ask.bound)
    left = available - reading
    if left < 0:
        return None
    tokens = ask.want
    if tokens and card.output:
        bought = card.buys(left) // ask.choices
        if ask.cap is None:
            bought = min(bought, max(card.buys(available // 4) // ask.choices, WHOLE_ANSWER, ask.least))
        tokens = min(tokens, bought)
    if tokens < shortest(ask, alone=alone):
        return None
    return Share(reading + card.output_cost(tokens * ask.choices), tokens)


def _quarter(ask: Ask, card: Card, available: int) -> Share | None:
    probably = card.input_cost(ask.likely)
    return Share(max(probably, available // 4), 0) if probably < available else None


def _everything(ask: Ask, card: Card, available: int) -> Share | None:
    left = available - card.input_cost(ask.likely)
    if left < 0:
        return None
    tokens = min(ask.want, card.buys(left) // ask.choices) if card.output else ask.want
    return Share(available, tokens) if tokens >= shortest(ask, alone=True) else None


def shortest(ask: Ask, *, alone: bool) -> int:
    """The tokens below which the request rather waits, or is refused: never more than it wants."""
    return min(ask.want, ask.least if alone else max(ask.least, WHOLE_ANSWER))


def needed(ask: Ask, card: Card) -> int:
    """The least money in nanodollars with which the request could be admitted."""
    if ask.unbounded:
        return card.input_cost(ask.likely) + 1
    return card.input_cost(ask.likely) + card.output_cost(shortest(ask, alone=True) * ask.choices)
