"""Charts are numbers before they are drawn."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest

from aipipe import charts

LAST = date(2026, 11, 23)
DATE = 40  # pixels that a date takes


@pytest.mark.parametrize("days", [1, 2, 7, 30, 90])
def test_every_day_has_a_bar_within_the_frame_and_none_overlap(days: int) -> None:
    first = LAST - timedelta(days=days - 1)
    costs = {(first + timedelta(days=number)).isoformat(): number * 1000 + 1 for number in range(days)}
    chart = charts.bars(costs, first, LAST)
    assert [bar.day for bar in chart.bars] == sorted(costs)
    assert all(0 <= bar.left <= bar.x and bar.x + bar.width <= bar.left + bar.step <= 100.01 for bar in chart.bars)
    assert all(bar.y >= 0 and abs(bar.y + bar.height - chart.floor) < 0.1 for bar in chart.bars)
    assert all(one.x + one.width <= other.x for one, other in zip(chart.bars, chart.bars[1:], strict=False))


@pytest.mark.parametrize("width", [280, 600])
@pytest.mark.parametrize("days", [1, 2, 6, 7, 10, 11, 30, 90])
def test_dates_beneath_stay_in_the_frame_leave_each_other_room_and_the_last_day_is_named(days: int, width: int) -> None:
    chart = charts.bars({}, LAST - timedelta(days=days - 1), LAST)
    assert chart.days[-1].text == "23 Nov"
    marks = [mark for mark in chart.days if width > 400 or not mark.roomy]
    half = DATE / 2
    middles = [mark.at * width / 100 - (half if mark.ends else 0) for mark in marks]
    assert all(half <= middle + 1 and middle <= width - half + 1 for middle in middles)
    assert all(later - earlier >= DATE for earlier, later in itertools.pairwise(middles))
    assert len(marks) >= min(days, 3)


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 4), (4, 4), (5, 8), (9, 20), (21, 40), (79_000_000, 80_000_000), (80_000_001, 200_000_000)],
)
def test_the_axis_ends_at_a_round_amount(most: int, top: int) -> None:
    assert charts.ceiling(most) == top


def test_heights_are_in_proportion_and_corrections_below_zero_have_none() -> None:
    first = LAST - timedelta(days=2)
    days = [(first + timedelta(days=number)).isoformat() for number in range(3)]
    one, two, three = charts.bars(dict(zip(days, [1000, 2000, -500], strict=True)), first, LAST).bars
    assert two.height == pytest.approx(2 * one.height, abs=0.02)
    assert three.height == 0
