"""The ledger when workers die, databases are locked, full or gone: nothing is lost, and nothing done by halves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import apsw
import pytest
from flask import Flask
from ledgers import ALICE, BOB, LONG_AGO, NOON, Clock, hold, line_up, open_at, settle
from waiting import eventually

from aipipe.errors import ConfigError, LedgerUnavailable
from aipipe.ledger import Ledger, locks, open_ledger, sqlite

PI_DAY = date(2026, 3, 14)
PATIENCE = 10.0
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(store: str, clock: Clock) -> Iterator[Ledger]:
    ledger = open_at(store, clock)
    yield ledger
    assert ledger.balanced()
    ledger.close()


@pytest.fixture
def elsewhere(path: Path, ledger: Ledger) -> Iterator[apsw.Connection]:
    """Another connection to the same database, as another process has one."""
    connection = apsw.Connection(str(path))
    yield connection
    connection.close()


# Sweeping


def test_expired_holds_are_swept_and_others_stay(ledger: Ledger, clock: Clock) -> None:
    hold(ledger, expires=NOON + 60, estimate=40)
    kept = hold(ledger, expires=NOON + 62)
    assert ledger.sweep() == 0
    clock.now += 61
    assert ledger.sweep() == 1
    assert ledger.holds() == [kept]
    entry = ledger.entries(ALICE)[0]
    assert (entry.cost, entry.ended, entry.input_tokens, entry.output_tokens) == (40, "partial", 7, 5)
    assert ledger.spent(ALICE, LONG_AGO) == 40


def spend_and_hang(store: str, told: Connection) -> None:
    """A worker with one request under way, and one in line."""
    ledger = open_ledger(store)
    hold(ledger, estimate=40)
    line_up(ledger)
    told.send("ready")
    told.recv()


@pytest.fixture
def worker(store: str, ledger: Ledger) -> Iterator[multiprocessing.context.SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=spend_and_hang, args=(store, there))
    process.start()
    assert here.poll(PATIENCE), "the worker did not start"
    assert here.recv() == "ready"
    yield process
    process.kill()
    process.join(PATIENCE)
    process.close()
    here.close()
    there.close()


@pytest.mark.parametrize("renamed", [False, True], ids=["same machine", "new name"])
def test_what_a_killed_worker_held_is_swept_and_what_living_ones_hold_stays(
    renamed: bool,
    worker: multiprocessing.context.SpawnProcess,
    store: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if renamed:
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
    with closing(open_at(store, clock)) as ledger:
        mine = hold(ledger)
        assert ledger.sweep() == 0
        assert len(ledger.holds()) == 3
        worker.kill()
        worker.join(PATIENCE)
        if renamed and store.startswith("postgresql"):  # where a lost connection looks like death at first
            assert ledger.sweep() == 0

        def swept() -> bool:
            clock.now += locks.GRACE  # at each look: the database may not yet have seen the end at the first
            return ledger.sweep() == 2

        eventually(swept, "the database has seen it end", PATIENCE)
        assert ledger.holds() == [mine]
        assert [(entry.cost, entry.ended) for entry in ledger.entries(ALICE)] == [(40, "partial")]
        assert ledger.is_next(ALICE, mine.id)
        assert ledger.sweep() == 0
        ledger.release(mine.id)


@ON_SQLITE
def test_workers_of_other_machines_are_given_until_their_holds_expire(
    ledger: Ledger, elsewhere: apsw.Connection, clock: Clock
) -> None:
    hold(ledger, expires=NOON + 60)
    elsewhere.execute("UPDATE hold SET worker = 'elsewhere/1-0123456789ab'")
    assert ledger.sweep() == 0
    clock.now += 61
    assert ledger.sweep() == 1


@ON_SQLITE
def test_a_worker_that_has_ended_leaves_no_file(path: Path, ledger: Ledger) -> None:
    folder = Path(f"{path}-workers")
    other = open_at(path)
    assert len(list(folder.iterdir())) == 2
    other.close()
    assert len(list(folder.iterdir())) == 1


# The database


@ON_SQLITE
def test_a_copy_made_while_it_is_written_opens_as_a_ledger_with_the_same_totals(
    ledger: Ledger, elsewhere: apsw.Connection, tmp_path: Path, clock: Clock
) -> None:
    for email, cost in ((ALICE, 30), (ALICE, 5), (BOB, 9)):
        settle(ledger, hold(ledger, email=email), cost=cost)
    ledger.reset_tokens(BOB)
    hold(ledger, estimate=40)
    elsewhere.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = open_at(tmp_path / "copy.db", clock)
    assert copy.daily(None, PI_DAY, PI_DAY) == ledger.daily(None, PI_DAY, PI_DAY)
    assert copy.entries(ALICE) == ledger.entries(ALICE)
    assert copy.void_before(BOB) == NOON
    assert copy.balanced()
    assert settle(copy, hold(copy, email=BOB), cost=1)
    copy.close()


@ON_SQLITE
def test_a_ledger_locked_for_long_is_unavailable_and_works_again_afterwards(
    ledger: Ledger, elsewhere: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    held = hold(ledger)
    elsewhere.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable):
        settle(ledger, held)
    with pytest.raises(LedgerUnavailable):
        hold(ledger)
    ledger.failures.note("openai", 503, "It failed.")  # is lost, and that is all
    assert ledger.holds() == [held]
    ledger.ping()
    elsewhere.execute("COMMIT")
    assert settle(ledger, held)


@ON_SQLITE
def test_while_one_waits_for_a_locked_ledger_others_can_read(
    ledger: Ledger, elsewhere: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def wait_for_the_test(seconds: float) -> None:
        waiting.set()
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr(time, "sleep", wait_for_the_test)
    elsewhere.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=hold, args=(ledger,))
    thread.start()
    assert waiting.wait(PATIENCE)
    assert ledger.spent(ALICE, LONG_AGO) == 0
    elsewhere.execute("COMMIT")
    go_on.set()
    thread.join(PATIENCE)
    assert len(ledger.holds()) == 1


FAULTS = {
    "disk full": ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
    "read-only": ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
}


@pytest.mark.parametrize(("breaks", "heals"), FAULTS.values(), ids=FAULTS)
def test_a_ledger_that_can_not_be_written_does_nothing_by_halves(
    breaks: str, heals: str, path: Path, clock: Clock
) -> None:
    database = sqlite.SQLite(str(path))
    ledger = Ledger(database, clock=clock)
    long = "x" * 100_000  # more than the free space in the file's pages
    held, sent = hold(ledger, model=long), hold(ledger, model=long, expires=NOON + 60)
    clock.now += 1
    database.read(breaks)
    with pytest.raises(LedgerUnavailable):
        settle(ledger, held)
    with pytest.raises(LedgerUnavailable):
        hold(ledger, model=long)
    with pytest.raises(LedgerUnavailable):
        ledger.reset_tokens("a" * 100_000)
    clock.now += 61
    with pytest.raises(LedgerUnavailable):
        ledger.sweep()
    assert ledger.holds() == [held, sent]
    assert ledger.entries(ALICE) == []
    database.read(heals)
    assert settle(ledger, held)
    assert ledger.sweep() == 1
    assert ledger.balanced()
    ledger.close()


def test_what_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("No database. " * 100)
    for path in (tmp_path, tmp_path / "missing" / "ledger.db", tmp_path / "text.db"):
        with pytest.raises(LedgerUnavailable):
            open_ledger(f"sqlite:///{path}")
    (tmp_path / "ledger.db-workers").touch()
    with pytest.raises(LedgerUnavailable, match=r"can't write to .*ledger\.db-workers"):
        open_ledger(f"sqlite:///{tmp_path}/ledger.db")


@pytest.mark.parametrize("url", ["mysql://alice:hunter2@db", "sqlite:///", "sqlite://x", ""])
def test_an_unknown_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="AIPIPE_DATABASE_URL") as caught:
        open_ledger(url)
    assert "hunter2" not in str(caught.value)


# kill -9 in the middle of a transaction

STATEMENTS = 13  # of a request from its admission to its settlement, with what begins and ends transactions
Outcome = tuple[str, int]  # the last that the worker said, and how it ended


def spend_until(statement: int, path: str, told: int) -> None:
    """A worker that spends 30 for Alice, and is killed as it begins the statement of that number."""
    database = sqlite.SQLite(path)
    ledger = Ledger(database)
    left = iter(range(statement))

    def count(*_: object) -> bool:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    database._connection.exec_trace = count
    held = hold(ledger, estimate=40, amount=100)
    os.write(told, b" sent")
    settle(ledger, held)
    os.write(told, b" settled")
    os._exit(0)


def spend_until_each(folder: str, told: Connection) -> None:
    """One worker for each statement, forked from a process without threads."""
    for statement in range(STATEMENTS + 1):
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            spend_until(statement, f"{folder}/{statement}.db", write_end)
        os.close(write_end)
        _, status = os.waitpid(child, 0)
        told.send((os.read(read_end, 100).decode().rpartition(" ")[2], os.waitstatus_to_exitcode(status)))
        os.close(read_end)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """Where the ledgers are that were left behind, and what their workers came to."""
    folder = tmp_path_factory.mktemp("killed")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=spend_until_each, args=(str(folder), there))
    process.start()
    there.close()
    outcomes = [here.recv() for _ in range(STATEMENTS + 1)]
    process.join(PATIENCE)
    process.close()
    here.close()
    return folder, outcomes


@pytest.mark.parametrize("statement", range(STATEMENTS + 1))
def test_a_worker_killed_at_any_statement_leaves_books_that_balance_and_charges_what_was_sent_once(
    statement: int, killed: tuple[Path, list[Outcome]]
) -> None:
    folder, outcomes = killed
    said, code = outcomes[statement]
    assert code == (0 if statement == STATEMENTS else -signal.SIGKILL)
    ledger = open_at(folder / f"{statement}.db")
    ledger.sweep()
    booked = [(entry.cost, entry.ended) for entry in ledger.entries(ALICE)]
    expected = {
        "": ([], [(40, "partial")]),  # it may die when the ledger knows that it sends, and before it says so
        "sent": ([(40, "partial")],),
        "settled": ([(30, "complete")],),
    }
    assert booked in expected[said]
    assert ledger.holds() == []
    assert ledger.balanced()
    assert ledger.spent(ALICE, LONG_AGO) == sum(cost for cost, _ in booked)
    ledger.close()


def test_an_app_starts_while_another_program_writes_to_the_ledger_and_sweeps_when_that_is_done(
    make_app: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    path = tmp_path / "instance.db"
    ledger = open_at(path)
    hold(ledger, expires=NOON, estimate=40)
    with closing(apsw.Connection(str(path))) as elsewhere:
        elsewhere.execute("BEGIN IMMEDIATE")
        app = make_app(AIPIPE_DATABASE_URL=f"sqlite:///{path}")
        assert app.test_client().get("/healthz").status_code == 200
        assert len(ledger.holds()) == 1
        elsewhere.execute("ROLLBACK")
    eventually(lambda: not ledger.holds(), "the hold is swept")
    assert [(entry.cost, entry.ended) for entry in ledger.entries(ALICE)] == [(40, "partial")]
    ledger.close()


@ON_SQLITE
@pytest.mark.parametrize("fault", ["moved", "replaced"])
def test_nothing_is_written_to_a_file_that_is_no_more_the_ledgers(fault: str, ledger: Ledger, path: Path) -> None:
    held = hold(ledger)
    aside = path.rename(path.with_name("aside"))
    if fault == "replaced":
        path.touch()
    for action in (lambda: settle(ledger, held), lambda: hold(ledger), ledger.ping, ledger.sweep):
        with pytest.raises(LedgerUnavailable):
            action()
    aside.rename(path)
    assert ledger.holds() == [held]
    assert settle(ledger, held)


@ON_SQLITE
def test_no_new_ledger_is_made_over_the_log_of_one_that_is_gone(ledger: Ledger, path: Path) -> None:
    hold(ledger)
    aside = path.rename(path.with_name("aside"))
    with pytest.raises(LedgerUnavailable, match="put it back"):
        open_at(path)
    aside.rename(path)
