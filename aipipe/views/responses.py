"""Errors become answers here, and nowhere else; and every answer that takes a token may be read by any origin."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Flask, Response, render_template, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from aipipe import observing
from aipipe.errors import AppError, InvalidRequest, MethodNotAllowed, NotFound, TooLarge
from aipipe.views import session

log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = "86400"
# Only scripts that a page itself names may run: `'self'` would admit what /proxy fetches.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
INERT = "sandbox; default-src 'none'; frame-ancestors 'none'"  # for somebody else's page on our origin
# Bytes of a body that isn't for a provider or another site; a conversation is longer than a form.
SMALL, CONVERSATION = 2**16, 2**22
FOR_OTHERS = {"gateway", "proxy", "similarity"}
HSTS = "max-age=31536000"  # a year, and of this host alone
SAFE = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))


def json_response(payload: Any, status: int = 200) -> Response:
    """An answer for one caller: nothing on the way may keep it."""
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(payload), status, headers, content_type="application/json")


def page(template: str, **values: object) -> Response:
    """A page about somebody: nothing on the way may keep it."""
    return Response(render_template(template, **values), headers={"Cache-Control": "no-store"})


def widen(page: Response, **sources: str) -> None:
    """Adds a source to directives of the page's policy, as in `script_src="https://example.com"`."""
    written = page.headers.get("Content-Security-Policy") or POLICY.format(nonce=session.nonce())
    policy = dict(part.strip().split(" ", 1) for part in written.split(";"))
    for name, source in sources.items():
        directive = name.replace("_", "-")
        policy[directive] = f"{policy.get(directive, '')} {source}".strip()
    page.headers["Content-Security-Policy"] = "; ".join(" ".join(part) for part in policy.items())


def init_app(app: Flask) -> None:
    """Makes `app` answer errors and preflights as docs/api.md says."""
    app.register_error_handler(AppError, refuse)
    app.register_error_handler(HTTPException, refuse_http)
    app.register_error_handler(ParseException, refuse_body)
    app.register_error_handler(Exception, fail)
    app.before_request(answer_preflight)
    app.before_request(bound_body)
    app.after_request(allow_every_origin)


def refuse(error: AppError) -> Response:
    """The answer for a refusal: JSON, or a page for those who would rather read one."""
    observing.present().error = error.code or error.kind
    if wants_page():
        answer = Response(render_template("error.html", error=error), error.status, content_type="text/html")
    else:
        body = {"message": error.message, "type": error.kind, "code": error.code}
        answer = json_response({"message": error.message, "error": body}, error.status)
    answer.headers.update(error.headers)
    return answer


def wants_page() -> bool:
    preferred = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return preferred == "text/html" and request.blueprint != "proxy"  # which has no pages


def refuse_http(error: HTTPException) -> Response:
    """Werkzeug's refusals, in our words."""
    if error.code == 404:
        segment = request.path.lstrip("/").partition("/")[0]
        return refuse(NotFound(f"Unknown provider: {segment[:40]}" if segment else "There is nothing here."))
    if error.code == 405:
        return refuse(
            MethodNotAllowed(f"{request.method} is not for {request.path}.", headers=dict(error.get_headers()))
        )
    if error.code == 413:
        return refuse(TooLarge("The request's body is larger than this AI Pipe takes."))
    if error.code is not None and 300 <= error.code < 400 and error.response is None:
        return Response(status=error.code, headers=error.get_headers())
    return refuse(InvalidRequest("AI Pipe can't make sense of this request."))


def refuse_body(error: ParseException) -> Response:  # noqa: ARG001 - it quotes what was sent
    """A body that turns out, while it is read, not to come in the chunks that its head promised."""
    return refuse(InvalidRequest("AI Pipe can't read the request's body: it isn't in proper chunks."))


def fail(error: Exception) -> Response:
    """A mistake of ours: told to the log, not to the caller."""
    name = observing.present().id
    log.error("%s: %s of %s failed", name, request.method, request.endpoint, exc_info=error)  # a path may hold secrets
    return refuse(AppError(f"AI Pipe made a mistake and logged it. Try again, or tell its operator: {name}"))


def answer_preflight() -> Response | None:
    """Answers a browser that asks whether a page of another origin may call us: here it always may."""
    if request.method != "OPTIONS":
        return None
    answer = Response(status=204)
    del answer.headers["Content-Type"]
    wanted = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type")
    answer.headers["Access-Control-Allow-Headers"] = wanted
    answer.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    answer.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
    return answer


def bound_body() -> None:
    """A form of many megabytes takes half a minute to be read, and holds up everybody's streams."""
    if request.blueprint not in FOR_OTHERS:
        most = CONVERSATION if request.blueprint == "playground" else SMALL
        request.max_content_length = min(request.max_content_length or most, most)


def allow_every_origin(answer: Response) -> Response:
    """Never with credentials: what a page can't prove with a token of its own, it doesn't get.

    Our own pages are for nobody else's scripts: they may show a token.
    """
    told = {name.lower() for name, _ in answer.headers}
    answer.headers.extend([(name, value) for name, value in SAFE if name.lower() not in told])
    if request.is_secure:
        answer.headers["Strict-Transport-Security"] = HSTS
    if request.blueprint != "proxy" and answer.headers.get("Content-Type", "").startswith("text/html"):
        foreign = answer.direct_passthrough
        policy = INERT if foreign else POLICY.format(nonce=session.nonce())
        answer.headers.setdefault("Content-Security-Policy", policy)
        if answer.status_code < 400 and not foreign:
            return answer
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.headers["Access-Control-Expose-Headers"] = "*, " + ", ".join(
        name for name, _ in answer.headers if not name.lower().startswith("access-control-")
    )
    return answer
