"""Which price a model has: the operator's own, ours, or genai-prices'.

https://github.com/pydantic/genai-prices keeps the prices of the providers, with their cache, audio and
tier rules. A price table of our own would be stale in a month.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider, Tier, TieredPrices

from aipipe.errors import ConfigError
from aipipe.money import MAX_DOLLARS
from aipipe.rates import UNITS, Rate


@dataclass(frozen=True, slots=True)
class Correction:
    """What we know better than genai-prices, with its source. Without prices, the models are not to be had."""

    provider: str
    models: str
    why: str
    source: str
    prices: Mapping[str, float] | None

    def concerns(self, provider: str, model: str) -> bool:
        return provider == self.provider and re.fullmatch(self.models, model.lower()) is not None


CORRECTIONS = [
    Correction(**entry) for entry in orjson.loads(Path(__file__).with_name("price_corrections.json").read_bytes())
]


class Prices:
    """Finds the rate of a model: the operator's `PRICES` first, then our corrections, then genai-prices."""

    def __init__(self, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        self._overrides = {name.lower(): own_rate(name, prices) for name, prices in overrides.items()}
        # Names come from callers: the cache of what was found, and of what wasn't, must not grow for ever.
        self.find = lru_cache(maxsize=2048)(self._find)

    def _find(self, provider: str, price_id: str | None, model: str) -> Rate | None:
        """The rate of `model` at our `provider`, whose prices genai-prices keeps under `price_id`; None if unknown."""
        if own := self._overrides.get(f"{provider}/{model}".lower()):
            return own
        if price_id is None:
            return None
        for correction in CORRECTIONS:
            if correction.concerns(price_id, model):
                return own_rate(f"{provider}/{model}", correction.prices) if correction.prices else None
        try:
            return Rate(*get_snapshot().find_provider_model(model, None, price_id, None))
        except LookupError:
            return None


def price_id_of(base: str) -> str | None:
    """The name under which genai-prices keeps the provider at this base URL, if it does."""
    try:
        return get_snapshot().find_provider(None, None, base).id
    except LookupError:
        return None


def barred(price_id: str | None, model: str) -> bool:
    """Whether a model is not to be had at a provider, whoever knows a price for it."""
    return any(each.prices is None and each.concerns(price_id or "", model) for each in CORRECTIONS)


def own_rate(name: str, prices: Mapping[str, Any], searches: Decimal = Decimal(0)) -> Rate:
    """The rate that a table of prices in dollars by genai-prices' units makes. Raises ConfigError for a bad one."""
    if "/" not in name or not isinstance(prices, Mapping):
        raise ConfigError(f'PRICES: {name!r} must be "provider/model" with prices, as {{"input_mtok": 0.1}}')
    units = {key: _own_price(name, key, value) for key, value in prices.items()}
    model = ModelInfo(id=name, match=ClauseEquals(name), prices=ModelPrice(**units))
    source = Provider(id=name.partition("/")[0], name="own prices", api_pattern="", models=[model])
    rate = Rate(source, model, searches)
    try:
        rate.cost({"input_tokens": 1, "output_tokens": 1})
    except ValueError as error:  # a price of cached tokens alone, say
        raise ConfigError(f"PRICES[{name!r}] can't be used: {error}") from None
    return rate


def _own_price(name: str, key: str, value: Any) -> Decimal | TieredPrices:
    if key not in UNITS:
        raise ConfigError(f"PRICES[{name!r}]: {key!r} is not a unit; use one of {', '.join(sorted(UNITS))}")
    if not isinstance(value, Mapping):
        return _amount(name, key, value)
    above = value.get("above")
    if set(value) != {"base", "above"} or not isinstance(above, Mapping) or not all(map(_is_count, above)):
        raise ConfigError(
            f'PRICES[{name!r}][{key!r}] must be dollars, or {{"base": dollars, "above": {{"200000": dollars}}}}'
        )
    tiers = [Tier(start=int(start), price=_amount(name, key, price)) for start, price in above.items()]
    return TieredPrices(base=_amount(name, key, value["base"]), tiers=tiers)


def _is_count(value: Any) -> bool:
    text = str(value)
    return text.isascii() and text.isdecimal() and len(text) < 10


def _amount(name: str, key: str, value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= MAX_DOLLARS or isinstance(value, bool):
        raise ConfigError(f"PRICES[{name!r}][{key!r}] must be dollars, from zero to a billion, not {str(value)[:40]!r}")
    return amount
