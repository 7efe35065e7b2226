"""Metered requests, ready to be admitted: of a provider with prices that are easy to reckon with."""

from __future__ import annotations

from typing import Any

import orjson

from aipipe.budgets import Budget
from aipipe.pricing import Prices
from aipipe.providers import Call
from aipipe.providers.compatible import compatible

BUDGET = Budget(limit=1_000_000, days=7)
SCHOOL = compatible("school", "http://127.0.0.1:9", None)

# A token costs 1 nanodollar to read and 10 to write.
_MODEL = {"input_mtok": 0.001, "output_mtok": 0.01, "cache_read_mtok": 0.0005}
PRICES = Prices(
    {
        "school/unknown": _MODEL,
        "school/gpt-4o-2024-05-13": _MODEL,  # writes at most 4,096 tokens
        "school/deepseek-r1": _MODEL,  # thinks first
        "school/free": {"input_mtok": 0, "output_mtok": 0},
        "school/writes": {"output_mtok": 0.01},
        "school/embeds": {"input_mtok": 0.001},
        "school/speaks": {"input_mchars": 0.001},
        "school/hears": {"audio_hours": 0.0036},  # 1,000 nanodollars a second
    }
)


def call(model: str = "unknown", *, path: str = "/v1/chat/completions", budget: Budget = BUDGET, **fields: Any) -> Call:
    """A request as an app sends it, with `fields` beside its model; a short message, if it has nothing else."""
    if path == "/v1/chat/completions":
        fields = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    body = {"model": model, **fields}
    endpoint = SCHOOL.find("POST", path)
    assert endpoint.format
    size = len(orjson.dumps(body))
    return SCHOOL.prepare(endpoint, endpoint.format, path, body, size, PRICES, budget, {"mine": 100}.get)
