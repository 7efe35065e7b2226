"""The target of a request as it came, before anyone decoded it."""

from __future__ import annotations

from flask import request


def raw_query() -> str:
    """What stands behind the first `?`, as it came."""
    uri: str = request.environ["RAW_URI"]
    return uri.partition("?")[2]


def raw_target(segment: str) -> str:
    """The path and query behind the first segment of the path, byte for byte as they came."""
    uri: str = request.environ["RAW_URI"]
    if not uri.startswith("/"):  # the absolute form, which a proxy may send
        uri = "/" + uri.partition("://")[2].partition("/")[2]
    return uri.removeprefix(f"/{segment}")
