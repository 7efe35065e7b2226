"""The body of a request, where all of it matters."""

from __future__ import annotations

from flask import request

from aipipe.errors import InvalidRequest


def whole_body() -> bytes:
    """The request's body. What goes up as whole is whole, though Werkzeug takes what came for all there is.

    Raises:
        InvalidRequest: it broke off.
        RequestEntityTooLarge: it came in chunks, and there are more than AI Pipe takes.
    """
    raw = request.get_data(cache=False)
    if request.content_length is None:
        request.stream.read(1)  # raises where the limit was reached
    elif len(raw) < request.content_length:
        raise InvalidRequest("AI Pipe got only a part of the request's body.")
    return raw
