"""`/apps`: the apps that whoever is signed in allowed to spend, and how to take that back."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, request

from aipipe.services import services
from aipipe.views import guards, session
from aipipe.views.responses import page

bp = Blueprint("apps", __name__)


@bp.get("/apps")
def apps() -> Response:
    user = session.signed_in()
    if user is None:
        return session.sign_in_first()
    ledger = services().ledger
    return page("apps/apps.html", apps=ledger.apps.allowed(user.email), tokens=ledger.apps.tokens(user.email))


@bp.post("/apps/revoke")
def revoke() -> Response:
    """Takes back one token, by its `jti`, or all that an app got and its right to more."""
    guards.require_same_origin()
    user, revoked = session.person(), services().ledger.apps
    if jti := request.form.get("jti"):
        revoked.revoke_token(user.email, jti)
    else:
        revoked.revoke(user.email, request.form.get("app", ""))
    return redirect("/apps", 303)  # type: ignore[return-value]
