"""`/usage`: what the caller has spent. JSON for whoever shows a token, a page for whoever is signed in."""

from __future__ import annotations

from datetime import UTC, date, datetime

from flask import Blueprint, Response, render_template, request

from aipipe import charts
from aipipe.budgets import window_start
from aipipe.errors import NotAuthenticated
from aipipe.money import to_dollars
from aipipe.people import by_app
from aipipe.services import services, standing, window
from aipipe.tokens import Identity, token_from
from aipipe.views import guards, session
from aipipe.views.responses import json_response, wants_page
from aipipe.views.sheets import sheet

bp = Blueprint("usage", __name__)

WINDOWS = (7, 30, 90)
LATEST = 50


@bp.get("/usage")
def usage() -> Response:
    """With a token, JSON, whatever the caller would rather have; without, the page of whoever is signed in."""
    if token_from(request.headers) is None and wants_page():
        user = session.signed_in()
        return usage_page(user) if user else session.sign_in_first()
    email = guards.caller().email
    budget = services().budgets.find(email)
    days = services().ledger.daily(email, *window(budget))
    return json_response(
        {
            "email": email,
            "days": budget.days,
            "cost": to_dollars(sum(day.cost for day in days)),
            "usage": [{"date": day.date, "cost": to_dollars(day.cost)} for day in days],
            "limit": to_dollars(budget.limit),
        }
    )


def usage_page(user: Identity) -> Response:
    ledger, (budget, spent, more) = services().ledger, standing(user.email)
    first, last = shown()
    days = ledger.totals(["date"], first, last, email=user.email)
    html = render_template(
        "usage/usage.html",
        budget=budget,
        spent=spent,
        more=more,
        shown=(last - first).days + 1,
        windows=WINDOWS,
        chart=charts.bars({total.key[0]: total.cost for total in days}, first, last),
        total=sum(total.cost for total in days),
        days=sorted(days, key=lambda total: total.key, reverse=True),
        models=ledger.totals(["provider", "model"], first, last, email=user.email),
        apps=by_app(ledger.totals(["provider", "app"], first, last, email=user.email), "with your own token"),
        entries=ledger.entries(user.email, LATEST),
    )
    return Response(html, headers={"Cache-Control": "no-store", "Vary": "Cookie"})


def shown() -> tuple[date, date]:
    """The dates that the page is about."""
    today = datetime.now(UTC).date()
    wanted = request.args.get("days", "")
    return window_start(today, int(wanted) if wanted in map(str, WINDOWS) else WINDOWS[1]), today


@bp.get("/usage.csv")
def usage_csv() -> Response:
    """The page's days, by model and app, for a spreadsheet."""
    user = session.signed_in()
    if user is None:
        raise NotAuthenticated("Sign in first, at /login.")
    first, last = shown()
    by = services().ledger.totals(["date", "provider", "model", "app"], first, last, email=user.email)
    return sheet("usage.csv", ("date", "provider", "model", "app"), sorted(by, key=lambda total: total.key))
