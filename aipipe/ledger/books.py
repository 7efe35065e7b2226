"""Reading the books: what was spent, by whom and when. Nothing here changes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

from aipipe.ledger.database import Database, Execute
from aipipe.ledger.schema import ROLLUPS
from aipipe.ledger.types import Column, Day, Entry, Grant, Hold, Pace, Purpose, Total, Usages

PURPOSE = "email, app, provider, model, endpoint"
HOLD = f"id, {PURPOSE}, amount, estimate, input_tokens, output_tokens, created"
TOTAL = ("cost", "requests", "input_tokens", "output_tokens")
LIKE = "email LIKE ? ESCAPE '!'"
PAGE = 500
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Books:
    """The ledger's questions. Each is one query, answered as the database stood at one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spent(self, email: str, since: date) -> int:
        """What `email` has been charged since the beginning of the day `since`."""
        return self.spending(email, since)[0]

    def spending(self, email: str, since: date) -> tuple[int, str | None]:
        """As `spent`, and the first date since then with spending, if any is."""
        return spent_since(self._database.read, email, since)

    def daily(self, email: str | None, first: date, last: date) -> list[Day]:
        """Cost by person and day, both ends included, newest date first; of everybody where `email` is None."""
        rows = self._database.read(
            "SELECT email, date, cost FROM spend_by_person WHERE date BETWEEN ? AND ?"
            + (" AND email = ?" if email is not None else "")
            + " ORDER BY date DESC, email",
            [first.isoformat(), last.isoformat(), *([email] if email is not None else [])],
        )
        return [Day(*row) for row in rows]

    def pages(self, email: str | None, first: date, last: date, size: int = PAGE) -> Iterator[list[Day]]:
        """As `daily`, in lists of at most `size`, for answers of any length.

        Each list shows the database at its own moment; nothing is locked, and nothing is open, between them.
        """
        person = " AND email = ?" if email is not None else ""
        days = f"SELECT email, date, cost FROM spend_by_person WHERE {{}}{person} ORDER BY date DESC, email LIMIT ?"
        sql = (  # two searches of an index, wherever the page begins
            f"SELECT * FROM ({days.format('date = ? AND email > ?')}) AS same_date"
            f" UNION ALL SELECT * FROM ({days.format('date < ? AND date >= ?')}) AS older"
            " ORDER BY date DESC, email LIMIT ?"
        )
        rest = [*([email] if email is not None else []), size]
        at, more = Day("", last.isoformat(), 0), first <= last
        while more:
            values = [at.date, at.email, *rest, at.date, first.isoformat(), *rest, size]
            page = [Day(*row) for row in self._database.read(sql, values)]
            more = len(page) == size
            if page:
                at = page[-1]
                yield page

    def totals(
        self,
        by: Sequence[Column],
        first: date,
        last: date,
        *,
        email: str | None = None,
        search: str = "",
    ) -> list[Total]:
        """Sums by the given columns, both ends included, dearest first; of one person, or of emails with `search`."""
        days, emails = [first.isoformat(), last.isoformat()], email is not None or bool(search)
        needed = {*by, "date", *(["email"] if emails else [])}
        table = next(name for name, keys in ROLLUPS.items() if needed <= set(keys))
        where, values = ["date BETWEEN ? AND ?"], [*days]
        if email is not None:
            where, values = [*where, "email = ?"], [*values, email]
        if search and table == "spend":  # first whom it is about, where each of their days is only once
            where.append(f"email IN (SELECT email FROM spend_by_person WHERE date BETWEEN ? AND ? AND {LIKE})")
            values += [*days, pattern(search)]
        elif search:
            where, values = [*where, LIKE], [*values, pattern(search)]
        columns = ", ".join(by)
        rows = self._database.read(
            f"SELECT {columns}, {', '.join(f'SUM({name})' for name in TOTAL)} FROM {table}"
            f" WHERE {' AND '.join(where)} GROUP BY {columns} ORDER BY SUM(cost) DESC, {columns}",
            values,
        )
        return [Total(tuple(row[: len(by)]), *row[len(by) :]) for row in rows]

    def people(
        self, first: date, last: date, windows: Sequence[date], *, search: str = ""
    ) -> list[tuple[Total, bool, tuple[int, ...]]]:
        """Everybody with `search` in their email: what they did from `first` to `last`, whether they did anything then,
        and what they spent since each of the `windows` began.
        """
        between = "date BETWEEN ? AND ?"
        sums = [f"COALESCE(SUM({name}) FILTER (WHERE {between}), 0)" for name in TOTAL]
        active = f"COUNT(*) FILTER (WHERE {between})"
        spent = ["COALESCE(SUM(cost) FILTER (WHERE date >= ?), 0)"] * len(windows)
        days = [first.isoformat(), last.isoformat()]
        rows = self._database.read(
            f"SELECT email, {', '.join([*sums, active, *spent])} FROM spend_by_person WHERE {between}"
            + (f" AND {LIKE}" if search else "")
            + " GROUP BY email",
            [
                *days * (len(sums) + 1),
                *(window.isoformat() for window in windows),
                min([first, *windows]).isoformat(),
                date.max.isoformat(),  # without an end, SQLite would rather read all days
                *([pattern(search)] if search else []),
            ],
        )
        places = 1 + len(sums)
        return [(Total(row[:1], *row[1:places]), bool(row[places]), row[places + 1 :]) for row in rows]

    def entries(self, email: str, limit: int = 100) -> list[Entry]:
        """The person's last entries, newest first."""
        columns = ", ".join(Entry.__dataclass_fields__)
        rows = self._database.read(
            f"SELECT {columns} FROM entry WHERE email = ? ORDER BY time DESC, id DESC LIMIT ?",
            [email, limit],
        )
        return [Entry(*row) for row in rows]

    def paces(self, limit: int) -> dict[str, Pace]:
        """How each provider did in everybody's last `limit` entries, if any of these was a request to it."""
        rows = self._database.read(
            "SELECT provider, ended, first_token, duration FROM entry"
            " WHERE id > (SELECT MAX(id) FROM entry) - ? AND ended IN ('complete', 'partial')",
            [limit],
        )
        return {name: pace_of([row[1:] for row in rows if row[0] == name]) for name in {row[0] for row in rows}}

    def answer(self, email: str, answer_id: str) -> Usages | None:
        """The tokens of the answer that `email` got under this id, or None: not theirs, or not known."""
        rows = self._database.read(
            "SELECT input_tokens, output_tokens, cached_tokens FROM entry WHERE answer_id = ? AND email = ?"
            " ORDER BY id DESC LIMIT 1",
            [answer_id, email],
        )
        return Usages(*rows[0]) if rows and answer_id else None

    def holds(self) -> list[Hold]:
        """All that is not resolved yet, places in line included."""
        return [hold_of(row) for row in self._database.read(f"SELECT {HOLD} FROM hold ORDER BY id")]

    def balanced(self) -> bool:
        """Whether each roll-up equals the sums of the entries, for every person, day, provider, model and app.

        Of entries that were pruned the roll-ups have kept the sums.
        """
        differences = []
        for table, keys in ROLLUPS.items():
            by = ", ".join(keys)
            kept = f"SELECT {by}, cost FROM entry UNION ALL SELECT {by}, pruned FROM {table}"
            entries = f"SELECT {by}, SUM(cost) FROM ({kept}) AS kept GROUP BY {by}"
            rollups = f"SELECT {by}, cost FROM {table}"
            differences += [
                f"SELECT 1 FROM ({one}) AS a" for one in (f"{entries} EXCEPT {rollups}", f"{rollups} EXCEPT {entries}")
            ]
        return not self._database.read(" UNION ALL ".join(differences))

    def void_before(self, email: str) -> float | None:
        """The moment before which the person's tokens are void, if they ever reset them."""
        rows = self._database.read("SELECT void_before FROM account WHERE email = ?", [email])
        return float(rows[0][0]) if rows else None

    def ping(self) -> None:
        """Raises `LedgerUnavailable` unless the database answers."""
        self._database.read("SELECT version FROM schema_version")


