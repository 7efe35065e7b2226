"""`/` and `/models`: what AI Pipe is, and what is offered here, at which prices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from aipipe.catalog import PATIENCE, Model
from aipipe.services import services, standing
from aipipe.views import session
from aipipe.views.account import example
from aipipe.views.responses import page

bp = Blueprint("home", __name__)

GLANCE = 0.3  # seconds that the home page waits for lists which nobody has asked for yet
LINES = 100  # on a page
LONGEST = 100  # characters of a search


def dearness(model: Model) -> tuple[int, str]:
    return model.input + model.output, model.id


ORDERS: Mapping[str, Callable[[Model], Any]] = {"name": lambda model: (model.provider, model.id), "price": dearness}


@dataclass(frozen=True)
class View:
    """What the page shows, as its address says."""

    provider: str = ""
    q: str = ""
    sort: str = "name"
    page: int = 1

    def url(self, **changes: object) -> str:
        """The address of this view but for `changes`, on its first page unless they say which."""
        there = dataclasses.replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        usual = dataclasses.asdict(View())
        query = {name: value for name, value in dataclasses.asdict(there).items() if value != usual[name]}
        return f"/models?{urlencode(query)}" if query else "/models"

    def finds(self, model: Model) -> bool:
        words = self.q.lower().split()
        return self.provider in ("", model.provider) and all(
            word in f"{model.provider}/{model.id}".lower() for word in words
        )


@bp.get("/")
def home() -> Response:
    """What AI Pipe is, the lines to paste, and what is offered here in a few."""
    user = session.signed_in()
    ranges = {name: sorted(each, key=dearness) for name, each in offered(GLANCE).items()}
    return page(
        "home/home.html",
        url=services().public_url(),
        example=example(),
        open=user or services().dev or services().config["GOOGLE_CLIENT_ID"],
        standing=standing(user.email) if user else None,
        providers={name: (len(each), each[0], each[-1]) for name, each in ranges.items()},
    )


@bp.get("/models")
def models() -> Response:
    view, known = asked(), offered(PATIENCE)
    found = sorted((model for each in known.values() for model in each if view.finds(model)), key=ORDERS[view.sort])
    pages = max(1, -(-len(found) // LINES))
    at = min(view.page, pages)
    return page(
        "home/models.html",
        view=view,
        providers={name: len(each) for name, each in known.items()},
        listed=found[(at - 1) * LINES : at * LINES],
        count=len(found),
        first_row=(at - 1) * LINES + 1,
        at=at,
        pages=pages,
    )


def asked() -> View:
    """The view that the address asks for; what makes no sense in it counts as not said."""
    given = request.args
    at, sort = given.get("page", ""), given.get("sort", "")
    return View(
        provider=given.get("provider", "") if given.get("provider") in services().providers else "",
        q=given.get("q", "").strip()[:LONGEST],
        sort=sort if sort in ORDERS else View.sort,
        page=max(1, int(at)) if at.isdecimal() and len(at) < 7 else View.page,
    )


def offered(patience: float) -> dict[str, list[Model]]:
    """Models by provider, as `Catalog.models` has them; to whoever is signed in, those that their budget allows."""
    known = services().catalog.models(patience)
    user = session.signed_in()
    if user is None:
        return known
    budget = services().budgets.find(user.email)
    allowed = {name: [model for model in each if budget.allows(name, model.id)] for name, each in known.items()}
    return {name: each for name, each in allowed.items() if each}
