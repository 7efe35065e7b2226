"""Sign-in with Google: the button on the sign-in page, and the way back. Why so: docs/decisions/009-google-sign-in.md

https://developers.google.com/identity/gsi/web/reference/html-reference
"""

from __future__ import annotations

import hmac
import time

from flask import Blueprint, Response, redirect, request

from aipipe import nonces
from aipipe.errors import NotAuthenticated
from aipipe.services import services
from aipipe.views import guards, session
from aipipe.views.responses import widen

bp = Blueprint("google_sign_in", __name__)

PATH = "/login/google"
GSI = "https://accounts.google.com/gsi/"
# What Google's script needs, by https://developers.google.com/identity/gsi/web/guides/get-google-api-clientid:
# the rest of our policy stays as it is.
NEEDS = {"script_src": "client", "style_src": "style", "connect_src": "", "frame_src": ""}


def button() -> dict[str, str] | None:
    """What the page's button is made of; None where sign-in with Google is off."""
    client_id = services().config["GOOGLE_CLIENT_ID"]
    if not client_id:
        return None
    return {
        "script": GSI + "client",
        "client_id": client_id,
        "login_uri": services().public_url() + PATH,
        "nonce": nonces.make(services().config["AIPIPE_SECRET"]),
    }


def let_in(page: Response) -> Response:
    """Lets Google's script do its work on this page. It wants to know from which site it was asked for."""
    widen(page, **{name: GSI + path for name, path in NEEDS.items()})
    # The script looks for a nonce of styles for those that it adds itself.
    widen(page, style_src=f"'nonce-{session.nonce()}'")
    page.headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return page


@bp.post(PATH)
def come_back() -> Response:
    """Google's page sends the browser here with a credential. It is another site's form: no session comes along."""
    guards.may_sign_in()
    form = request.form
    require_same_browser(request.cookies.get("g_csrf_token", ""), form.get("g_csrf_token", ""))
    person = services().google.verify(form.get("credential", ""))
    require_first_use(person.nonce or "")
    session.begin(person.email)
    answer = redirect(session.own_path(form.get("state", "")), 303)
    answer.headers["Cache-Control"] = "no-store"
    return answer  # type: ignore[return-value]


def require_same_browser(cookie: str, told: str) -> None:
    """Google's script left a word in this browser, and its page tells the same: nobody else's form can."""
    if not cookie or not hmac.compare_digest(cookie.encode(), told.encode()):
        raise NotAuthenticated("This sign-in was not begun in this browser, or cookies are off. Sign in again.")


def require_first_use(nonce: str) -> None:
    """The credential was made for a sign-in that began here, not long ago, and is told for the first time."""
    try:
        nonces.check(services().config["AIPIPE_SECRET"], nonce)
    except nonces.Expired:
        raise NotAuthenticated("This sign-in took longer than ten minutes. Sign in again.") from None
    except ValueError:
        raise NotAuthenticated("This sign-in was not begun on AI Pipe's own page. Sign in again.") from None
    if not services().ledger.use_once(nonce, time.time() + nonces.LIFETIME):
        raise NotAuthenticated("This sign-in was used before. Sign in again.")
