"""The body of a request, where all of it matters."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from aipipe.errors import InvalidRequest


def whole_body() -> bytes:
    """The request's body. What goes up as whole is whole, though Werkzeug takes what came for all there is.

    It can be asked for once.

    Raises:
        InvalidRequest: it broke off.
        RequestEntityTooLarge: there is more of it than AI Pipe takes.
    """
    left, most = request.content_length, request.max_content_length
    if left is None:
        raw = request.get_data(cache=False)
        request.stream.read(1)  # raises where the limit was reached
        return raw
    if most is not None and left > most:
        raise RequestEntityTooLarge
    source, pieces = request.environ["wsgi.input"], []
    while left and (piece := source.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise InvalidRequest("AI Pipe got only a part of the request's body.")
    return b"".join(pieces)
