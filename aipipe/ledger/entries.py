"""Appending to the books, inside somebody's transaction: the entry, and with it the daily roll-up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from aipipe.ledger.database import Execute
from aipipe.ledger.schema import MOST
from aipipe.ledger.types import Day, Ended, Entry


def bounded(cost: int) -> int:
    """The cost, unless it is beyond what the ledger may hold: nothing real is."""
    return max(-MOST, min(MOST, cost))


def append(execute: Execute, entry: Entry) -> None:
    columns = asdict(entry)
    places = ", ".join("?" * len(columns))
    execute(f"INSERT INTO entry ({', '.join(columns)}) VALUES ({places})", list(columns.values()))
    request = 1 if entry.ended in ("complete", "partial") else 0
    execute(
        "INSERT INTO spend (email, date, provider, model, app, cost, input_tokens, output_tokens, cached_tokens,"
        " requests) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (email, date, provider, model, app) DO UPDATE SET cost = spend.cost + excluded.cost,"
        " input_tokens = spend.input_tokens + excluded.input_tokens,"
        " output_tokens = spend.output_tokens + excluded.output_tokens,"
        " cached_tokens = spend.cached_tokens + excluded.cached_tokens,"
        " requests = spend.requests + excluded.requests",
        [
            entry.email,
            entry.date,
            entry.provider,
            entry.model,
            entry.app,
            entry.cost,
            entry.input_tokens,
            entry.output_tokens,
            entry.cached_tokens,
            request,
        ],
    )


def adjust(execute: Execute, day: Day, now: float) -> int:
    """Makes the day's total that of `day`; returns what was added or taken off."""
    rows = execute("SELECT COALESCE(SUM(cost), 0) FROM spend WHERE email = ? AND date = ?", [day.email, day.date])
    difference = bounded(day.cost) - int(rows[0][0])
    if difference:
        append(execute, _correction(day, difference, "adjusted", now))
    return difference


def top_up(execute: Execute, days: Iterable[Day], now: float) -> list[int]:
    """Adds what the imported entries of each day lack of its cost; returns what was added, one item an entry."""
    added = []
    for day in days:
        entries, total = execute(
            "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM entry WHERE email = ? AND date = ? AND ended = 'imported'",
            [day.email, day.date],
        )[0]
        lacking = bounded(day.cost) - int(total)
        if lacking > 0 or not entries:
            append(execute, _correction(day, lacking, "imported", now))
            added.append(lacking)
    return added


def _correction(day: Day, amount: int, ended: Ended, now: float) -> Entry:
    """An entry that stands for no request."""
    return Entry(
        time=now, date=day.date, email=day.email, app="", provider="", model="", endpoint="", input_tokens=0,
        output_tokens=0, cached_tokens=0, cost=amount, status=200, ended=ended, answer_id="", duration=0,
    )  # fmt: skip
