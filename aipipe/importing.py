"""What another AI Pipe says was spent, taken into this one's ledger: `aipipe import`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import requests

from aipipe.errors import InvalidRequest
from aipipe.ledger import Day, Ledger
from aipipe.ledger.books import date_of
from aipipe.money import to_nano
from aipipe.tokens import plausible_email

TIMEOUT = (10, 120)  # seconds to connect, and between bytes: a long history takes a while to begin
BATCH = 200  # rows a transaction: some 15 ms in which a server that runs on the same ledger can't write


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import did: of `rows` that came to `total`, it `added` entries that came to `amount`, in nanodollars."""

    rows: int
    added: int
    amount: int
    total: int


def fetch(source: str, token: str | None) -> bytes:
    """The contents of a file, or of an http(s) URL, which is asked with `token`.

    Raises InvalidRequest when it can't be had.
    """
    scheme, separator, _ = source.partition("://")
    if separator:
        return _download(source, scheme.lower(), token)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{source} can't be read ({error.strerror}).") from None


def _download(url: str, scheme: str, token: str | None) -> bytes:
    if scheme not in ("http", "https"):
        raise InvalidRequest("Only files, http:// and https:// can be imported.")
    if not token:
        raise InvalidRequest("Set AIPIPE_TOKEN to the token of an admin of the AI Pipe that is asked.")

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"  # set as a header, a line in .netrc would replace it
        return request

    try:
        answer = requests.get(url, auth=sign, timeout=TIMEOUT, allow_redirects=False)
    except (requests.RequestException, ValueError):
        raise InvalidRequest("The AI Pipe that is asked can't be reached, or broke off.") from None
    if answer.status_code != 200:
        raise InvalidRequest(f"The AI Pipe that is asked refused with status {answer.status_code}.")
    return answer.content


def days_in(contents: bytes) -> list[Day]:
    """The days in the JSON of `/admin/usage`: one for each person (in lower case) and date.

    Raises InvalidRequest, naming the row, when one of them can't be meant.
    """
    try:
        found = orjson.loads(contents)
    except orjson.JSONDecodeError:
        raise InvalidRequest("That is not JSON. Import what /admin/usage answers.") from None
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise InvalidRequest('That is not what /admin/usage answers: {"data": [{"email", "date", "cost"}]}.')
    seen: set[tuple[str, str]] = set()
    costs: dict[tuple[str, str], int] = {}
    rows.reverse()
    for number in range(1, len(rows) + 1):
        row = rows.pop()  # a million rows are in memory only once
        try:
            day = _day(row)
            known = len(seen)
            seen.add((row["email"], day.date))
            if len(seen) == known:
                raise ValueError("its person and date were there before")
        except ValueError as error:
            raise InvalidRequest(f"Row {number} can't be imported: {error}. Nothing was.") from None
        costs[day.email, day.date] = costs.get((day.email, day.date), 0) + day.cost
    return [Day(email, date, cost) for (email, date), cost in costs.items()]


def _day(row: Any) -> Day:
    """One row. Raises ValueError with what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    try:
        email = plausible_email(row.get("email"))
    except ValueError:
        raise ValueError("its `email` is not an email address") from None
    try:
        date = date_of(row.get("date") or "").isoformat()
    except (TypeError, ValueError):
        raise ValueError("its `date` is not a date such as 2025-04-18") from None
    cost = row.get("cost")
    if not isinstance(cost, int | float) or cost < 0:
        raise ValueError("its `cost` is not a number of dollars from 0")
    return Day(email, date, to_nano(cost))


def load(ledger: Ledger, days: list[Day]) -> Outcome:
    """Tops each day's imported entries up to its cost. May be stopped at any time, and run again."""
    added = [amount for batch in _batches(days) for amount in ledger.top_up(batch)]
    return Outcome(len(days), len(added), sum(added), sum(day.cost for day in days))


def _batches(days: list[Day]) -> Iterator[list[Day]]:
    rest = iter(days)
    while batch := list(islice(rest, BATCH)):
        yield batch
        time.sleep(0.002)  # lets a server that waits for the ledger have its turn
