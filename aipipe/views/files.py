"""`/assets/…`: styles, scripts and icons, under names that change with their content."""

from __future__ import annotations

import mimetypes

from flask import Blueprint, Flask, Response

from aipipe import assets
from aipipe.errors import NotFound

bp = Blueprint("files", __name__)

FOR_EVER = "public, max-age=31536000, immutable"


def init_app(app: Flask) -> None:
    """Gives templates `asset(name)`, the path of a static file."""
    app.add_template_global(assets.hashed, "asset")
    app.register_blueprint(bp)


@bp.get("/assets/<path:path>")
def asset(path: str) -> Response:
    name = assets.plain(path)
    if name is None or ".." in name:
        raise NotFound("There is no such file, or it has changed: load the page again.")
    # Read at once: a file left open, where a browser leaves in the middle, would stay open for a while.
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    answer = Response((assets.STATIC / name).read_bytes(), mimetype=kind)
    answer.headers["Cache-Control"] = FOR_EVER
    return answer
