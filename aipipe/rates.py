"""What a model costs at a provider: by genai-prices' rules, exact in nanodollars.

Its rules take 0.1 ms for each price. But most models ask so much for a token, all day and however many there are:
that much is learned from genai-prices once a day, by asking for single tokens, and multiplied from then on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any

from genai_prices import Usage as PricedUsage
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, Provider, StartDateConstraint, TieredPrices

UNITS = {str(unit.get("price_key", name)): unit for name, unit in unit_data.items()}
MODALITIES = frozenset({"text", "audio", "image", "video"})
STANDARD_TIERS = frozenset({"auto", "default", "standard", "standard_only"})
NANO = Decimal(10**9)
# The counts of text, and which of them is a part of which.
WHOLES = ("input_tokens", "output_tokens")
PARTS = {
    "cache_read_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
    "output_reasoning_tokens": "output_tokens",
}


def nano(dollars: Decimal) -> int:
    """Dollars as nanodollars, rounded up: a fraction of a nanodollar is never given away."""
    return int((dollars * NANO).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Card:
    """The most that a request can cost, in nanodollars per token of the dearest kind, and per request."""

    input: Decimal
    output: Decimal
    request: Decimal
    other: bool = False  # seconds, characters and the like have a price, which this is no bound of

    def input_cost(self, tokens: int) -> int:
        """The bound of what reading `tokens` costs, with the price of the request itself."""
        return int((self.input * tokens + self.request).to_integral_value(ROUND_CEILING))

    def output_cost(self, tokens: int) -> int:
        return int((self.output * tokens).to_integral_value(ROUND_CEILING))

    def buys(self, money: int) -> int:
        """How many output tokens `money` pays for. Ask only where they have a price."""
        return max(0, int(money // self.output))

    @property
    def unpriced(self) -> bool:
        """Whether the model has prices, but none for what a request like this is billed by."""
        return self.other and not (self.input or self.output or self.request)

    @property
    def free(self) -> bool:
        return not (self.input or self.output or self.request or self.other)


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """The price of one model at one provider."""

    source: Provider
    model: ModelInfo
    searches: Decimal = Decimal(0)  # dollars that a request may cost on top, for a search of the model's own

    def cost(self, counts: Mapping[str, Any], tier: str | None = None) -> int:
        """What a request cost, in nanodollars, rounded up.

        `counts` is keyed by genai-prices' units (`input_tokens`, `cache_read_tokens`, …); `tier` is the
        service tier that the provider says it used.

        Raises:
            ValueError: the counts contradict each other (more cached tokens than tokens).
        """
        line = _line(self, tier, _today())
        if line and (cost := line.cost(counts)) is not None:
            return cost
        return nano(self.dollars(counts, tier, datetime.now(UTC)))

    def dollars(self, counts: Mapping[str, Any], tier: str | None, now: datetime) -> Decimal:
        """As `cost`, in dollars and not rounded, by genai-prices itself."""
        found = self.model.calc_price(
            PricedUsage(**counts), self.source, genai_request_timestamp=now, price_context=_context(tier)
        )
        return found.total_price

    @property
    def free(self) -> bool:
        """Whether nothing that the model does has a price."""
        return self.card(0).free

    @property
    def modalities(self) -> frozenset[str]:
        """What has a price of its own, beside text."""
        prices = self.model.get_prices(datetime.now(UTC)).__dict__
        known = [UNITS[key]["dimensions"].get("modality", "text") for key in prices if key in UNITS and prices[key]]
        return frozenset({"text", *known})

    def has_tier(self, tier: str) -> bool:
        """Whether a service tier is the standard one, or one whose price is known."""
        variants = self.model.price_variants or ()
        return tier in STANDARD_TIERS or any(variant.when == {"service_tier": tier} for variant in variants)

    def card(self, input_tokens: int, *, modalities: frozenset[str] = frozenset(), tier: str | None = None) -> Card:
        """The bounds for a request of at most `input_tokens`, text and the given `modalities` in and out."""
        today = _today()
        if _steady(self, tier, today) and modalities <= MODALITIES:  # a caller's own words for them are not kept
            return _steady_card(self, modalities, tier, today)
        return _card(self, input_tokens, modalities, tier, datetime.now(UTC))


def _highest(price: Decimal | TieredPrices, input_tokens: int) -> Decimal:
    if isinstance(price, TieredPrices):
        return max([price.base, *(tier.price for tier in price.tiers if tier.start < input_tokens)])
    return price


def _context(tier: str | None) -> dict[str, str] | None:
    return {"service_tier": tier} if tier else None


def _today() -> int:
    """Days since 1970, in UTC: quicker to make and to look up than dates."""
    return int(time.time() // 86_400)


def _beginning(day: int) -> datetime:
    return datetime.fromtimestamp(day * 86_400, UTC)


@lru_cache(maxsize=4096)
def _steady(rate: Rate, tier: str | None, today: int) -> bool:
    """Whether the prices are the same all day, and for any number of tokens."""
    prices, variants = rate.model.prices, rate.model.price_variants or ()
    conditional = [*(prices if isinstance(prices, list) else ()), *variants]
    if not all(each.constraint is None or isinstance(each.constraint, StartDateConstraint) for each in conditional):
        return False
    found = rate.model.get_prices(_beginning(today), _context(tier))
    return not any(isinstance(price, TieredPrices) for price in found.__dict__.values())


def _card(rate: Rate, input_tokens: int, modalities: frozenset[str], tier: str | None, now: datetime) -> Card:
    prices = rate.model.get_prices(now, _context(tier))
    dearest = {"input": Decimal(0), "output": Decimal(0)}
    per_request = Decimal(0)
    other = False
    for key, price in prices.__dict__.items():
        unit = UNITS.get(key)
        if unit is None or price is None:
            continue
        kind = unit["dimensions"]
        each = _highest(price, input_tokens) * NANO / unit["per"]
        if kind["family"] == "requests":
            per_request = each
        elif kind["family"] == "tokens" and kind.get("modality", "text") in {"text", *modalities}:
            direction = kind["direction"]
            dearest[direction] = max(dearest[direction], each)
        else:
            other = other or bool(each)
    return Card(dearest["input"], dearest["output"], per_request + rate.searches * NANO, other)


@lru_cache(maxsize=4096)
def _steady_card(rate: Rate, modalities: frozenset[str], tier: str | None, today: int) -> Card:
    return _card(rate, 0, modalities, tier, _beginning(today))


@dataclass(frozen=True, slots=True)
class Line:
    """So many nanodollars for a request, and for each token of text: for a part, what it costs on top of its whole."""

    request: Decimal
    each: Mapping[str, Decimal]

    def cost(self, counts: Mapping[str, Any]) -> int | None:
        """What `Rate.cost` says; None where there is something else than text, or more of a part than of its whole."""
        cost = self.request
        rest = dict.fromkeys(WHOLES, 0)
        for name, count in counts.items():
            each = self.each.get(name)
            if each is None or type(count) is not int or count < 0:
                return None
            cost += each * count
            if name in PARTS:
                rest[PARTS[name]] -= count
            else:
                rest[name] += count
        return None if min(rest.values()) < 0 else int(cost.to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4096)
def _line(rate: Rate, tier: str | None, today: int) -> Line | None:
    """What genai-prices asks for single tokens, if that is all that its price consists of."""
    if not _steady(rate, tier, today):
        return None

    def price(**counts: int) -> Decimal:
        return rate.dollars(counts, tier, _beginning(today)) * NANO

    try:
        none = price()
        each = {name: price(**{name: 1}) - none for name in WHOLES}
        each |= {part: price(**{part: 1, whole: 1}) - price(**{whole: 1}) for part, whole in PARTS.items()}
        sample = {"input_tokens": 11, "output_tokens": 7, **dict.fromkeys(PARTS, 3)}
        found = Line(none, each)
        return found if found.cost(sample) == nano(rate.dollars(sample, tier, _beginning(today))) else None
    except ValueError:
        return None
