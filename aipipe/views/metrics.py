"""`GET /metrics`: what Prometheus asks for, where the operator has set `METRICS_TOKEN`."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from aipipe.errors import NotAuthenticated, NotFound
from aipipe.services import services
from aipipe.tokens import token_from

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> Response:
    """All workers' counts. The setting is a password of its own: nobody's token is good for this."""
    parts = services()
    if parts.metrics is None:
        raise NotFound("There are no metrics here: METRICS_TOKEN is not set, or the log says why.")
    given = token_from(request.headers) or ""
    if not hmac.compare_digest(given.encode(), parts.config["METRICS_TOKEN"].encode()):
        raise NotAuthenticated("Metrics need the operator's METRICS_TOKEN: send it as `Authorization: Bearer <it>`.")
    return Response(parts.metrics.text(), content_type=CONTENT_TYPE_LATEST)
