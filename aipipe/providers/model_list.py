"""OpenRouter's own list of models, and the prices of those that nobody else keeps.

https://openrouter.ai/docs/api-reference/list-available-models
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from aipipe.errors import ConfigError, ProviderError
from aipipe.formats import JSON, parse
from aipipe.models import IMAGE_TOKENS
from aipipe.pricing import own_rate
from aipipe.rates import Rate
from aipipe.upstream import Limits, Pool

SECONDS = 10  # for the whole list
LARGEST = 16 * 2**20  # bytes

MILLION = Decimal(10**6)
UNITS = {
    "prompt": ("input_mtok", MILLION),
    "completion": ("output_mtok", MILLION),
    "internal_reasoning": ("output_reasoning_mtok", MILLION),
    "input_cache_read": ("cache_read_mtok", MILLION),
    "input_cache_write": ("cache_write_mtok", MILLION),
    "input_cache_write_1h": ("cache_write_1h_mtok", MILLION),
    "audio": ("input_audio_mtok", MILLION),
    "audio_output": ("output_audio_mtok", MILLION),
    "image_token": ("input_image_mtok", MILLION),
    "image_output": ("output_image_mtok", MILLION),
    "request": ("requests_kcount", Decimal(1000)),
}
READ = {*UNITS, "image", "web_search"}
# Dollars above which a price must be a mistake: the dearest token in 2026 costs $0.0006.
ABSURD = {"request": Decimal(10), "web_search": Decimal(10), "image": Decimal(10)}
ABSURD_TOKEN = Decimal("0.01")


def fetch_models(name: str, base: str) -> dict[str, JSON]:
    """The models that the provider at `base` lists with a price, by their ids, as far as anything here needs them.

    Raises ProviderError, or one of LookupError, TypeError and ValueError when the list isn't what is documented.
    """
    found = parse(fetch_list(name, base)) or {}
    priced = [entry for entry in found["data"] if "pricing" in entry]
    if not priced:
        raise ValueError("no model has a price")
    return {
        str(entry["id"]): {"pricing": dict(entry["pricing"]), "architecture": entry.get("architecture")}
        for entry in priced
    }


def fetch_list(name: str, base: str) -> bytes:
    pool = Pool(Limits(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, request=SECONDS))
    headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "aipipe")]
    answer = pool.send(name, base, "GET", "/v1/models", headers, None)
    body = b""
    try:
        while answer.status == 200 and len(body) <= LARGEST and (chunk := answer.read()):
            body += chunk
    finally:
        answer.close()
        pool.close()
    if answer.status != 200 or len(body) > LARGEST:
        raise ProviderError(f"{name} did not give its list of models.")
    return body


def listed_rate(model: str, pricing: Mapping[str, Any]) -> Rate | None:
    """The rate that `pricing` tells, at its dearest; None where it can't be believed, or bounds nothing."""
    overrides = [each for each in pricing.get("overrides") or () if isinstance(each, dict)]
    given = {name: value for name, value in pricing.items() if name in READ and value is not None}
    dollars = {name: dearest(name, value, overrides) for name, value in given.items()}
    known = {name: value for name, value in dollars.items() if value is not None}
    if known.keys() != dollars.keys() or not {"prompt", "completion"} <= known.keys():
        return None
    # An image counts as so many tokens when a request is bounded.
    if known.get("image", 0) > known["prompt"] * IMAGE_TOKENS:
        return None
    prices = {unit: known[name] * factor for name, (unit, factor) in UNITS.items() if name in known}
    try:
        return own_rate(f"openrouter/{model}", prices, known.get("web_search", Decimal(0)))
    except ConfigError:  # prices that contradict each other
        return None


def dearest(name: str, value: Any, overrides: Sequence[Mapping[str, Any]]) -> Decimal | None:
    """The highest that a price can be, whatever the length of the prompt or the time of day; None if one is absurd."""
    try:
        prices = [Decimal(str(each)) for each in (value, *(each[name] for each in overrides if name in each))]
        believable = all(0 <= price <= ABSURD.get(name, ABSURD_TOKEN) for price in prices)
    except InvalidOperation:  # no number, or NaN
        return None
    return max(prices) if believable else None
