"""Charts are numbers before they are drawn."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest

from aipipe import charts

LAST = date(2026, 11, 23)


@pytest.mark.parametrize("days", [1, 2, 7, 30, 90])
def test_every_day_has_a_bar_within_the_frame_and_none_overlap(days: int) -> None:
    first = LAST - timedelta(days=days - 1)
    costs = {(first + timedelta(days=number)).isoformat(): number * 1000 + 1 for number in range(days)}
    chart = charts.bars(costs, first, LAST)
    assert [bar.day for bar in chart.bars] == sorted(costs)
    assert all(chart.left <= bar.x and bar.x + bar.width <= chart.right for bar in chart.bars)
    assert all(bar.y >= 0 and abs(bar.y + bar.height - chart.floor) < 0.1 for bar in chart.bars)
    assert all(one.x + one.width <= other.x for one, other in zip(chart.bars, chart.bars[1:], strict=False))


@pytest.mark.parametrize("days", [1, 2, 7, 30, 90])
def test_dates_beneath_leave_each_other_room_and_the_last_day_is_named(days: int) -> None:
    chart = charts.bars({}, LAST - timedelta(days=days - 1), LAST)
    places = [mark.at for mark in chart.days]
    assert all(later - earlier >= 45 for earlier, later in itertools.pairwise(places))
    assert chart.days[-1].text == "23 Nov"


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