def pattern(search: str) -> str:
    """For `LIKE`: whatever has that in it, literally."""
    return "%" + re.sub("([%_!])", r"!\1", search.lower()) + "%"


def spent_since(execute: Execute, email: str, since: date) -> tuple[int, str | None]:
    spent, oldest = execute(
        "SELECT COALESCE(SUM(cost), 0), MIN(CASE WHEN cost > 0 THEN date END) FROM spend_by_person"
        " WHERE email = ? AND date >= ?",
        [email, since.isoformat()],
    )[0]
    return int(spent), oldest


def pace_of(requests: Sequence[tuple[str, int | None, int]]) -> Pace:
    """From how requests ended, and after how many milliseconds they began and ended to be answered."""
    begun = [first for _, first, _ in requests if first is not None]
    whole = [duration for ended, _, duration in requests if ended == "complete"]
    return Pace(len(requests), round(median(begun)) if begun else None, round(median(whole)) if whole else None)


def day_of(moment: float) -> str:
    """The UTC date of a moment, as the ledger writes it."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def date_of(text: str) -> date:
    """The date written as the ledger writes it, `YYYY-MM-DD`. Raises ValueError for anything else."""
    if not _DATE.fullmatch(text):
        raise ValueError("not a date")
    return date.fromisoformat(text)


def hold_of(row: tuple[Any, ...]) -> Hold:
    number, email, app, provider, model, endpoint, amount, estimate, tokens_in, tokens_out, created = row
    return Hold(
        number,
        Purpose(email, app, provider, model, endpoint),
        Grant(amount, estimate, Usages(tokens_in, tokens_out)),
        created,
    )
