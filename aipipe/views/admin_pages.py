"""`/admin`: who spent what, for teachers and operators. Pages, by session; the API of the same name is in admin.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request

from aipipe import charts
from aipipe.errors import NotAllowed, NotAuthenticated
from aipipe.ledger import Total
from aipipe.ledger.types import Column
from aipipe.money import brief, show
from aipipe.people import ORDERS, Person, by_app, everybody, gathered
from aipipe.providers import Provider
from aipipe.services import services
from aipipe.tokens import MAX_EMAIL_CHARACTERS, plausible_email
from aipipe.views import admin_person, guards, session
from aipipe.views.responses import wants_page
from aipipe.views.sheets import sheet
from aipipe.views.usage import WINDOWS, shown

bp = Blueprint("admin_pages", __name__)
bp.register_blueprint(admin_person.bp)

PEOPLE = 50  # on a page
MOST = 10  # lines of the other tables: their sheets have them all
LATEST = 1000  # requests that tell how providers are doing


@dataclass(frozen=True)
class View:
    """What the page shows, as its address says."""

    days: int = WINDOWS[1]
    q: str = ""
    sort: str = "cost"
    blocked: bool = False
    page: int = 1

    def url(self, path: str = "/admin", **changes: object) -> str:
        """The address of this view but for `changes`, on its first page unless they say which."""
        query = dataclasses.replace(self, **{"page": 1, **changes}).query()  # type: ignore[arg-type]
        return f"{path}?{urlencode(query)}" if query else path

    def query(self) -> dict[str, str]:
        """What the address says: all that is not as usual."""
        usual = dataclasses.asdict(View())
        here = dataclasses.asdict(self).items()
        return {name: "1" if value is True else str(value) for name, value in here if value != usual[name]}


bp.add_app_template_filter(brief)


@bp.before_request
def admins_only() -> Response | None:
    """Everything under this blueprint, whatever is added to it. Forms come from pages of ours alone."""
    user = session.signed_in()
    if user is None:
        if request.method in ("GET", "HEAD") and wants_page():
            return session.sign_in_first()
        raise NotAuthenticated("Sign in first, at /login.")
    if not user.admin:
        raise NotAllowed("This page is for the admins of this AI Pipe. To be one of them, ask its operator.")
    if request.method not in ("GET", "HEAD"):
        guards.require_same_origin()
    return None


@bp.after_request
def forget(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Vary"] = "Cookie"
    return answer


@bp.get("/admin")
def dashboard() -> str:
    """Cards, a chart, people, models, apps and providers, for the days and the people that the address tells."""
    view = asked()
    first, last = shown()
    found = people(view)
    lines = totals("provider", "model", "app")  # once through the books, rather than twice
    listed = [person for person in found if person.blocked or not view.blocked]
    pages = max(1, -(-len(listed) // PEOPLE))
    page = min(view.page, pages)
    days = totals("date")
    return render_template(
        "admin/dashboard.html",
        view=view,
        windows=WINDOWS,
        cost=sum(day.cost for day in days),
        requests=sum(day.requests for day in days),
        asking=sum(1 for person in found if person.total.requests),
        blocked=sum(person.blocked for person in found),
        chart=charts.bars({day.key[0]: day.cost for day in days}, first, last),
        days=sorted(days, key=lambda day: day.key, reverse=True),
        listed=listed[(page - 1) * PEOPLE : page * PEOPLE],
        count=len(listed),
        page=page,
        pages=pages,
        stranger=stranger(view),
        first_row=(page - 1) * PEOPLE + 1,
        models=gathered(lines, 0, 1),
        apps=by_app(lines, "with a personal token"),
        most=MOST,
        providers=health(),
        latest=LATEST,
    )


@bp.get("/admin/people.csv")
def people_sheet() -> Response:
    """The page's people, all of them, with what is left of their budgets."""
    view = asked()
    columns = ("email", "budget_spent", "budget_limit", "budget_days", "blocked")
    rows = [row(person) for person in people(view) if person.blocked or not view.blocked]
    return sheet("aipipe-people.csv", columns, rows)


@bp.get("/admin/models.csv")
def models_sheet() -> Response:
    return sheet("aipipe-models.csv", ("provider", "model"), totals("provider", "model"))


@bp.get("/admin/apps.csv")
def apps_sheet() -> Response:
    return sheet("aipipe-apps.csv", ("app",), totals("app"))


@bp.get("/admin/days.csv")
def days_sheet() -> Response:
    return sheet("aipipe-days.csv", ("date",), sorted(totals("date"), key=lambda day: day.key))


def asked() -> View:
    """The view that the address asks for; what makes no sense in it counts as not said."""
    given = request.args
    days, page, sort = given.get("days", ""), given.get("page", ""), given.get("sort", "")
    return View(
        days=int(days) if days in map(str, WINDOWS) else View.days,
        q=given.get("q", "").strip()[:MAX_EMAIL_CHARACTERS],
        sort=sort if sort in ORDERS else View.sort,
        blocked=given.get("blocked") == "1",
        page=max(1, int(page)) if page.isdecimal() and len(page) < 7 else View.page,
    )


def people(view: View) -> list[Person]:
    found = everybody(services().ledger, services().budgets, *shown(), search=view.q)
    return sorted(found, key=ORDERS[view.sort])


def totals(*by: Column) -> Sequence[Total]:
    """Of the page's people on its days."""
    return services().ledger.totals(by, *shown(), search=asked().q)


def stranger(view: View) -> str | None:
    """Whom somebody searches for who is not in the books, if that is an email."""
    try:
        return plausible_email(view.q)
    except ValueError:
        return None


def row(person: Person) -> Total:
    """A person as a line of a sheet."""
    budget, blocked = person.budget, "yes" if person.blocked else "no"
    key = (person.email, show(person.spent), show(budget.limit), str(budget.days), blocked)
    return dataclasses.replace(person.total, key=key)


def health() -> list[dict[str, object]]:
    """Every provider: whether it has its key, how it did in the last requests, and how it last failed."""
    paces, failures = services().ledger.paces(LATEST), services().ledger.failures.last()
    return [
        {"name": one.name, "missing": missing(one), "pace": paces.get(one.name), "failure": failures.get(one.name)}
        for one in services().providers.values()
    ]


def missing(provider: Provider) -> str | None:
    """The variable that would have to be set, if any."""
    return provider.key_variable if provider.key_variable and not provider.key else None
