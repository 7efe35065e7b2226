"""`/` and `/login`: what this is, and how to get a token."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, render_template, request

from aipipe.errors import InvalidRequest, NotAllowed, NotFound
from aipipe.services import services
from aipipe.views import guards

bp = Blueprint("account", __name__)

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


@bp.get("/")
def home() -> str:
    """What AI Pipe is, and the lines to paste."""
    return render_template("account/home.html", url=services().public_url(), example=example())


@bp.get("/login")
def login() -> str:
    return render_template("account/login.html", dev=services().dev)


@bp.post("/login")
def sign_in() -> Response:
    """Developer sign-in: whoever reaches `aipipe dev` on this machine may be anybody."""
    if not services().dev:
        raise NotFound("There is no developer sign-in here.")
    if any(name in request.headers for name in FORWARDED) or hostname() not in LOOPBACK:
        raise NotAllowed("Developer sign-in is for this machine alone: open http://localhost, not through a proxy.")
    guards.require_same_origin()
    email = request.form.get("email", "").strip()
    try:
        token = services().issue_token(email)
    except ValueError:
        raise InvalidRequest("That is not an email address. Go back and type one, such as alice@example.com.") from None
    page = render_template(
        "account/token.html", url=services().public_url(), email=email, token=token, example=example()
    )
    return Response(page, headers={"Cache-Control": "no-store"})


def hostname() -> str | None:
    """The host that the browser believes to talk to: another name for this machine may be somebody's trick."""
    return urlsplit(f"//{request.host}").hostname


def example() -> dict[str, str]:
    """A provider that works here, and a model of it, for the lines to paste."""
    if services().dev and "local" in services().providers:
        return {"provider": "local", "model": "smollm2-135m"}
    return {"provider": "openai", "model": "gpt-4.1-nano"}
