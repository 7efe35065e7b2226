"""The ledger's tables: made and upgraded by whoever comes first, however many come at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import databases
import pytest
from ledgers import ALICE, LONG_AGO, hold, open_at, settle

from aipipe.errors import ConfigError
from aipipe.ledger import open_ledger, schema

PROCESSES = 3
UPGRADES = (
    ("ALTER TABLE entry ADD COLUMN mood TEXT NOT NULL DEFAULT ''", "UPDATE entry SET mood = 'calm'"),
    ("CREATE TABLE pet (name TEXT NOT NULL, id {key})", "INSERT INTO pet (name) SELECT mood FROM entry"),
)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
    else:
        with databases.database() as url:
            yield url


both = pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def open_and_spend(store: str, upgrades: tuple[tuple[str, ...], ...], barrier: Any) -> None:
    schema.UPGRADES = upgrades
    barrier.wait(30)
    with closing(open_at(store)) as ledger:
        settle(ledger, hold(ledger))


@both
def test_a_ledger_is_made_and_upgraded_once_by_processes_that_start_at_once(
    store: str, processes: ProcessPoolExecutor
) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        for upgrades in ((), UPGRADES):
            barrier = manager.Barrier(PROCESSES)
            for one in [processes.submit(open_and_spend, store, upgrades, barrier) for _ in range(PROCESSES)]:
                one.result(30)
    with pytest.raises(ConfigError, match=r"newer AI Pipe: its tables have version 3, and this one knows 1\."):
        open_ledger(store)


@both
def test_an_upgrade_changes_what_is_there_and_keeps_the_rest(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_at(store)) as ledger:
        settle(ledger, hold(ledger), cost=30)
    monkeypatch.setattr(schema, "UPGRADES", UPGRADES[:1])
    open_at(store).close()
    monkeypatch.setattr(schema, "UPGRADES", UPGRADES)
    for _ in range(2):
        with closing(open_at(store)) as ledger:
            assert ledger._database.read("SELECT name, id FROM pet") == [("calm", 1)]
            assert ledger._database.read("SELECT version FROM schema_version") == [(3,)]
            assert ledger.spent(ALICE, LONG_AGO) == 30
            assert ledger.balanced()


@both
def test_an_upgrade_that_fails_leaves_all_as_it_was(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_at(store).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "UPGRADES", (*UPGRADES, ("INSERT INTO pet (nonsense) VALUES (1)",)))
        with pytest.raises(Exception, match="ledger"):
            open_at(store)
    with closing(open_at(store)) as ledger:
        assert ledger._database.read("SELECT version FROM schema_version") == [(1,)]


@both
def test_what_is_new_in_the_schema_comes_by_itself(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_at(store).close()
    monkeypatch.setattr(schema, "SCHEMA", (*schema.SCHEMA, "CREATE TABLE IF NOT EXISTS pet (name TEXT PRIMARY KEY)"))
    with closing(open_at(store)) as ledger:
        assert ledger._database.read("SELECT name FROM pet") == []
