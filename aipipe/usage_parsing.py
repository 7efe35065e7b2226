"""Reads what a provider says a request used. Pure: JSON in, counts out.

Where each provider keeps its counts is genai-prices' knowledge, in its extractors and their "flavours";
which event of a stream to read is ours, in `aipipe.formats`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from genai_prices.data_snapshot import get_snapshot


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts by genai-prices' unit names, the service tier if told, and the provider's own words."""

    counts: Mapping[str, Any]
    tier: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_tokens(self) -> int:
        return int(self.counts.get("input_tokens", 0))

    @property
    def output_tokens(self) -> int:
        return int(self.counts.get("output_tokens", 0))

    @property
    def cached_tokens(self) -> int:
        return int(self.counts.get("cache_read_tokens", 0))


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of genai-prices' usage extractors."""

    provider: str
    api: str

    def read(self, answer: Mapping[str, Any]) -> Usage | None:
        """The usage that an answer carries, or None where there is none to be made sense of."""
        found = plain_counts(answer, plan_of(self))
        if found is None:
            try:
                found = self.extract(answer)
            except ValueError:
                return None
        tier, told = answer.get("service_tier"), answer.get("usage")
        raw = told if isinstance(told, Mapping) else {}
        counts = {key: value for key, value in found.items() if value}
        if not counts and not raw.get("cost"):
            return None  # zeros in place of what isn't known
        return Usage(counts, tier if isinstance(tier, str) else None, raw)

    def extract(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The counts as genai-prices itself reads them. Raises ValueError where it can't."""
        return dict(vars(_provider(self.provider).extract_usage(answer, api_flavor=self.api)[1]))


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an extractor looks: under `root`, along each path, for what it adds to a count, and whether it insists."""

    root: str
    places: tuple[tuple[tuple[str, ...], str, bool], ...]


def plain_counts(answer: Mapping[str, Any], plan: Plan | None) -> dict[str, Any] | None:
    """What genai-prices would extract, four times as fast; None where an answer isn't as plain as most are.

    Plain is what consists of objects and whole numbers, with nothing in the place of what may be missing.
    """
    usage = answer.get(plan.root) if plan else None
    if plan is None or type(usage) is not dict:
        return None
    counts: dict[str, Any] = {}
    for path, name, required in plan.places:
        value: Any = usage
        for step in path:
            if type(value) is dict:
                value = value.get(step)
            elif value is not None:
                return None
        if type(value) is int and value >= 0:
            counts[name] = counts.get(name, 0) + value
        elif value is not None or required:
            return None
    return counts or None


def _provider(name: str) -> Any:
    return get_snapshot().find_provider(None, name, None)


@cache
def plan_of(flavour: Flavour) -> Plan | None:
    """None where the extractor looks into lists, too."""
    extractor = next((one for one in _provider(flavour.provider).extractors if one.api_flavor == flavour.api), None)
    if extractor is None or not isinstance(extractor.root, str):
        return None
    places = []
    for one in extractor.mappings:
        path = (one.path,) if isinstance(one.path, str) else tuple(one.path)
        if not all(isinstance(step, str) for step in path):
            return None
        places.append((path, one.dest, one.required))
    return Plan(extractor.root, tuple(places))
