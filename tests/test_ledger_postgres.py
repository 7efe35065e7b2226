"""PostgreSQL as the ledger's database: connections are lost, and the money is exact all the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import databases
import psycopg
import pytest
from cutting import Wire
from ledgers import ALICE, BOB, LONG_AGO, Clock, hold, open_at, settle
from waiting import eventually

from aipipe.errors import ConfigError, LedgerUnavailable
from aipipe.ledger import Day, Ledger, locks, open_database, open_ledger, postgres
from aipipe.ledger.database import Execute

PATIENCE = 10.0


@pytest.fixture
def url(postgres: str) -> str:
    databases.empty(postgres)
    return postgres


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = open_at(url, clock)
    yield ledger
    assert ledger.balanced()
    ledger.close()


@pytest.fixture
def elsewhere(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of somebody else's to the same database."""
    with databases.connect(url) as connection:
        yield connection


@pytest.fixture
def wire(url: str, ledger: Ledger) -> Iterator[Wire]:
    with Wire(url) as wire:
        yield wire


@pytest.fixture
def far(wire: Wire, clock: Clock) -> Iterator[Ledger]:
    """The same ledger, by a way that breaks."""
    with closing(open_at(wire.url, clock)) as ledger:
        yield ledger


# A connection that is lost at the worst moment


@pytest.mark.parametrize("cuts", ["before", "after"])
def test_a_settlement_is_booked_once_and_told_though_the_connection_ends_at_its_commit(
    cuts: str, wire: Wire, far: Ledger, ledger: Ledger
) -> None:
    held = hold(far)
    wire.cuts = cuts
    assert settle(far, held, cost=30)
    assert wire.cuts == ""
    assert [entry.cost for entry in ledger.entries(ALICE)] == [30]
    assert ledger.holds() == []


@pytest.mark.parametrize("cuts", ["before", "after"])
def test_an_admission_holds_once_though_the_connection_ends_at_its_commit(
    cuts: str, wire: Wire, far: Ledger, ledger: Ledger
) -> None:
    wire.cuts = cuts
    held = hold(far)
    assert ledger.holds() == [held]


def test_a_commit_of_which_nobody_can_tell_is_unavailable_and_its_settlement_may_be_tried_again(
    wire: Wire, far: Ledger, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(far)
    wire.cuts = "dark"
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "PATIENCE", 0.1)
        with pytest.raises(LedgerUnavailable):
            settle(far, held)
    assert ledger.holds() == [held]
    wire.close()
    assert settle(far, held, cost=30)
    assert ledger.spent(ALICE, LONG_AGO) == 30


def test_an_admission_of_which_nobody_can_tell_sends_nothing_and_its_hold_is_given_back(
    wire: Wire, far: Ledger, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = hold(far)
    clock.now += 1

    def nobody_can_tell(self: postgres.Postgres, number: str) -> bool:
        raise LedgerUnavailable

    wire.cuts = "after"
    with monkeypatch.context() as patch:
        patch.setattr(postgres.Postgres, "_was_committed", nobody_can_tell)
        with pytest.raises(LedgerUnavailable):
            hold(far)
    assert len(ledger.holds()) == 2
    far.sweep()
    assert ledger.holds() == [kept]
    assert ledger.entries(ALICE) == []


def cut_off(elsewhere: psycopg.Connection[Any]) -> None:
    """Ends all of the others' connections, as a restart does."""
    elsewhere.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'aipipe'"
    )


def test_connections_that_are_lost_under_way_lose_and_double_nothing(
    ledger: Ledger, elsewhere: psycopg.Connection[Any]
) -> None:
    done = threading.Event()

    def spends(number: int) -> int:
        charged = 0
        while not done.is_set():
            assert settle(ledger, hold(ledger, email=f"{number % 2}@example.com", limit=10**9), cost=1)
            charged += 1
        return charged

    with ThreadPoolExecutor(6) as threads:
        working = [threads.submit(spends, number) for number in range(6)]
        for _ in range(5):
            before = len(ledger.entries("0@example.com", 1000))
            cut_off(elsewhere)
            eventually(lambda before=before: len(ledger.entries("0@example.com", 1000)) > before + 5, "work goes on")
        done.set()
        charged = sum(one.result(PATIENCE) for one in working)
    assert sum(day.cost for day in ledger.daily(None, LONG_AGO, date.max)) == charged
    assert ledger.holds() == []


