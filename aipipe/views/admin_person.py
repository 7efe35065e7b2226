"""`/admin/people/<email>`: one person's spending, and what an admin can do for them. Each deed is asked about once."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, flash, get_flashed_messages, redirect, render_template, request

from aipipe import charts
from aipipe.errors import InvalidRequest
from aipipe.money import show, to_nano
from aipipe.people import Person, by_app
from aipipe.people import nothing as no_total
from aipipe.services import services, standing
from aipipe.views import session
from aipipe.views.admin import known_email, past_day
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
    email = known_email(email)
    asked: Any = get_flashed_messages(category_filter=["token"])
    for whose, nonce in asked:
        if whose == email and services().ledger.use_once(f"token {nonce}", time.time() + session.SESSION_DAYS * 86_400):
            log.warning("%s made a token for %s", me(), email)
            return person_page(email, token=services().issue_token(email))
    return person_page(email)


def person_page(email: str, *, token: str | None = None, wrong: Mapping[str, str] | None = None) -> str:
    """A person's page; with `token`, if one was just made for them; with what is `wrong` in fields of its form."""
    ledger, (budget, spent, more) = services().ledger, standing(email)
    first, last = shown()
    days = ledger.totals(["date"], first, last, email=email)
    return render_template(
        "admin/person.html",
        email=email,
        person=Person(email, no_total(email), budget, spent),
        more=more,
        admin=email in services().config["ADMIN_EMAILS"],
        token=token,
        wrong=wrong or {},
        done=DONE.get(request.args.get("done", "")),
        shown=(last - first).days + 1,
        windows=WINDOWS,
        chart=charts.bars({day.key[0]: day.cost for day in days}, first, last),
        total=sum(day.cost for day in days),
        days=sorted(days, key=lambda day: day.key, reverse=True),
        models=ledger.totals(["provider", "model"], first, last, email=email),
        apps=by_app(ledger.totals(["provider", "app"], first, last, email=email), "with a personal token"),
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


# What an admin does: GET asks about it, POST does it and leads back. Nothing happens again when a page is reloaded.


@bp.route("/admin/adjust", methods=["GET", "POST"])
def adjust() -> Response | str | tuple[str, int]:
    """Makes a person's cost on a day what the form says."""
    email, field = who(), "date"
    try:
        day, field = past_day(given("date")), "cost"
        cost = dollars(given("cost"))
    except InvalidRequest as error:
        return person_page(email, wrong={field: error.message}), error.status
    if request.method != "POST":
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


@bp.route("/admin/issue", methods=["GET", "POST"])
def issue() -> Response | str:
    """A personal token for a person, shown this once.

    Their page makes it when it is next shown: until then the session says for whom, and no address or cookie has it.
    """
    email = who()
    if request.method != "POST":
        return question(
            f"Make a token for {email}?",
            f"Whoever has it acts as this person and spends their budget, for {services().config['TOKEN_DAYS']} days."
            " It is shown once. Tokens that they have go on working.",
            "Make the token",
        )
    flash([email, secrets.token_urlsafe(16)], "token")  # type: ignore[arg-type]  # good once, whoever keeps the cookie
    return back(email)


@bp.route("/admin/reset", methods=["GET", "POST"])
def reset() -> Response | str:
    """Makes every token of a person void."""
    email = who()
    if request.method != "POST":
        text = "Every token they have stops working at once, in every app. Nothing is lost but the tokens."
        return question(f"Reset the tokens of {email}?", text, "Reset the tokens")
    admin = me()
    moment = services().ledger.reset_tokens(email)
    if email == admin:
        session.begin(email, since=moment)
    log.warning("%s reset the tokens of %s", admin, email)
    return back(email, "reset")


def question(title: str, text: str, button: str, **fields: str) -> str:
    """A form with the same fields, to be sent by somebody who is sure."""
    email = who()
    fields["email"] = email
    return render_template("sure.html", title=title, text=text, button=button, fields=fields, back=path(email))


def back(email: str, done: str = "") -> Response:
    return redirect(path(email) + (f"?done={done}" if done else ""), 303)  # type: ignore[return-value]


def given(name: str) -> str:
    """What a form has in a field, whichever way it was sent."""
    return request.values.get(name, "").strip()


def who() -> str:
    return known_email(given("email"))


def me() -> str:
    user = session.signed_in()
    return user.email if user else "nobody"


def difference(nano: int) -> str:
    """What an adjustment does, in words."""
    return f"an entry of {'-' if nano < 0 else '+'}${show(abs(nano))}" if nano else "nothing"


def dollars(text: str) -> int:
    """Nanodollars for what somebody typed."""
    try:
        nano = to_nano(text.removeprefix("$"))
    except ValueError:
        nano = -1
    if nano < 0:
        raise InvalidRequest("The cost must be a number of dollars from 0 to a billion, with a point, such as 0.05.")
    return nano
