"""`/token`: a Google credential becomes an AI Pipe token, and an app's one-time code its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from aipipe import nonces
from aipipe.errors import InvalidRequest, NotAuthenticated
from aipipe.providers.base import read_body
from aipipe.redirects import challenge_of
from aipipe.services import services
from aipipe.views import guards
from aipipe.views.responses import json_response

bp = Blueprint("token", __name__)


@bp.get("/token")
def from_query() -> Response:
    """As pages made for the original AI Pipe ask. POST keeps the credential out of histories and logs."""
    return exchange(request.args)


@bp.post("/token")
def from_body() -> Response:
    """From a form, or from JSON."""
    fields = read_body(request.get_data(cache=False)) if request.is_json else request.form
    return redeem(fields) if "code" in fields and "credential" not in fields else exchange(fields)


def exchange(fields: Mapping[str, Any]) -> Response:
    """A personal token for whom Google vouches for, and what else Google tells about them."""
    guards.may_sign_in()
    credential = fields.get("credential")
    if not isinstance(credential, str) or not credential:
        raise InvalidRequest(
            "AI Pipe makes a token from `credential`, the JWT of Google's sign-in, or a POSTed `code`: send one."
        )
    person = services().google.verify(credential)
    if person.nonce and nonces.is_ours(services().config["AIPIPE_SECRET"], person.nonce):
        raise NotAuthenticated("This credential is of AI Pipe's own sign-in page, and good there alone. Sign in there.")
    return json_response({"token": services().issue_token(person.email), "email": person.email, **person.details})


def redeem(fields: Mapping[str, Any]) -> Response:
    """An app's token, for the code that it found in its address and the verifier that it kept."""
    code, verifier = fields.get("code"), fields.get("code_verifier")
    challenge = challenge_of(verifier) if isinstance(verifier, str) else None
    if not isinstance(code, str) or challenge is None:
        raise InvalidRequest("AI Pipe trades a `code` with its `code_verifier`, 43 to 128 letters: send both.")
    found = services().redeem(code, challenge, request.headers.get("Origin"))
    if found is None:
        guards.count_bad_token()
        raise NotAuthenticated("This code was used, is over a minute old, or isn't this app's. Sign in again.")
    handed, token = found
    return json_response({"token": token, "email": handed.email, "app": handed.app, "expires": int(handed.expires)})
