"""`/openapi.json`: what AI Pipe's own routes take and give, for programs."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response

bp = Blueprint("openapi", __name__)

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"


@bp.get("/openapi.json")
def openapi() -> Response:
    """The file in docs/, as it is."""
    return Response(OPENAPI.read_bytes(), content_type="application/json")
