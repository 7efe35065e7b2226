"""`/login`: signing in and out, and one's token."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, redirect, request

from aipipe.errors import InvalidRequest, NotAllowed, NotFound
from aipipe.redirects import Asked
from aipipe.services import services, standing
from aipipe.tokens import plausible_email
from aipipe.views import google_sign_in, guards, handoff, session
from aipipe.views.responses import json_response, page

bp = Blueprint("account", __name__)

EXAMPLES = {"openai": "gpt-4.1-nano", "openrouter": "openai/gpt-4.1-nano"}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
FORWARDED = ("forwarded", "via", "x-real-ip", "x-forwarded-")  # what such headers begin with


@bp.get("/login")
def login() -> Response:
    """The sign-in page; for those who are signed in, where they were going, or their token and budget."""
    asked, user = handoff.asked(), session.signed_in()
    if user is None:
        return sign_in_page(asked)
    if asked:
        return handoff.answer(user, asked)
    if request.args.get("next"):
        return redirect(session.own_path(request.args["next"]), 303)  # type: ignore[return-value]
    return page(
        "account/token.html",
        url=services().public_url(),
        token=services().issue_token(user.email),
        example=example(),
        standing=standing(user.email),
        reset=request.args.get("done") == "reset",
    )


def sign_in_page(asked: Asked | None) -> Response:
    google = google_sign_in.button()
    to = asked.path if asked else request.args.get("next", "")
    shown = page("account/login.html", dev=services().dev, google=google, next=to, asked=asked)
    if google:
        google_sign_in.let_in(shown)
    return handoff.let_go(shown, asked) if asked else shown


@bp.post("/login")
def sign_in() -> Response:
    """Developer sign-in: whoever reaches `aipipe dev` on this machine may be anybody."""
    if not services().dev:
        raise NotFound("There is no developer sign-in here.")
    if any(name.lower().startswith(FORWARDED) for name, _ in request.headers) or hostname() not in LOOPBACK:
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


@bp.post("/login/token")
def token() -> Response:
    """A token of whoever is signed in, for the lines that they copy: pages show none where nobody asked for it."""
    guards.require_same_origin()
    return json_response({"token": services().issue_token(session.person().email)})


@bp.get("/login/reset")
def ask_about_reset() -> Response:
    if session.signed_in() is None:
        return session.sign_in_first()
    return page(
        "sure.html",
        title="Reset your token?",
        text="Every token you have stops working at once, in every app, and you get a new one. What you spent stays.",
        button="Reset my token",
        fields={},
        back="/login",
    )


@bp.post("/login/reset")
def reset() -> Response:
    """Makes every token of the person who is signed in void, and ends their sessions but this one; the page then shows
    a new one."""
    guards.require_same_origin()
    email = session.person().email
    session.begin(email, since=services().ledger.reset_tokens(email))
    return redirect("/login?done=reset", 303)  # type: ignore[return-value]


def hostname() -> str | None:
    """The host that the browser believes to talk to: another name for this machine may be somebody's trick."""
    return urlsplit(f"//{request.host}").hostname


def example() -> dict[str, str | int]:
    """A provider that works here, and a model of it, for the lines to paste; `max_tokens` if it must be told an end."""
    providers = services().providers
    if services().dev and "local" in providers:
        return {"provider": "local", "model": "smollm2-135m", "max_tokens": 200}
    name = next((name for name in EXAMPLES if name in providers and providers[name].key), "openai")
    return {"provider": name, "model": EXAMPLES[name]}
