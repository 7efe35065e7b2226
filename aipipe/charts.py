"""The geometry of charts, as plain numbers: templates only draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from aipipe.money import NANO, readable

TOP, FLOOR = 10, 190  # pixels from above, as app.css has them, too
WIDEST = 8.0  # percent of the frame
MOST_LABELS = 9  # dates beneath a wide chart; on a phone there is room for half of them
EDGE = 7.0  # percent: nearer than this to an edge, half a date has no room
NOTHING = NANO // 100  # what the axis of a chart without any bar goes up to


@dataclass(frozen=True, slots=True)
class Bar:
    """A day: where its bar stands, and what it says when pointed at, anywhere from `left` on for a `step`."""

    day: str
    cost: int
    x: float
    y: float
    width: float
    height: float
    left: float
    step: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A text on an axis, at `at`, centred there unless it ends there. A `roomy` one has no place on a phone."""

    text: str
    at: float
    ends: bool = False
    roomy: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Across, all is in percent of the frame's width, so that texts keep their size; down, in pixels from above."""

    floor: int
    bars: Sequence[Bar]
    amounts: Sequence[Mark]
    days: Sequence[Mark]


def bars(costs: Mapping[str, int], first: date, last: date) -> Chart:
    """A bar for every day from `first` to `last`; `costs` are nanodollars by date."""
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    top = ceiling(max([0, *(costs.get(day.isoformat(), 0) for day in days)]) or NOTHING)
    room, step = FLOOR - TOP, 100 / len(days)
    wide = min(step * 0.78, WIDEST)
    found = []
    for number, day in enumerate(days):
        cost = max(0, costs.get(day.isoformat(), 0))
        high = room * cost / top
        x = step * (number + 0.5) - wide / 2
        numbers = (x, FLOOR - high, wide, high, step * number, step)
        found.append(Bar(day.isoformat(), cost, *(round(each, 2) for each in numbers)))
    amounts = [Mark(readable(top * part // 4), round(FLOOR - room * part / 4, 2)) for part in (0, 2, 4)]
    return Chart(FLOOR, found, amounts, _dates(days, step))


def _dates(days: Sequence[date], step: float) -> list[Mark]:
    """What is written beneath, counted from the last day on."""
    every = -(-len(days) // MOST_LABELS)
    marks = []
    for back in range(0, len(days), every):
        at = 100 - step * (back + 0.5)
        if at < EDGE and every > 1:
            continue
        ends = at > 100 - EDGE
        roomy = len(days) > MOST_LABELS // 2 and back // every % 2 == 1
        marks.append(Mark(f"{days[-1 - back].day} {days[-1 - back]:%b}", 100 if ends else round(at, 2), ends, roomy))
    return marks[::-1]


def ceiling(most: int) -> int:
    """The least of 4, 8, 20, 40, 80, 200, … nanodollars that is not below `most`: a quarter of it is round, too."""
    power = 1
    while True:
        for factor in (4, 8, 20):
            if factor * power >= most:
                return factor * power
        power *= 10
