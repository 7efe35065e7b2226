"""What a sound in a question is bounded by: a token is never less than 80 bytes of base64, and mostly more."""

from __future__ import annotations

from typing import Any

import orjson

from aipipe.admission import share
from aipipe.formats import Chat, Context
from aipipe.models import limits
from aipipe.pricing import Prices

DIME = 100_000_000  # nanodollars


def question(sound: str) -> dict[str, Any]:
    part = {"type": "input_audio", "input_audio": {"data": sound, "format": "mp3"}}
    return {"model": "gpt-audio", "messages": [{"role": "user", "content": [part]}]}


def admitted(size: int, *, alone: bool = True) -> int | None:
    """The nanodollars of a dime that are set aside for so many bytes of sound, or None when that isn't enough."""
    body = question("A" * size)
    ask = Chat().ask(body, Context(limits("gpt-audio"), len(orjson.dumps(body)), lambda _: None))
    rate = Prices({}).find("openai", "openai", "gpt-audio")
    assert rate is not None
    found = share(ask, rate.card(ask.bound, modalities=ask.modalities), DIME, alone=alone)
    return found.amount if found else None


def test_a_few_seconds_leave_room_for_others() -> None:
    amount = admitted(20_000, alone=False)
    assert amount is not None and amount < DIME


def test_half_a_minute_in_an_ordinary_mp3_fits_into_a_dime_but_alone() -> None:
    size = 30 * 64_000 // 8 * 4 // 3
    assert admitted(size, alone=False) is None
    assert admitted(size) == DIME


def test_ten_minutes_do_not() -> None:
    assert admitted(600 * 64_000 // 8 * 4 // 3) is None


def test_the_bound_grows_with_the_sound_alone_not_with_its_base64() -> None:
    body = question("A" * 80_000)
    ask = Chat().ask(body, Context(limits("gpt-audio"), len(orjson.dumps(body)), lambda _: None))
    assert 1_000 < ask.bound < 1_300
    assert ask.modalities == {"audio"}
