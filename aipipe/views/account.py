"""`/login`: signing in and out, and one's token."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, redirect, render_template, request

from aipipe.errors import InvalidRequest, NotAllowed, NotAuthenticated, NotFound
from aipipe.services import services, window
from aipipe.tokens import Identity, plausible_email
from aipipe.views import google_sign_in, guards, session

bp = Blueprint("account", __name__)

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


@bp.get("/login")
def login() -> Response:
    """The sign-in page; for those who are signed in, their token and what is left of their budget."""
    user = session.signed_in()
    if user is None:
        return sign_in_page()
    if request.args.get("next"):
        return redirect(session.own_path(request.args["next"]), 303)  # type: ignore[return-value]
    budget = services().budgets.find(user.email)
    first, _ = window(budget)
    return page(
        "account/token.html",
        url=services().public_url(),
        token=services().issue_token(user.email),
        example=example(),
        budget=budget,
        spent=services().ledger.spent(user.email, first),
    )


def sign_in_page() -> Response:
    google = google_sign_in.button()
    shown = page("account/login.html", dev=services().dev, google=google, next=request.args.get("next", ""))
    return google_sign_in.let_in(shown) if google else shown


@bp.post("/login")
def sign_in() -> Response:
    """Developer sign-in: whoever reaches `aipipe dev` on this machine may be anybody."""
    if not services().dev:
        raise NotFound("There is no developer sign-in here.")
    if any(name in request.headers for name in FORWARDED) or hostname() not in LOOPBACK:
        raise NotAllowed("Developer sign-in is for this machine alone: open http://localhost, not through a proxy.")
    guards.require_same_origin()
    guards.may_sign_in()
    try:
        email = plausible_email(request.form.get("email", "").strip())
    except ValueError:
        raise InvalidRequest("That is not an email address. Go back and type one, as alice@example.com.") from None
    session.begin(email)
    return redirect(session.own_path(request.form.get("next", "")), 303)  # type: ignore[return-value]


@bp.post("/logout")
def sign_out() -> Response:
    guards.require_same_origin()
    session.end()
    return redirect("/", 303)  # type: ignore[return-value]


@bp.post("/login/reset")
def reset() -> Response:
    """Makes every token of the person who is signed in void; the page then shows a new one."""
    guards.require_same_origin()
    services().ledger.reset_tokens(person().email)
    return redirect("/login", 303)  # type: ignore[return-value]


def person() -> Identity:
    """Who is signed in. Raises NotAuthenticated when nobody is."""
    user = session.signed_in()
    if user is None:
        raise NotAuthenticated("You are not signed in any more. Sign in at /login.")
    return user


def page(template: str, **values: object) -> Response:
    """A page about somebody: nothing on the way may keep it."""
    return Response(render_template(template, **values), headers={"Cache-Control": "no-store"})


def hostname() -> str | None:
    """The host that the browser believes to talk to: another name for this machine may be somebody's trick."""
    return urlsplit(f"//{request.host}").hostname


def example() -> dict[str, str]:
    """A provider that works here, and a model of it, for the lines to paste."""
    if services().dev and "local" in services().providers:
        return {"provider": "local", "model": "smollm2-135m"}
    return {"provider": "openai", "model": "gpt-4.1-nano"}
