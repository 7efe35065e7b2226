"""Reads what a provider says a request used. Pure: JSON in, counts out.

Where each provider keeps its counts is genai-prices' knowledge, in its extractors and their "flavours";
which event of a stream to read is ours, in `aipipe.formats`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        try:
            provider = get_snapshot().find_provider(None, self.provider, None)
            _, found = provider.extract_usage(answer, api_flavor=self.api)
        except ValueError:
            return None
        tier, told = answer.get("service_tier"), answer.get("usage")
        raw = told if isinstance(told, Mapping) else {}
        counts = {key: value for key, value in vars(found).items() if value}
        if not counts and not raw.get("cost"):
            return None  # zeros in place of what isn't known
        return Usage(counts, tier if isinstance(tier, str) else None, raw)
