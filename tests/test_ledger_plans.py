"""However many entries there are, no page, sheet or request goes through them all: the database's own plans say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import databases
import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient
from ledgers import give, hold, open_at, purpose, settle

from aipipe.ledger import Ledger, open_database, postgres, sqlite
from aipipe.ledger.sqlite import SQLite

ALICE, DANA = "alice@example.com", "dana@example.com"
TODAY = datetime.now(UTC).date()
OURS = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
PAGES = [
    ("/usage", ALICE),
    ("/usage?days=90", ALICE),
    ("/usage.csv", ALICE),
    ("/admin", DANA),
    ("/admin?q=alice", DANA),
    ("/admin?sort=share&page=2&blocked=1", DANA),
    (f"/admin/people/{ALICE}", DANA),
    *((f"/admin/{name}.csv{query}", DANA) for name in ("people", "models", "apps", "days") for query in ("", "?q=a")),
    (f"/admin/person.csv?email={ALICE}", DANA),
]
LONG = ("entry", "spend", "spend_by_person", "spend_by_model")  # tables that grow for ever

Asked = list[tuple[str, Sequence[Any]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every statement that a ledger executes."""
    found: Asked = []
    sqlite, other = SQLite._execute, postgres.run

    def in_sqlite(self: SQLite, sql: str, values: Sequence[Any] = ()) -> Any:
        found.append((sql, values))
        return sqlite(self, sql, values)

    def in_postgresql(connection: Any, sql: str, values: Sequence[Any] = ()) -> Any:
        found.append((sql, values))
        return other(connection, sql, values)

    monkeypatch.setattr(SQLite, "_execute", in_sqlite)
    monkeypatch.setattr(postgres, "run", in_postgresql)
    return found


@pytest.fixture
def app(make_app: MakeApp, store: str) -> Flask:
    return make_app(dev=True, AIPIPE_PUBLIC_URL=None, AIPIPE_DATABASE_URL=store)


def signed_in(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/login", data={"email": email}, headers=OURS).status_code == 303
    return client


def plans(store: str, asked: Asked) -> list[str]:
    """How the database answers these: SQLite as it does now, PostgreSQL as it would if its tables were long."""
    queries = {sql: values for sql, values in asked if re.match(r"\s*(SELECT|UPDATE|DELETE)", sql)}
    if store.startswith("sqlite"):
        with closing(open_database(store)) as database:
            rows = [(sql, database.read(f"EXPLAIN QUERY PLAN {sql}", values)) for sql, values in queries.items()]
        return [f"{row[3]}: {sql}" for sql, plan in rows for row in plan]
    with databases.connect(store) as connection:
        connection.execute("SET enable_seqscan = off")
        rows = [(sql, postgres.run(connection, f"EXPLAIN {sql}", values)) for sql, values in queries.items()]
    return [f"{row[0]}: {sql}" for sql, plan in rows for row in plan]


def long_ways(store: str, asked: Asked) -> list[str]:
    """The steps of the plans that read the whole of a table that grows for ever."""
    whole = re.compile(rf"\s*(->\s*)?(SCAN|Seq Scan on) ({'|'.join(LONG)})\b")
    return [step for step in plans(store, asked) if whole.match(step)]


def test_no_page_and_no_sheet_reads_all_entries(app: Flask, store: str, asked: Asked) -> None:
    ledger: Ledger = app.extensions["aipipe"].ledger
    settle(ledger, hold(ledger))
    clients = {email: signed_in(app, email) for email in (ALICE, DANA)}
    for address, email in PAGES:
        assert clients[email].get(address, headers={"Accept": "text/html"}).status_code == 200
    bearer = {"Authorization": f"Bearer {app.extensions['aipipe'].issue_token(DANA)}"}
    for address in ("/usage", "/admin/usage", f"/admin/usage?format=csv&email={ALICE}"):
        assert clients[DANA].get(address, headers=bearer).data
    assert any("spend_by_model" in sql for sql, _ in asked)
    assert long_ways(store, asked) == []


def test_no_request_reads_all_entries(app: Flask, store: str, asked: Asked) -> None:
    ledger: Ledger = app.extensions["aipipe"].ledger
    settle(ledger, hold(ledger), answer_id="resp_1")
    ledger.answer(ALICE, "resp_1")
    ledger.admit(purpose(), give(5), limit=1000, since=TODAY, expires=1.0)
    ledger.sweep()
    assert long_ways(store, asked) == []


def test_a_plan_that_reads_all_entries_is_recognised(store: str, app: Flask, asked: Asked) -> None:
    app.extensions["aipipe"].ledger._database.read("SELECT COUNT(*) FROM entry WHERE duration = 3")
    assert len(long_ways(store, asked)) == 1


def test_with_many_entries_sqlite_reads_everybodys_days_person_by_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MANY_ENTRIES", 0)
    path = tmp_path / "ledger.db"
    days = [
        (f"person{number}@example.com", str(date(2026, 1, 1) + timedelta(day)))
        for number in range(20)
        for day in range(90)
    ]
    columns = "cost, requests, input_tokens, output_tokens, cached_tokens"
    with closing(open_at(path)) as ledger:
        settle(ledger, hold(ledger))
        insert = f"INSERT INTO spend_by_person (email, date, {columns}) VALUES (?, ?, 1, 1, 1, 1, 1)"
        ledger._database.write(lambda execute: [execute(insert, day) for day in days])
        expected = ledger.people(date.min, date.max, [])
    with closing(open_at(path)) as ledger:
        listing = "SELECT email, SUM(cost) FROM spend_by_person WHERE date BETWEEN ? AND ? GROUP BY email"
        [plan] = ledger._database.read(f"EXPLAIN QUERY PLAN {listing}", ["2026-01-01", "2026-03-31"])
        assert "by_date" not in plan[3]  # and no second step, that sorts
        assert ledger.people(date.min, date.max, []) == expected
