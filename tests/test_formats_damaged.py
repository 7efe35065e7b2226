"""Requests and answers that are not what they should be: bounded or refused, read or unreadable, never a 500."""

from __future__ import annotations

from contextlib import suppress

import orjson
import pytest
from bodies import ANSWERS, REQUESTS, damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from aipipe.errors import AppError
from aipipe.formats import UNREADABLE, Context, Format, Reading
from aipipe.models import Limits
from aipipe.sse import Event


@settings(max_examples=50, deadline=None)
@given(data=st.data(), cap=st.none() | st.integers(0, 10**6), thinks=st.booleans())
@pytest.mark.parametrize(("format", "body"), REQUESTS.values(), ids=REQUESTS)
def test_any_request_is_bounded_or_refused(
    format: Format, body: dict[str, object], data: st.DataObject, cap: int | None, thinks: bool
) -> None:
    odd = orjson.loads(orjson.dumps(data.draw(damaged(body))))
    try:
        found = format.ask(odd, Context(Limits(thinks=thinks), len(orjson.dumps(odd)), {"mine": 5000}.get))
    except AppError as refusal:
        assert refusal.status in (400, 403)
        return
    assert min(found.input_bytes, found.input_tokens, found.want, found.choices - 1, found.likely) >= 0
    format.cap(odd, cap)
    assert orjson.dumps(odd)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("format", {type(format): format for format, _ in REQUESTS.values()}.values(), ids=type)
def test_any_answer_is_read_or_unreadable(format: Format, data: st.DataObject) -> None:
    watch = format.watch()
    for whole in data.draw(st.lists(st.sampled_from(ANSWERS), max_size=3)):
        odd = orjson.loads(orjson.dumps(data.draw(damaged(whole))))
        with suppress(*UNREADABLE):
            check(format.read(odd))
        with suppress(*UNREADABLE):
            assert watch.see(Event("message", orjson.dumps(odd), 0, 1)) in (True, False)
        check(watch.reading)


def check(reading: Reading) -> None:
    """What was read is good for a settlement."""
    assert isinstance(reading.answer_id, str)
    assert min(reading.text_bytes, reading.pieces, reading.sound_bytes) >= 0
    if reading.usage:
        assert all(isinstance(count, int | float) and count >= 0 for count in reading.usage.counts.values())
        assert min(reading.usage.input_tokens, reading.usage.output_tokens, reading.usage.cached_tokens) >= 0
