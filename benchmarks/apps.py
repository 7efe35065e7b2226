"""What doing nothing costs: `gunicorn benchmarks.apps:bare`, `gunicorn benchmarks.apps:flask`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import gevent
from flask import Flask, Response, request

from benchmarks import answers

_WHOLE = answers.whole()
JSON = [("Content-Type", "application/json"), ("Content-Length", str(len(_WHOLE)))]


def stream(pace: str) -> Iterator[bytes]:
    """The provider's stream, made here."""
    chunks, pause = (int(number) for number in re.findall(r"\d+", pace))
    for _ in range(chunks):
        gevent.sleep(pause / 1000)
        yield answers.piece(" token")
    yield answers.last()


def bare(environ: dict, start_response: Callable) -> list[bytes] | Iterator[bytes]:  # type: ignore[type-arg]
    asked = json.loads(environ["wsgi.input"].read())
    if asked.get("stream"):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return stream(asked["user"])
    start_response("200 OK", JSON)
    return [_WHOLE]


flask = Flask(__name__)


@flask.post("/v1/chat/completions")
def answer() -> Response:
    asked = request.get_json()
    if asked.get("stream"):
        return Response(stream(asked["user"]), content_type="text/event-stream")
    return Response(_WHOLE, content_type="application/json")
