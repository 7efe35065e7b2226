"""`/usage`: what the caller has spent."""

from __future__ import annotations

from flask import Blueprint, Response

from aipipe.money import to_dollars
from aipipe.services import services, window
from aipipe.views import guards
from aipipe.views.responses import json_response

bp = Blueprint("usage", __name__)


@bp.get("/usage")
def usage() -> Response:
    """Spending by day in the window of the caller's budget, newest first, in dollars."""
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
