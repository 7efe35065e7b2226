"""The geometry of charts, as plain numbers: templates only draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from aipipe.money import NANO, readable

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 10, 26
NOTHING = NANO // 100  # what the axis of a chart without any bar goes up to
LABEL = 62  # of the width, that a date beneath the chart takes


@dataclass(frozen=True, slots=True)
class Bar:
    """A day: where its bar stands, and what it says when pointed at."""

    day: str
    cost: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A text on an axis, at `at`."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Chart:
    width: int
    height: int
    left: int
    right: int
    floor: int
    bars: Sequence[Bar]
    amounts: Sequence[Mark]
    days: Sequence[Mark]


def bars(costs: Mapping[str, int], first: date, last: date, *, width: int = WIDTH, height: int = HEIGHT) -> Chart:
    """A bar for every day from `first` to `last`, in a frame of this size; `costs` are nanodollars by date."""
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    top = ceiling(max([0, *(costs.get(day.isoformat(), 0) for day in days)]) or NOTHING)
    floor, room = height - BOTTOM, height - BOTTOM - TOP
    step = (width - LEFT - RIGHT) / len(days)
    wide = min(step * 0.78, 48)
    found = []
    for number, day in enumerate(days):
        cost = max(0, costs.get(day.isoformat(), 0))
        high = room * cost / top
        middle = LEFT + step * (number + 0.5)
        found.append(
            Bar(
                day.isoformat(),
                cost,
                round(middle - wide / 2, 2),
                round(floor - high, 2),
                round(wide, 2),
                round(high, 2),
            )
        )
    amounts = [Mark(f"${readable(top * part // 4)}", round(floor - room * part / 4, 2)) for part in (0, 2, 4)]
    every = max(1, -(-LABEL // int(step)) if step >= 1 else len(days))
    labels = [
        Mark(f"{day.day} {day:%b}", round(LEFT + step * (number + 0.5), 2))
        for number, day in enumerate(days)
        if (len(days) - 1 - number) % every == 0
    ]
    if len(labels) > 1 and labels[0].at < LEFT + LABEL / 2 and every > 1:
        labels = labels[1:]
    return Chart(width, height, LEFT, width - RIGHT, floor, found, amounts, labels)


def ceiling(most: int) -> int:
    """The least of 4, 8, 20, 40, 80, 200, … nanodollars that is not below `most`: a quarter of it is round, too."""
    power = 1
    while True:
        for factor in (4, 8, 20):
            if factor * power >= most:
                return factor * power
        power *= 10
