"""`/assets/…`: styles, scripts and icons, under names that change with their content."""

from __future__ import annotations

import mimetypes

from flask import Blueprint, Flask, Response, request

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
    if name is None:
        raise NotFound("There is no such file, or it has changed: load the page again.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    packed = request.accept_encodings.quality("gzip") > 0
    answer = Response(assets.content(name, packed=packed), mimetype=kind)
    if packed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = FOR_EVER
    return answer
