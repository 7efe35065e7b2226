"""Every request has an id, which its answer tells, and a record for the log."""

from __future__ import annotations

from flask import Flask, Response, request

from aipipe import observing
from aipipe.services import services

ID = "X-Request-Id"
TRACE = ("traceparent", "tracestate")


def init_app(app: Flask) -> None:
    """Call it when `app` has all of its other `after_request`: Flask goes backwards, so this comes before them."""
    app.before_request_funcs.setdefault(None, []).insert(0, begin)
    app.after_request(name)


def begin() -> None:
    """gunicorn.conf.py finds the record in the environment."""
    environ = request.environ
    environ["aipipe.request"] = record = observing.begin(environ.get("HTTP_X_REQUEST_ID", ""))
    if "HTTP_TRACEPARENT" in environ:
        record.trace = {name: request.headers[name] for name in TRACE if name in request.headers}


def name(answer: Response) -> Response:
    record = observing.present()
    record.first_byte = observing.since(record.started)
    upstream_id = answer.headers.get("X-Upstream-Request-Id", "")
    record.upstream_id = upstream_id if observing.SANE.fullmatch(upstream_id) else None
    if counts := services().metrics:
        counts.answered(request.blueprint or "none", answer.status_code, record.error)
    answer.headers[ID] = record.id
    return answer
