"""Who is signed in. Pages read the session alone, never a token; API routes never read it."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from urllib.parse import quote

from flask import Flask, Request, Response, current_app, g, redirect, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from markupsafe import Markup, escape

from aipipe import redirects
from aipipe.errors import LedgerUnavailable, NotAuthenticated
from aipipe.money import readable, show
from aipipe.services import services
from aipipe.tokens import Identity

SESSION_DAYS = 30


class Cookies(SecureCookieSessionInterface):
    """Signed, not readable by scripts, sent to this host alone; `__Host-` where browsers allow that, on https."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Without a cookie there is nothing to verify: so it is with every call of an API."""
        return super().open_session(app, request) if "HTTP_COOKIE" in request.environ else self.session_class()

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nothing is to be saved of a session that nobody began, and nobody looked at."""
        if session or session.accessed or session.modified:
            super().save_session(app, session, response)

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002
        return "__Host-aipipe" if request.is_secure else "aipipe"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def init_app(app: Flask) -> None:
    """Signed cookies for `app`'s pages, and `user` for their templates."""
    app.session_interface = Cookies()
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.permanent_session_lifetime = SESSION_DAYS * 86_400
    app.add_template_filter(readable, "money")
    app.add_template_filter(show, "exact")
    app.add_template_filter(moment)
    app.add_template_filter(day)
    app.add_template_filter(breakable)
    app.context_processor(lambda: {"user": greeted(), "nonce": nonce, "path": request.path, "menu": menu})


def begin(email: str, since: float | None = None) -> None:
    """Signs `email` in, now or as if at `since`, in a session that has nothing of an earlier one."""
    session.clear()
    session.permanent = True
    session["email"] = email.lower()
    session["since"] = since or time.time()


def end() -> None:
    session.clear()


def signed_in() -> Identity | None:
    """Who is signed in, if anybody. A session ends with the tokens that were there when it began."""
    email, since = session.get("email"), session.get("since")
    if not isinstance(email, str) or not isinstance(since, float) or since < time.time() - SESSION_DAYS * 86_400:
        return None
    if since < (services().ledger.void_before(email) or 0):
        return None
    return Identity(email, admin=email in services().config["ADMIN_EMAILS"])


def greeted() -> Identity | None:
    """Who is signed in, for a page's head: on the page that says that the ledger is away, nobody."""
    try:
        return signed_in()
    except LedgerUnavailable:
        return None


def person() -> Identity:
    """Who is signed in. Raises NotAuthenticated when nobody is."""
    user = signed_in()
    if user is None:
        raise NotAuthenticated("You are not signed in any more.")
    return user


def sign_in_first() -> Response:
    """Sends the browser to the sign-in page, and from there back here."""
    here = request.full_path.rstrip("?")
    return redirect(f"/login?next={quote(here, safe='')}")  # type: ignore[return-value]


def own_path(target: str) -> str:
    """`target` if it is a path on this site, else the account page: nobody is sent elsewhere from here."""
    return redirects.own_path(target) or "/login"


def nonce() -> str:
    """The word that lets this page's own scripts run, and no others."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    return str(g.nonce)


def moment(seconds: float) -> str:
    """A time as pages show it: UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def day(seconds: float) -> str:
    """A date as pages show it, in UTC: `27 December 2026`."""
    date = datetime.fromtimestamp(seconds, UTC)
    return f"{date.day} {date:%B %Y}"


def breakable(name: str) -> Markup:
    """An email or an origin, which is broken, where it must be, after an @ or a dot."""
    return escape(name).replace("@", Markup("@<wbr>")).replace(".", Markup(".<wbr>"))


def menu() -> list[tuple[str, str]]:
    """Paths and names of the pages for whoever is signed in."""
    user = greeted()
    pages = [
        ("playground", "/playground", "Playground"),
        ("usage", "/usage", "Usage"),
        *([("apps", "/apps", "Apps")] if user else []),
        *([("admin_pages", "/admin", "Admin")] if user and user.admin else []),
        ("docs", "/docs", "Docs"),
    ]
    return [(path, name) for blueprint, path, name in pages if blueprint in current_app.blueprints]
