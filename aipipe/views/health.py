"""`/healthz`: for whatever watches over this server."""

from __future__ import annotations

from flask import Blueprint, Response

from aipipe.services import services
from aipipe.views.responses import json_response

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def health() -> Response:
    """200 when the ledger answers; else its error, 503."""
    services().ledger.ping()
    return json_response({"status": "ok"})
