"""What a provider says it used is read as genai-prices reads it, if by a shorter way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe.formats import chat, embeddings, gemini, gemini_chat, images, messages, responses
from aipipe.usage_parsing import Flavour, Plan, plain_counts, plan_of

ALL = [
    chat.CHAT, embeddings.EMBEDDINGS, gemini.GEMINI, gemini_chat.CHAT, images.IMAGES, messages.MESSAGES,
    responses.RESPONSES,
]  # fmt: skip
PLANS = [(flavour, plan) for flavour in ALL if (plan := plan_of(flavour))]
ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))
COUNTS = st.one_of(st.integers(0, 10**12), ODD)


@st.composite
def usages(draw: st.DrawFn, plan: Plan) -> object:
    """A usage with some of what the flavour looks for, in its place, and odd things in the place of others."""
    usage: dict[str, Any] = {}
    paths = [path for path, _, _ in plan.places]
    for path in paths:
        held: Any = usage
        for step in path[:-1]:
            held = held.setdefault(step, {}) if isinstance(held, dict) else None
        if isinstance(held, dict) and draw(st.integers(0, 5)):
            held[path[-1]] = draw(COUNTS)
    if len(path := draw(st.sampled_from(paths))) > 1:
        usage[path[0]] = draw(st.one_of(ODD, st.just(usage.get(path[0]))))
    return draw(st.one_of(st.just(usage), st.just(usage), ODD))


@pytest.mark.parametrize(("flavour", "plan"), PLANS)
@given(data=st.data())
def test_the_shorter_way_finds_what_genai_prices_finds_or_leaves_it_to_that(
    data: st.DataObject, flavour: Flavour, plan: Plan
) -> None:
    answer = {"model": "a-model", plan.root: data.draw(usages(plan))}
    found = plain_counts(answer, plan)
    if found is not None:
        assert found == flavour.extract(answer)


@pytest.mark.parametrize("flavour", [chat.CHAT, messages.MESSAGES, responses.RESPONSES])
def test_plain_answers_of_the_busiest_formats_go_the_shorter_way(flavour: Flavour) -> None:
    plan = plan_of(flavour)
    assert plan
    usage: dict[str, Any] = {}
    for number, (path, _, _) in enumerate(plan.places, 1):
        held = usage
        for step in path[:-1]:
            held = held.setdefault(step, {})
        held[path[-1]] = number
    found = plain_counts({plan.root: usage}, plan)
    assert found
    assert found == flavour.extract({plan.root: usage})


def test_a_usage_without_a_count_that_must_be_there_is_none() -> None:
    assert chat.CHAT.read({"usage": {"prompt_tokens": 1}}) is None
    assert chat.CHAT.read({"usage": {"prompt_tokens": 1, "completion_tokens": "2"}}) is None
