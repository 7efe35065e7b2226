"""Appending to the books, inside somebody's transaction: the entry, and with it the daily roll-ups."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from aipipe.ledger.database import Execute
from aipipe.ledger.schema import MOST, ROLLUPS, SUMS
from aipipe.ledger.types import Day, Ended, Entry

COLUMNS = tuple(Entry.__dataclass_fields__)
INSERT = f"INSERT INTO entry ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def bounded(cost: int) -> int:
    """The cost, unless it is beyond what the ledger may hold: nothing real is."""
    return max(-MOST, min(MOST, cost))


def adding(table: str, keys: tuple[str, ...]) -> str:
    """The statement that adds to a roll-up, the same for every entry."""
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in SUMS)
    return (
        f"INSERT INTO {table} ({', '.join((*keys, *SUMS))}) VALUES ({', '.join('?' * (len(keys) + len(SUMS)))})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sums}"
    )


COUNTED = SUMS[:-1]
# Each roll-up's statement, and what of an entry it takes but for the requests, which are its last.
ADD = [(adding(table, keys), attrgetter(*keys, *COUNTED)) for table, keys in ROLLUPS.items()]
VALUES = attrgetter(*COLUMNS)


def append(execute: Execute, entry: Entry) -> None:
    execute(INSERT, VALUES(entry))
    requests = 1 if entry.ended in ("complete", "partial") else 0
    for statement, values in ADD:
        execute(statement, (*values(entry), requests))


def adjust(execute: Execute, day: Day, now: float) -> int:
    """Makes the day's total that of `day`; returns what was added or taken off."""
    rows = execute(
        "SELECT COALESCE(SUM(cost), 0) FROM spend_by_person WHERE email = ? AND date = ?", [day.email, day.date]
    )
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
