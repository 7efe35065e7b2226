"""`ledger`: pages, sheets and admissions with three million entries of ten thousand people in SQLite."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from flask.testing import FlaskClient

from aipipe import create_app
from aipipe.ledger import Grant, Hold, Ledger, Purpose, Usages, open_ledger
from aipipe.ledger.schema import ROLLUPS, SCHEMA, SUMS
from benchmarks import servers, tables

PEOPLE, DAYS, EACH = 10_000, 100, 3
FOLDER = servers.ROOT / "build"
DANA, ALICE = "dana@example.com", "person00042@class.example.com"
PAGES = {
    "/usage": ALICE,
    "/usage.csv": ALICE,
    "/admin": DANA,
    "/admin?days=7": DANA,
    "/admin?days=90": DANA,
    "/admin?sort=share": DANA,
    "/admin?q=%40class.example.com": DANA,
    "/admin?q=person00042": DANA,
    f"/admin/people/{ALICE}": DANA,
    "/admin/people.csv": DANA,
    "/admin/models.csv": DANA,
    "/admin/usage?format=csv": "",  # by the token of Dana's
}


def run(*, rounds: int = 7, requests: int = 1_000) -> None:
    """Pages, the first byte of sheets, admission and settlement, with 3 million entries of 10,000 people."""
    path = filled()
    with TemporaryDirectory() as folder:
        environ = {
            "AIPIPE_SECRET": servers.SECRET,
            "AIPIPE_DATABASE_URL": f"sqlite:///{path}",
            "AIPIPE_BUDGET": json.dumps({"*": {"limit": 1, "days": 7}, "@staff.example.com": {"limit": 9, "days": 30}}),
            "ADMIN_EMAILS": DANA,
        }
        (Path(folder) / "config.py").touch()
        app = create_app(environ={**environ, "AIPIPE_CONFIG": f"{folder}/config.py"})
        with closing(app.extensions["aipipe"]):
            bearer = {"Authorization": f"Bearer {app.extensions['aipipe'].issue_token(DANA)}"}
            rows = []
            for address, email in PAGES.items():
                client = app.test_client()
                if email:
                    sign_in(client, email)
                asked = [
                    first_byte(client, address, {"Accept": "text/html"} if email else bearer) for _ in range(rounds + 1)
                ][1:]
                wall, cpu = ([1e3 * each[place] for each in asked] for place in (0, 1))
                rows.append([address, tables.spread(wall, 0, " ms"), tables.spread(cpu, 0, " ms")])
        tables.show(
            f"{PEOPLE * DAYS * EACH:,} entries of {PEOPLE:,} people: {rounds} turns",
            ["", "to the first byte", "CPU"],
            rows,
        )
        turns(path, Path(folder) / "empty.db", rounds, requests)


def turns(path: Path, empty: Path, rounds: int, requests: int) -> None:
    """Admissions and settlements, in turn in the large ledger and in an empty one."""
    took: dict[str, list[float]] = {"empty": [], "full": []}
    with closing(open_ledger(f"sqlite:///{empty}")) as small, closing(open_ledger(f"sqlite:///{path}")) as large:
        for turn in range(rounds + 1):
            for name, ledger in (("empty", small), ("full", large)):
                seconds = spend(ledger, requests)
                if turn:
                    took[name].append(1e6 * seconds / requests)
        if not large.balanced():
            raise servers.Failed("books that do not balance")
    tables.show(
        f"admission and settlement, {requests:,} of as many people: {rounds} turns",
        ["ledger", "CPU", "× the empty one's"],
        [[name, tables.spread(each, 0, " µs"), tables.ratio(each, took["empty"])] for name, each in took.items()],
    )


def spend(ledger: Ledger, requests: int) -> float:
    """The CPU seconds of requests by as many people, one after the other."""
    before = time.process_time()
    for number in range(requests):
        purpose = Purpose(person(number * 7), "", "openai", f"model-{number % 12}", "v1/chat/completions")
        held = ledger.admit(
            purpose,
            lambda funds: Grant(min(10, funds.available), 5, Usages(7, 5)),
            limit=10**12,
            since=date.fromisoformat(day(6)),
            expires=time.time() + 900,
        )
        assert isinstance(held, Hold)
        ledger.settle(held, cost=9, usages=Usages(7, 5), status=200, ended="complete")
    return time.process_time() - before


def sign_in(client: FlaskClient, email: str) -> None:
    with client.session_transaction() as session:
        session["email"], session["since"] = email, time.time()


def first_byte(client: FlaskClient, address: str, headers: dict[str, str]) -> tuple[float, float]:
    """Seconds until an answer begins to leave, and those of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    with client.get(address, headers=headers) as answer:
        first = next(iter(answer.response))
        took = time.perf_counter() - wall, time.process_time() - cpu
        if answer.status_code != 200 or not first:
            raise servers.Failed(f"{answer.status_code} for {address}")
    return took


