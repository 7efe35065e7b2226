"""`/admin/usage`, `/admin/token`, `/admin/cost`: for those in ADMIN_EMAILS, with a personal token."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import chain, islice
from typing import Any

import orjson
from flask import Blueprint, Response, g, request

from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.ledger import Day
from aipipe.ledger.books import date_of
from aipipe.money import show, to_dollars, to_nano
from aipipe.providers.base import read_body
from aipipe.services import services
from aipipe.tokens import plausible_email
from aipipe.views import guards
from aipipe.views.responses import json_response
from aipipe.views.sheets import harmless

bp = Blueprint("admin", __name__)
log = logging.getLogger(__name__)


@bp.before_request
def admins_only() -> None:
    """Everything under this blueprint, whatever is added to it."""
    caller = guards.caller()
    if not caller.admin:
        raise NotAllowed("Only an admin of this AI Pipe may do that, with a personal token, not through an app.")
    g.admin = caller.email


@bp.after_request
def forget(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer


@bp.get("/admin/usage")
def usage() -> Response:
    """What everybody spent on each day, newest first. However much that is, a page of it is in memory at a time."""
    first, last = span(request.args.get("from"), request.args.get("to"))
    email = known_email(request.args["email"]) if request.args.get("email") else None
    format = request.args.get("format") or "json"
    if format not in ("json", "csv"):
        raise InvalidRequest("`format` must be json or csv.")
    pages = services().ledger.pages(email, first, last)
    # The first page is read here: a ledger that doesn't answer is told while there is still a status to tell it with.
    pages = chain(list(islice(pages, 1)), pages)
    if format == "json":
        return Response(as_json(pages), content_type="application/json")
    headers = {"Content-Disposition": 'attachment; filename="aipipe-usage.csv"'}
    return Response(as_csv(pages), headers=headers, content_type="text/csv; charset=utf-8")


@bp.get("/admin/token")
def token() -> Response:
    """A personal token for `email`, or for the caller."""
    email = known_email(request.args.get("email") or g.admin)
    made = services().issue_token(email)
    log.warning("%s made a token for %s", g.admin, email)
    return json_response({"token": made})


@bp.post("/admin/cost")
def cost() -> Response:
    """Makes a person's cost on a day what the body says, by an entry that adjusts it."""
    body = read_body(request.get_data(cache=False))
    email, day, total = known_email(body.get("email")), past_day(body.get("date")), amount(body.get("cost"))
    difference = services().ledger.adjust(email, day, total)
    log.warning("%s set the cost of %s on %s to $%s, by $%s", g.admin, email, day, show(total), show(difference))
    return json_response({"message": f"Cost for {email} on {day} set to {show(total)}"})


def span(first: str | None, last: str | None) -> tuple[date, date]:
    """The days from `first` to `last`, both included; from the beginning, or without end, where they are missing."""
    begin = known_date("from", first) if first else date.min
    end = known_date("to", last) if last else date.max
    if begin > end:
        raise InvalidRequest("`from` is later than `to`.")
    return begin, end


def known_date(name: str, value: Any) -> date:
    try:
        return date_of(value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"`{name}` must be a date, such as 2025-04-18.") from None


def past_day(value: Any) -> date:
    """A day whose cost may be set: one that is yet to come would block its person before it comes."""
    day, today = known_date("date", value), datetime.now(UTC).date()
    if day > today:
        raise InvalidRequest(f"{day} is yet to come, it is {today} (UTC): set the cost of a day until today.")
    return day


def known_email(value: Any) -> str:
    try:
        return plausible_email(value)
    except ValueError:
        raise InvalidRequest("`email` must be an email address, such as alice@example.com.") from None


def amount(value: Any) -> int:
    """Nanodollars for a cost in dollars."""
    try:
        if isinstance(value, int | float) and value >= 0:
            return to_nano(value)
    except ValueError:
        pass
    raise InvalidRequest("`cost` must be a number of dollars from 0 to a billion, such as 1.23.")


def as_json(pages: Iterable[list[Day]]) -> Iterator[bytes]:
    yield b'{"data":['
    between = b""
    for page in pages:
        rows = [{"email": day.email, "date": day.date, "cost": to_dollars(day.cost)} for day in page]
        yield between + orjson.dumps(rows)[1:-1]
        between = b","
        let_others_run()
    yield b"]}"


def as_csv(pages: Iterable[list[Day]]) -> Iterator[str]:
    yield "email,date,cost\n"
    for page in pages:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(
            (harmless(day.email), day.date, show(day.cost)) for day in page
        )
        yield lines.getvalue()
        let_others_run()


def let_others_run() -> None:
    """A client that takes all we send as fast as we send it would have the worker for itself.

    Not 0 seconds: gevent then lets others do a single step, and each of theirs would wait for a page of ours.
    """
    time.sleep(0.001)
