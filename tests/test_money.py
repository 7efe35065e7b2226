"""Money: exact both ways between dollars as people write them and whole nanodollars."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipipe.money import readable, show, to_dollars, to_nano, told

nanos = st.integers(-(10**18), 10**18)


@pytest.mark.parametrize(
    ("dollars", "nano"),
    [
        (0.1, 100_000_000),
        (0.000137, 137_000),
        (1e-7, 100),
        ("0.3", 300_000_000),
        (Decimal("25.5"), 25_500_000_000),
        (3, 3_000_000_000),
        ("0.0000000001", 1),
        ("1.0000000001", 1_000_000_001),
        ("1e-999999999", 1),
        (0, 0),
        (-0.5, -500_000_000),
    ],
)
def test_dollars_are_taken_as_written_and_rounded_up(dollars: float | str | Decimal, nano: int) -> None:
    assert to_nano(dollars) == nano


@pytest.mark.parametrize("bad", ["", "a dime", "NaN", float("inf"), 1e10, "1e999999999", True])
def test_refuses_what_is_no_amount(bad: float | str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        to_nano(bad)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (12_000, "0.000012"),
        (90_000_000, "0.09"),
        (0, "0"),
        (1, "0.000000001"),
        (1_500_000_000, "1.5"),
        (10_000_000_000, "10"),
        (-90_000_000, "-0.09"),
    ],
)
def test_shown_plainly(nano: int, shown: str) -> None:
    assert show(nano) == shown


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (100_000_000, "$0.10"),
        (12_345, "$0.000012"),
        (500, "$0.000001"),
        (499, "<$0.000001"),
        (-499, "<$0.000001"),
        (-75_000_000, "-$0.075"),
        (1_234_567_000_000, "$1234.567"),
    ],
)
def test_pages_show_it_to_the_millionth_with_its_sign(nano: int, shown: str) -> None:
    assert readable(nano) == shown


@pytest.mark.parametrize(
    ("nano", "told_as"), [(0, "0.00"), (100_000_000, "0.10"), (1, "0.000000001"), (-(10**9), "-1.00")]
)
def test_told_as_on_pages_and_exactly(nano: int, told_as: str) -> None:
    assert told(nano) == told_as


def test_json_dollars_carry_no_binary_noise() -> None:
    assert json.dumps({"cost": to_dollars(137_000), "limit": to_dollars(100_000_000)}) == (
        '{"cost": 0.000137, "limit": 0.1}'
    )


@given(nanos)
def test_showing_loses_nothing(nano: int) -> None:
    assert to_nano(show(nano)) == nano
    assert "e" not in show(nano).lower()


@given(st.integers(-(10**15), 10**15))
def test_json_loses_nothing_below_a_million_dollars(nano: int) -> None:
    assert to_nano(to_dollars(nano)) == nano
