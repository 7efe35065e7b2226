"""Midnight (UTC) comes in the middle of a request, or the clock is put back: money leaves the day it was taken from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import ask, calling
from e2e.conftest import Site, running
from e2e.server import DAY, Server, eventually
from e2e.willing import whole

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"
CLOCK = Path(__file__).with_name("clock")
TODAY = datetime.now(UTC).date()
TOMORROW = TODAY + timedelta(1)
MIDNIGHT = datetime.combine(TOMORROW, datetime.min.time(), UTC).timestamp()
LIMIT = 0.000_2  # dollars: what the longest answer takes, which a day's second request would not find


class Clock:
    """The server's. It runs on from the moment to which it was set."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, to_midnight: float) -> None:
        """So many seconds before midnight; after it when negative."""
        new = self.file.with_suffix(".new")
        new.write_text(str(MIDNIGHT - to_midnight - time.time()))
        new.replace(self.file)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "ahead")


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("midnight")
    clock.set(3_600)
    budgets = {"*": {"limit": LIMIT, "days": 1}}
    with running(folder, PYTHONPATH=str(CLOCK), AHEAD=str(clock.file), AIPIPE_BUDGET=budgets) as site:
        yield site


def days(server: Server, email: str) -> list[tuple[str, int]]:
    return [(day.date, day.cost) for day in server.ledger.daily(email, date(2000, 1, 1), date(3000, 1, 1))]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_over_midnight_is_charged_to_the_day_on_which_it_was_admitted(
    site: Site, clock: Clock, stream: bool
) -> None:
    clock.set(60)
    alice = site.server.caller(days=3)
    if stream:
        site.provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("midnight"), *end()])
    else:
        site.provider.answers("POST", CHAT, steps=[Gate("midnight"), *whole(answer())])
    with calling(site.server, TARGET, alice, question(stream=stream)) as call:
        site.provider.reached("midnight")
        clock.set(-60)
        site.provider.release("midnight")
        call.received()
    entry = site.server.entry(alice)
    assert (entry.date, entry.cost, entry.ended) == (TODAY.isoformat(), COST, "complete")
    assert datetime.fromtimestamp(entry.time, UTC).date() == TOMORROW
    assert days(site.server, alice.email) == [(TODAY.isoformat(), COST)]
    shown = ask(site.server, "/usage", alice).json()
    assert shown["cost"] == 0, "yesterday is over"


def test_what_is_under_way_at_midnight_still_holds_the_new_days_money(site: Site, clock: Clock) -> None:
    clock.set(60)
    alice = site.server.caller(days=3)
    dear = question(stream=True, max_tokens=60_000)
    site.provider.answers("POST", CHAT, sse=[Gate("midnight"), *end()])
    site.provider.answers("POST", CHAT, sse=[piece("Hello"), *end()])
    with calling(site.server, TARGET, alice, dear) as first:
        site.provider.reached("midnight")
        clock.set(-60)
        with calling(site.server, TARGET, alice, dear) as second:
            eventually(lambda: len(site.server.ledger.holds()) == 2, "the second request waits in line")
            site.provider.release("midnight")
            first.received()
            second.received()
    expected = [(TOMORROW.isoformat(), COST), (TODAY.isoformat(), COST)]
    assert days(site.server, alice.email) == expected


def test_a_clock_that_is_put_back_in_mid_request_loses_nothing(site: Site, clock: Clock) -> None:
    clock.set(-60)
    alice = site.server.caller(days=3)
    site.provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("put back"), *end()])
    with calling(site.server, TARGET, alice, question(stream=True)) as call:
        site.provider.reached("put back")
        clock.set(DAY)
        site.provider.release("put back")
        call.received()
    entry = site.server.entry(alice)
    assert (entry.date, entry.cost, entry.duration) == (TOMORROW.isoformat(), COST, 0)
