"""`/aipipe.js`: the module that apps on other origins import."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

bp = Blueprint("library", __name__)

FRESH_SECONDS = 300  # then browsers ask again, and are mostly told that nothing has changed


@bp.get("/aipipe.js")
def module() -> Response:
    """The ES module, under a name that stays: so it is kept for a short time only."""
    answer = current_app.send_static_file("aipipe.js")
    answer.content_type = "text/javascript; charset=utf-8"
    answer.headers["Cache-Control"] = f"public, max-age={FRESH_SECONDS}"
    answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return answer
