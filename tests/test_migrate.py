"""`aipipe migrate`: a ledger moves from SQLite to PostgreSQL whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import databases
import psycopg
import pytest
from click.testing import CliRunner, Result
from ledgers import ALICE, BOB, LONG_AGO, NOON, hold, line_up, open_at, settle
from test_ledger_pruning import sums

from aipipe.cli import main
from aipipe.ledger import Day, Ledger, migrating
from aipipe.ledger.migrating import copy, tables
from aipipe.ledger.postgres import cleaned

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def url(postgres: str) -> str:
    databases.empty(postgres)
    return postgres


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with some of everything in it, at its address in SQLite."""
    with closing(open_at(tmp_path / "old.db", lambda: NOON)) as ledger:
        for email, model in ((ALICE, "a\0"), (ALICE, "b"), (BOB, "a")):
            settle(ledger, hold(ledger, email=email, model=model, app="https://app.example.com"), cost=30)
        ledger.adjust(ALICE, LONG_AGO, 700)
        ledger.top_up([Day(BOB, "2025-04-18", 10**15)])
        ledger.reset_tokens(BOB)
        ledger.use_once("a nonce", NOON)
        ledger.failures.note("openai", 503, "It said 503.")
        hold(ledger, estimate=40)
        line_up(ledger)
        ledger.pruning.fold(NOON - 1)
        yield ledger


@pytest.fixture
def migrate(old: Ledger, tmp_path: Path, url: str) -> Callable[[], Result]:
    environ = {"AIPIPE_SECRET": SECRET, "AIPIPE_DATABASE_URL": f"sqlite:///{tmp_path / 'old.db'}"}
    return lambda: CliRunner().invoke(main, ["migrate", url], env=environ)


def rows(ledger: Ledger) -> dict[str, list[Any]]:
    """Everything in a ledger, with the sign that stands in PostgreSQL for what it can't keep."""
    return {
        table: sorted(repr(row).replace("\\x00", "\ufffd") for row in ledger._database.read(f"SELECT * FROM {table}"))
        for table in tables()
    }


def test_everything_is_copied_and_the_new_ledger_goes_on_from_there(
    migrate: Callable[[], Result], old: Ledger, url: str
) -> None:
    result = migrate()
    assert result.exit_code == 0, result.output
    assert f"entry {5:>23} rows" in result.output
    assert "the books balance" in result.output
    with closing(open_at(url, lambda: NOON)) as new:
        assert rows(new) == rows(old)
        assert [new.entries(ALICE)[0].cost, new.void_before(BOB)] == [700, NOON]
        assert sums(new) != []
        assert settle(new, hold(new), cost=5)
        assert len({id for (id,) in new._database.read("SELECT id FROM entry")}) == 6
        assert new.balanced()


def test_all_tables_that_a_ledger_has_are_copied(old: Ledger) -> None:
    names = old._database.read("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    assert {name for (name,) in names} == {*tables(), "schema_version"}


def test_a_copy_that_breaks_off_leaves_nothing_and_can_be_made_again(
    migrate: Callable[[], Result], old: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(here: apsw.Connection, there: psycopg.Connection[Any], table: str) -> int:
        found = copy(here, there, table)
        if table == "hold":
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(migrating, "copy", breaks)
        assert migrate().exit_code != 0
    with closing(open_at(url)) as new:
        assert not any(rows(new).values())
    assert migrate().exit_code == 0
    with closing(open_at(url)) as new:
        assert rows(new) == rows(old)


def test_a_ledger_in_use_is_never_copied_into(migrate: Callable[[], Result], url: str) -> None:
    with closing(open_at(url)) as new:
        settle(new, hold(new))
        before = rows(new)
        result = migrate()
        assert result.exit_code == 1
        assert "is in use" in result.output
        assert rows(new) == before


def test_totals_that_differ_are_noticed_and_nothing_is_kept(
    migrate: Callable[[], Result], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "cleaned", lambda row: [7 if value == 30 else value for value in cleaned(row)])
    result = migrate()
    assert result.exit_code == 1
    assert "other totals" in result.output
    with closing(open_at(url)) as new:
        assert not any(rows(new).values())


def test_a_ledger_that_somebody_writes_to_is_not_copied(
    migrate: Callable[[], Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(apsw.Connection(str(tmp_path / "old.db"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("aipipe.ledger.sqlite.PATIENCE", 0.01)
        assert "stop AI Pipe first" in migrate().output


@pytest.mark.parametrize("url", ["sqlite:///new.db", "mysql://db/name"])
def test_only_from_sqlite_to_postgresql(migrate: Callable[[], Result], url: str) -> None:
    result = migrate()
    assert result.exit_code == 1
    assert "is copied from sqlite:///" in result.output