# The large ledger


def filled() -> Path:
    """A ledger of this size, made now unless one of today's is left from before."""
    made = [statement for statement in SCHEMA if "entry" in statement or "spend" in statement]
    digest = hashlib.sha256("".join([*made, str(PEOPLE * DAYS * EACH)]).encode()).hexdigest()[:8]
    path = FOLDER / f"ledger-{day(0)}-{digest}.db"
    if path.exists():
        return path
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("ledger-*"):
        if old.is_file():
            old.unlink()
    print(f"Filling {path}: a minute or two.", flush=True)
    new = path.with_suffix(".new")
    open_ledger(f"sqlite:///{new}").close()
    with closing(apsw.Connection(str(new))) as connection:
        connection.pragma("synchronous", "off")
        connection.pragma("cache_size", -500_000)
        with connection:
            fill(lambda sql: connection.execute(sql))
        connection.pragma("wal_checkpoint(truncate)")
    new.rename(path)
    return path


def fill(execute: Callable[[str], object]) -> None:
    """Everybody asks as often each day, for this and that, by one app or another."""
    number, midnight = PEOPLE * DAYS * EACH, datetime.now(UTC).replace(hour=0, minute=0, second=0).timestamp()
    someone = f"(i * 7919) % {PEOPLE}"
    execute(
        f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {number - 1})"
        " INSERT INTO entry (time, date, email, app, provider, model, endpoint, input_tokens, output_tokens,"
        " cached_tokens, cost, status, ended, answer_id, duration, first_token)"
        f" SELECT {midnight} - ({DAYS - 1} - i / {PEOPLE * EACH}) * 86400.0 + i % {PEOPLE * EACH} * 0.1,"
        f" date({midnight} - ({DAYS - 1} - i / {PEOPLE * EACH}) * 86400, 'unixepoch'),"
        f" printf('person%05d@%s.example.com', {someone},"
        f" CASE {someone} % 3 WHEN 0 THEN 'class' WHEN 1 THEN 'staff' ELSE 'lab' END),"
        " CASE i % 5 WHEN 0 THEN '' ELSE 'https://app' || (i % 5) || '.example.org' END,"
        " CASE i * 31 % 3 WHEN 0 THEN 'openai' WHEN 1 THEN 'anthropic' ELSE 'openrouter' END,"
        " 'model-' || (i * 13 % 12), 'v1/chat/completions', 100 + i % 400, 50 + i % 300, 0,"
        " 10000 + i * 37 % 90000, 200,"
        " 'complete', 'answer-' || i, 700 + i % 900, 300 FROM n"
    )
    sums = ", ".join("COUNT(*)" if name == "requests" else f"SUM({name})" for name in SUMS)
    for table, keys in ROLLUPS.items():
        by = ", ".join(keys)
        execute(f"INSERT INTO {table} ({by}, {', '.join(SUMS)}) SELECT {by}, {sums} FROM entry GROUP BY {by}")


def person(number: int) -> str:
    number %= PEOPLE
    return f"person{number:05}@{('class', 'staff', 'lab')[number % 3]}.example.com"


def day(ago: int) -> str:
    return datetime.fromtimestamp(time.time() - ago * 86_400, UTC).date().isoformat()
