"""`/token`: a Google credential becomes an AI Pipe token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from aipipe.errors import InvalidRequest
from aipipe.providers.base import read_body
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
    return exchange(read_body(request.get_data(cache=False)) if request.is_json else request.form)


def exchange(fields: Mapping[str, Any]) -> Response:
    """A personal token for whom Google vouches for, and what else Google tells about them."""
    guards.may_sign_in()
    credential = fields.get("credential")
    if not isinstance(credential, str) or not credential:
        raise InvalidRequest("AI Pipe makes a token from `credential`, the JWT of Google's sign-in: send that.")
    person = services().google.verify(credential)
    return json_response({"token": services().issue_token(person.email), "email": person.email, **person.details})


@bp.after_request
def forget(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
