"""`/admin/people/<email>`: one person's spending, and what an admin can do for them. Each deed is asked about once."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from urllib.parse import quote

from flask import Blueprint, Response, redirect, render_template, request

from aipipe import charts
from aipipe.errors import InvalidRequest
from aipipe.money import show, to_nano
from aipipe.people import Person
from aipipe.people import nothing as no_total
from aipipe.services import services, window
from aipipe.views import session
from aipipe.views.admin import known_date, known_email
from aipipe.views.sheets import sheet
from aipipe.views.usage import LATEST, WINDOWS, shown

bp = Blueprint("person", __name__)
log = logging.getLogger(__name__)

DONE = {
    "cost": "The cost was set. The entry that did it is among the last requests.",
    "reset": "Every token they had is void. They get a new one at /login, or from you.",
}


@bp.app_template_filter("person_path")
def path(email: str) -> str:
    """Where a person's page is."""
    return f"/admin/people/{quote(email, safe='@')}"


@bp.get("/admin/people/<path:email>")
def person(email: str) -> str:
    return person_page(known_email(email))


def person_page(email: str, token: str | None = None) -> str:
    """A person's page; with `token`, if one was just made for them."""
    ledger, budget = services().ledger, services().budgets.find(email)
    first, last = shown()
    days = ledger.totals(["date"], first, last, email=email)
    return render_template(
        "admin/person.html",
        email=email,
        person=Person(email, no_total(email), budget, ledger.spent(email, window(budget)[0])),
        admin=email in services().config["ADMIN_EMAILS"],
        token=token,
        done=DONE.get(request.args.get("done", "")),
        shown=(last - first).days + 1,
        windows=WINDOWS,
        chart=charts.bars({day.key[0]: day.cost for day in days}, first, last),
        total=sum(day.cost for day in days),
        days=sorted(days, key=lambda day: day.key, reverse=True),
        models=ledger.totals(["provider", "model"], first, last, email=email),
        apps=ledger.totals(["app"], first, last, email=email),
        entries=ledger.entries(email, LATEST),
        today=last,
    )


@bp.get("/admin/person.csv")
def person_sheet() -> Response:
    """A person's days, by model and app."""
    email = known_email(request.args.get("email"))
    by = services().ledger.totals(["date", "provider", "model", "app"], *shown(), email=email)
    name = "aipipe-person.csv"
    return sheet(name, ("date", "provider", "model", "app"), sorted(by, key=lambda total: total.key))


@bp.post("/admin/adjust")
def adjust() -> Response | str:
    """Makes a person's cost on a day what the form says."""
    email, day, cost = who(), past_day(request.form.get("date")), dollars(request.form.get("cost", ""))
    if not sure():
        now = sum(known.cost for known in services().ledger.daily(email, day, day))
        return question(
            f"Set the cost of {email} on {day}?",
            f"It is ${show(now)} now and will be ${show(cost)}: {difference(cost - now)} goes into the books.",
            "Set the cost",
            date=day.isoformat(),
            cost=show(cost),
        )
    added = services().ledger.adjust(email, day, cost)
    log.warning("%s set the cost of %s on %s to $%s, by $%s", me(), email, day, show(cost), show(added))
    return back(email, "cost")


@bp.post("/admin/issue")
def issue() -> str:
    """A personal token for a person, shown this once."""
    email = who()
    if not sure():
        return question(
            f"Make a token for {email}?",
            f"Whoever has it acts as {email} and spends their budget, for {services().config['TOKEN_DAYS']} days."
            " It is shown once. Tokens that they have go on working.",
            "Make the token",
        )
    made = services().issue_token(email)
    log.warning("%s made a token for %s", me(), email)
    return person_page(email, made)


@bp.post("/admin/reset")
def reset() -> Response | str:
    """Makes every token of a person void."""
    email = who()
    if not sure():
        text = "Every token they have stops working at once, in every app. Nothing is lost but the tokens."
        return question(f"Reset the tokens of {email}?", text, "Reset the tokens")
    services().ledger.reset_tokens(email)
    log.warning("%s reset the tokens of %s", me(), email)
    return back(email, "reset")


def question(title: str, text: str, button: str, **fields: str) -> str:
    """The same form again, to be sent by somebody who is sure."""
    email = who()
    fields |= {"email": email, "sure": "yes"}
    return render_template("sure.html", title=title, text=text, button=button, fields=fields, back=path(email))


def sure() -> bool:
    return request.form.get("sure") == "yes"


def back(email: str, done: str) -> Response:
    return redirect(f"{path(email)}?done={done}", 303)  # type: ignore[return-value]


def who() -> str:
    return known_email(request.form.get("email", "").strip())


def me() -> str:
    user = session.signed_in()
    return user.email if user else "nobody"


def past_day(text: str | None) -> date:
    day = known_date("date", text)
    if day > datetime.now(UTC).date():
        raise InvalidRequest(f"{day} is yet to come: set the cost of a day that was.")
    return day


def difference(nano: int) -> str:
    """What an adjustment does, in words."""
    return f"an entry of {'-' if nano < 0 else '+'}${show(abs(nano))}" if nano else "nothing"


def dollars(text: str) -> int:
    """Nanodollars for what somebody typed."""
    try:
        nano = to_nano(text.strip().removeprefix("$"))
    except ValueError:
        nano = -1
    if nano < 0:
        raise InvalidRequest("The cost must be a number of dollars from 0 to a billion, such as 1.23.")
    return nano