def test_a_database_that_is_gone_is_unavailable_and_works_as_soon_as_it_is_back(
    url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(ledger)
    with databases.gone(url), monkeypatch.context() as patch:
        patch.setattr(postgres, "PATIENCE", 0.05)
        for tries in (lambda: settle(ledger, held), lambda: hold(ledger), ledger.ping, ledger.sweep):
            with pytest.raises(LedgerUnavailable):
                tries()
        with pytest.raises(LedgerUnavailable):
            open_ledger(url)
    assert settle(ledger, held)
    assert ledger.sweep() == 0


# Who waits for whom


def test_transactions_of_one_person_exclude_each_other_and_others_pass(url: str, ledger: Ledger) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay(execute: Execute) -> None:
        inside.set()
        assert leave.wait(PATIENCE)

    with closing(open_database(url)) as database, ThreadPoolExecutor(2) as threads:
        staying = threads.submit(database.write, stay, ALICE)
        assert inside.wait(PATIENCE)
        alice = threads.submit(hold, ledger, email=ALICE)
        settle(ledger, hold(ledger, email=BOB))
        assert not alice.done()
        leave.set()
        staying.result(PATIENCE)
        alice.result(PATIENCE)


def test_two_that_are_in_each_others_way_both_get_through(url: str, ledger: Ledger) -> None:
    for email in (ALICE, BOB):
        settle(ledger, hold(ledger, email=email))
    both = threading.Barrier(2)
    tries: list[str] = []

    def change(first: str, second: str) -> Callable[[Execute], None]:
        def work(execute: Execute) -> None:
            execute("UPDATE spend SET requests = requests + 1 WHERE email = ?", [first])
            tries.append(first)
            if tries.count(first) == 1:
                both.wait(PATIENCE)
            execute("UPDATE spend SET requests = requests + 1 WHERE email = ?", [second])

        return work

    with closing(open_database(url)) as database, ThreadPoolExecutor(2) as threads:
        done = [threads.submit(database.write, change(*pair)) for pair in ((ALICE, BOB), (BOB, ALICE))]
        for one in done:
            one.result(PATIENCE)
        assert database.read("SELECT requests FROM spend") == [(3,), (3,)]
    assert len(tries) >= 3  # one of them had to try again


# Who is alive


def test_a_worker_that_lost_its_connection_is_not_taken_for_dead(
    ledger: Ledger, url: str, clock: Clock, elsewhere: psycopg.Connection[Any]
) -> None:
    with closing(open_at(url, clock)) as other:
        held = hold(ledger)
        cut_off(elsewhere)
        assert other.sweep() == 0  # notices that it is cut off itself
        assert other.sweep() == 0  # misses the other's lock
        clock.now += locks.GRACE - 1
        assert ledger.sweep() == 0  # notices, and locks again
        for _ in range(2):
            assert other.sweep() == 0
            clock.now += locks.GRACE
        assert ledger.holds() == [held]
        assert settle(ledger, held)


def test_a_worker_of_another_machine_is_dead_when_its_lock_is_missing_for_a_while(
    ledger: Ledger, clock: Clock, elsewhere: psycopg.Connection[Any]
) -> None:
    hold(ledger, estimate=40)
    elsewhere.execute("UPDATE hold SET worker = 'elsewhere/1-0123456789ab'")
    assert ledger.sweep() == 0
    clock.now += locks.GRACE - 1
    assert ledger.sweep() == 0
    clock.now += 1
    assert ledger.sweep() == 1
    assert ledger.spent(ALICE, LONG_AGO) == 40


# What PostgreSQL has of its own


def test_a_text_may_hold_what_postgresql_can_not_keep(ledger: Ledger) -> None:
    settle(ledger, hold(ledger, model="a\0b"), answer_id="%s ? {}\0")
    entry = ledger.entries(ALICE)[0]
    assert (entry.model, entry.answer_id) == ("a\ufffdb", "%s ? {}\ufffd")


def test_emails_are_sorted_as_in_sqlite_whatever_the_database_s_language(ledger: Ledger) -> None:
    emails = ["b@x.org", "a_b@x.org", "a-c@x.org", "A@x.org", "é@x.org", "a@x.org"]
    ledger.top_up([Day(email, "2026-03-14", 5) for email in emails])
    days = [day.email for page in ledger.pages(None, date(2026, 3, 14), date(2026, 3, 14), 2) for day in page]
    assert days == sorted(emails)


@pytest.mark.parametrize(
    "url", ["postgresql://alice:hunter2@[db/name", "postgresql://alice:hunter2@db/name?mode=hunter2"]
)
def test_an_address_that_makes_no_sense_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"AIPIPE_DATABASE_URL.*postgresql://user:password@") as caught:
        open_ledger(url)
    assert "hunter2" not in str(caught.value)


def test_without_the_driver_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aipipe.ledger.postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="pip install"):
        open_ledger("postgresql://db/name")


def test_under_gevent_a_query_lets_others_run_on_any_number_of_open_files(postgres: str) -> None:
    script = Path(__file__).with_name("waits_in_gevent.py")
    found = subprocess.run([sys.executable, script, postgres], capture_output=True, text=True, timeout=30)
    assert (found.stdout, found.returncode) == ("others ran\n", 0), found.stderr
