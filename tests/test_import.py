"""`aipipe import`: another AI Pipe's costs come over exactly, once, and beside what was spent here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import SECRET, MakeApp
from fake_provider import DROP, FakeProvider
from hypothesis import given
from hypothesis import strategies as st

from aipipe import importing
from aipipe.cli import main
from aipipe.errors import InvalidRequest, LedgerUnavailable
from aipipe.ledger import Day, Ledger, open_ledger
from aipipe.settings import SETTINGS

DAY = date(2025, 4, 18)
TOKEN = "token-of-dana-at-the-other-aipipe"
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("AIPIPE_") or name in {setting.name for setting in SETTINGS}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(source: object, token: str = TOKEN) -> Result:
    result = CliRunner().invoke(main, ["import", str(source)], env={"AIPIPE_SECRET": SECRET, "AIPIPE_TOKEN": token})
    assert "Traceback" not in result.output
    assert not token or token not in result.output
    return result


def printed(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """The one that the command uses."""
    (folder / "instance").mkdir()
    with closing(open_ledger(f"sqlite:///{folder}/instance/aipipe.db")) as opened:
        yield opened


@pytest.fixture
def export(folder: Path) -> Callable[..., Path]:
    """A file with the given rows, each `(email, date, cost)`."""

    def write(*rows: tuple[str, str, object]) -> Path:
        data = [{"email": email, "date": day, "cost": cost} for email, day, cost in rows]
        file = folder / "usage.json"
        file.write_text(json.dumps({"data": data}))
        return file

    return write


ALICE = ("alice@example.com", "2025-04-18")
BOB = ("bob@example.com", "2025-04-17")


def test_every_day_becomes_an_imported_entry(ledger: Ledger, export: Callable[..., Path]) -> None:
    assert printed(run(export((*ALICE, 1.23), (*BOB, 0.000137)))) == [
        "Rows 2, $1.230137",
        "Added 2, $1.230137",
        "Unchanged 0",
    ]
    assert ledger.daily(None, date.min, date.max) == [Day(*ALICE, 1_230_000_000), Day(*BOB, 137_000)]
    assert [entry.ended for entry in ledger.entries(ALICE[0])] == ["imported"]
    assert ledger.balanced()


def test_a_second_time_changes_nothing(ledger: Ledger, export: Callable[..., Path]) -> None:
    file = export((*ALICE, 1.23), (*BOB, 0))
    run(file)
    assert printed(run(file)) == ["Rows 2, $1.23", "Added 0, $0", "Unchanged 2"]
    assert len(ledger.entries(ALICE[0])) == len(ledger.entries(BOB[0])) == 1


def test_a_day_that_grew_is_topped_up_and_one_that_shrank_is_left(ledger: Ledger, export: Callable[..., Path]) -> None:
    run(export((*ALICE, 1), (*BOB, 2)))
    assert printed(run(export((*ALICE, 1.5), (*BOB, 0.5)))) == ["Rows 2, $2", "Added 1, $0.5", "Unchanged 1"]
    assert ledger.daily(None, date.min, date.max) == [Day(*ALICE, 1_500_000_000), Day(*BOB, 2_000_000_000)]


def test_what_was_spent_or_set_here_stays_and_does_not_count(ledger: Ledger, export: Callable[..., Path]) -> None:
    ledger.adjust(ALICE[0], DAY, 7)
    run(export((*ALICE, 1)))
    assert ledger.daily(ALICE[0], DAY, DAY) == [Day(*ALICE, 1_000_000_007)]
    ledger.adjust(ALICE[0], DAY, 5)
    assert printed(run(export((*ALICE, 1))))[1] == "Added 0, $0"
    run(export((*ALICE, 1.5)))
    assert ledger.daily(ALICE[0], DAY, DAY) == [Day(*ALICE, 500_000_005)]
    assert ledger.balanced()


def test_spellings_of_one_email_are_one_person(ledger: Ledger, export: Callable[..., Path]) -> None:
    run(export(("Alice@Example.com", ALICE[1], 1), (*ALICE, 2)))
    assert ledger.daily(None, date.min, date.max) == [Day(*ALICE, 3_000_000_000)]


@pytest.mark.parametrize(
    ("dollars", "nano"), [(0.1, 100_000_000), (0.1 + 0.2, 300_000_001), (1e-12, 1), (0, 0), (10**9, 10**18), (1e-9, 1)]
)
def test_dollars_are_rounded_up_to_a_nanodollar(
    ledger: Ledger, export: Callable[..., Path], dollars: float, nano: int
) -> None:
    run(export((*ALICE, dollars)))
    assert ledger.daily(None, date.min, date.max) == [Day(*ALICE, nano)]


GOOD = {"email": BOB[0], "date": BOB[1], "cost": 1}


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({**GOOD, "cost": -0.01}, "`cost`"),
        ({**GOOD, "cost": -1e-12}, "`cost`"),
        ({**GOOD, "cost": "1.23"}, "`cost`"),
        ({**GOOD, "cost": True}, "amount"),
        ({**GOOD, "cost": None}, "`cost`"),
        ({**GOOD, "cost": 1e12}, "billion"),
        ({**GOOD, "date": "2025-02-29"}, "`date`"),
        ({**GOOD, "date": "18.04.2025"}, "`date`"),
        ({**GOOD, "date": "2025-04-18T00:00:00Z"}, "`date`"),
        ({**GOOD, "date": 20250418}, "`date`"),
        ({**GOOD, "email": "bob"}, "`email`"),
        ({**GOOD, "email": "bob @example.com"}, "`email`"),
        ({**GOOD, "email": None}, "`email`"),
        ({"date": BOB[1], "cost": 1}, "`email`"),
        ({"email": ALICE[0], "date": ALICE[1], "cost": 1}, "before"),
        (["bob@example.com", "2025-04-18", 1], "object"),
        (None, "object"),
    ],
)
def test_one_bad_row_refuses_all_and_is_named(ledger: Ledger, folder: Path, row: object, wrong: str) -> None:
    rows = [{"email": ALICE[0], "date": ALICE[1], "cost": 1}, row, GOOD]
    (folder / "usage.json").write_text(json.dumps({"data": rows}))
    result = run("usage.json")
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert "Row 2 " in result.output
    assert wrong in result.output
    assert ledger.daily(None, date.min, date.max) == []


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"<html>Sign in</html>",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"message": "no", "error": {}}',
        b'{"data": [{"email": "bob@example.com", "date": "2025-04-18", "cost": NaN}]}',
        b'{"data": [{"email": "bob@example.com", "date": "2025-04-18", "cost": 1e999}]}',
        b'{"data": [',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_usage_is_refused(folder: Path, contents: bytes) -> None:
    (folder / "usage.json").write_bytes(contents)
    result = run("usage.json")
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert "/admin/usage" in result.output


def test_an_import_of_nothing(export: Callable[..., Path]) -> None:
    assert printed(run(export())) == ["Rows 0, $0", "Added 0, $0", "Unchanged 0"]


@pytest.mark.parametrize("missing", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read(missing: str) -> None:
    result = run(missing)
    assert (result.exit_code, result.output.splitlines()) == (1, [result.output.strip()])
    assert "can't be read" in result.output


# From another AI Pipe


def test_a_url_is_asked_with_the_token(ledger: Ledger, provider: FakeProvider) -> None:
    provider.answers("GET", "/admin/usage", json={"data": [GOOD]})
    assert printed(run(f"{provider.url}/admin/usage?from=2025-04-01"))[0] == "Rows 1, $1"
    assert provider.requests[0].header("Authorization") == f"Bearer {TOKEN}"
    assert provider.requests[0].target == "/admin/usage?from=2025-04-01"


def test_the_token_is_sent_whatever_netrc_says(
    folder: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "netrc").write_text("machine 127.0.0.1 login alice password for-something-else")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    provider.answers("GET", "/admin/usage", json={"data": []})
    run(f"{provider.url}/admin/usage")
    assert provider.requests[0].header("Authorization") == f"Bearer {TOKEN}"


def test_what_our_own_admin_page_tells_can_be_imported(
    make_app: MakeApp, token: Callable[[str], str], provider: FakeProvider, ledger: Ledger
) -> None:
    app = make_app()
    for email, cost in (
        ("alice@example.com", 1),
        ("bob@example.com", 25_500_000_000),
        ("dana@example.com", 10**15 + 1),
    ):
        app.extensions["aipipe"].ledger.adjust(email, DAY, cost)
    answer = app.test_client().get("/admin/usage", headers={"Authorization": token("dana@example.com")})
    provider.answers("GET", "/admin/usage", body=answer.get_data(), headers={"Content-Type": "application/json"})
    run(f"{provider.url}/admin/usage")
    assert ledger.daily(None, DAY, DAY) == app.extensions["aipipe"].ledger.daily(None, DAY, DAY)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"status": 401, "json": {"message": "no"}}, "401"),
        ({"status": 302, "headers": {"Location": "/login"}}, "302"),
        ({"status": 500}, "500"),
        ({"body": b"<html>"}, "not JSON"),
        ({"steps": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", DROP]}, "broke off"),
        ({"steps": [DROP]}, "broke off"),
    ],
)
def test_another_aipipe_that_does_not_answer_well(provider: FakeProvider, answer: dict[str, Any], says: str) -> None:
    provider.answers("GET", "/admin/usage", **answer)
    result = run(f"{provider.url}/admin/usage")
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert says in result.output


@pytest.mark.parametrize(
    ("source", "token", "says"),
    [
        ("https://aipipe.example.com/admin/usage", "", "AIPIPE_TOKEN"),
        ("ftp://aipipe.example.com/usage.json", TOKEN, "Only files"),
        ("file:///etc/passwd", TOKEN, "Only files"),
        ("http://", TOKEN, "can't be reached"),
        ("http://127.0.0.1:99999/", TOKEN, "can't be reached"),
        ("http://127.0.0.1:1/", "two\nlines", "can't be reached"),
        ("http://127.0.0.1:1/", "tökén\u2026", "can't be reached"),
    ],
)
def test_a_url_that_cannot_be_asked(source: str, token: str, says: str) -> None:
    result = run(source, token)
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert says in result.output


# However it goes


def test_an_import_that_was_stopped_is_finished_by_the_next(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [Day(f"student{number}@example.com", "2025-04-18", number) for number in range(3 * importing.BATCH)]
    whole, calls = ledger.top_up, iter(range(99))

    def failing(batch: list[Day]) -> list[int]:
        if next(calls) == 2:
            raise LedgerUnavailable
        return whole(batch)

    monkeypatch.setattr(ledger, "top_up", failing)
    with pytest.raises(LedgerUnavailable):
        importing.load(ledger, days)
    did = importing.load(ledger, days)
    assert (did.rows, did.added, did.total) == (len(days), importing.BATCH, sum(day.cost for day in days))
    assert ledger.daily(None, DAY, DAY) == sorted(days, key=lambda day: day.email)


AMOUNTS = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1000), max_size=3)


@given(st.lists(st.tuples(AMOUNTS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**9)))))
def test_whatever_comes_in_whatever_order_the_highest_import_and_our_own_spending_stand(
    rounds: list[tuple[dict[str, float], dict[str, int]]],
) -> None:
    imported: dict[str, int] = {}
    ours: dict[str, int] = {}
    with closing(open_ledger("sqlite:///:memory:")) as ledger:
        for amounts, spent in rounds:
            rows = [{"email": f"{name}@example.com", "date": str(DAY), "cost": cost} for name, cost in amounts.items()]
            days = importing.days_in(json.dumps({"data": rows}).encode())
            importing.load(ledger, days)
            for day in days:
                imported[day.email] = max(day.cost, imported.get(day.email, 0))
            for name, cost in spent.items():
                email = f"{name}@example.com"
                before = imported.get(email, 0) + ours.get(email, 0)
                ledger.adjust(email, DAY, before + cost)
                ours[email] = ours.get(email, 0) + cost
        for email in {*imported, *ours}:
            assert ledger.spent(email, DAY) == imported.get(email, 0) + ours.get(email, 0)
        assert ledger.balanced()


@given(st.binary())
def test_no_contents_break_it(contents: bytes) -> None:
    with pytest.raises(InvalidRequest):
        importing.days_in(contents)


def test_costs_that_json_cannot_hold_are_refused() -> None:
    for cost in (math.nan, math.inf, -math.inf):
        with pytest.raises(InvalidRequest):
            importing.days_in(json.dumps({"data": [{**GOOD, "cost": cost}]}).encode())
