"""Providers that speak OpenAI's formats each a little differently: their caps, and what they tell of thoughts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from conftest import MakeApp
from fake_provider import FakeProvider

from aipipe.formats import CompatibleChat, GeminiChat
from aipipe.providers.compatible import compatible
from aipipe.sse import Event


# The numbers of https://docs.x.ai/docs/guides/reasoning, and others like them; the rest is as many have it.
@pytest.mark.parametrize("format", [CompatibleChat(), GeminiChat()])
@pytest.mark.parametrize(
    ("usage", "output", "cached"),
    [
        ((37, 530, 800, 233, 8), 763, 8),
        ((32, 9, 135, 94, 0), 103, 0),
        ((32, 103, 135, 94, 20), 103, 20),
        ((32, 103, None, 94, 20), 103, 20),
        ((32, 103, 32, 94, 0), 103, 0),
    ],
)
def test_output_is_all_that_the_total_has_beside_the_prompt(
    format: CompatibleChat, usage: tuple[Any, ...], output: int, cached: int
) -> None:
    prompt, completion, total, reasoning, cache_read = usage
    told = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cache_read},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    watch = format.watch()
    watch.see(Event("message", orjson.dumps({"choices": [], "usage": told}), 0, 1))
    for reading in (format.read({"usage": told}), watch.reading):
        assert reading.usage
        assert (reading.usage.input_tokens, reading.usage.output_tokens) == (prompt, output)
        assert reading.usage.cached_tokens == cached


def test_no_completion_told_is_none() -> None:
    found = CompatibleChat().read({"usage": {"prompt_tokens": 5, "completion_tokens": None, "total_tokens": 9}})
    assert found.usage and found.usage.output_tokens == 4


@pytest.mark.parametrize(
    ("base", "field"),
    [
        ("https://api.deepseek.com", "max_tokens"),
        ("http://127.0.0.1:8000", "max_tokens"),
        ("https://school.openai.azure.com/openai", "max_completion_tokens"),
    ],
)
def test_a_cap_goes_by_the_name_that_its_provider_is_known_to_read(base: str, field: str) -> None:
    endpoint = compatible("own", base, None).find("POST", "/v1/chat/completions")
    body: dict[str, Any] = {"max_completion_tokens": 50}
    assert endpoint.format
    endpoint.format.cap(body, None)
    assert body == {field: 50}


@pytest.mark.parametrize("name", ["Provider", "enable_search[]", "SEARCH_PARAMETERS"])
def test_no_other_spelling_of_what_costs_passes(
    name: str, provider: FakeProvider, make_app: MakeApp, token: Callable[[str], str]
) -> None:
    answer = (
        make_app()
        .test_client()
        .post(
            "/openai/v1/chat/completions",
            json={"model": "gpt-4.1-nano", "messages": [], name: True},
            headers={"Authorization": f"Bearer {token('alice@example.com')}"},
        )
    )
    assert answer.status_code == 400
    assert name in answer.get_data(as_text=True)
