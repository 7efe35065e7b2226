"""`/proxy/<URL>`: fetches any site on the web for a page that its browser would not let read it. Without a token.

What comes back is a stranger's, on our origin: it may be read, and nothing else.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, g, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from aipipe import addresses, tokens
from aipipe.addresses import Target
from aipipe.answers import Unmetered
from aipipe.client import Client
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.fetching import Fetched
from aipipe.forwarding import Headers, stranger_answer_headers, stranger_request_headers
from aipipe.services import services
from aipipe.views import responses
from aipipe.views.bodies import whole_body
from aipipe.views.targets import raw_target

bp = Blueprint("proxy", __name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
WITH_BODY = ("POST", "PUT", "PATCH")
VIA = "aipipe"
INERT = {
    "Content-Security-Policy": responses.INERT,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
# https://fetch.spec.whatwg.org/#concept-request-destination: what a script asked for itself, and pages of their own.
APART = {"empty", "document"}
TOKEN_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


class Rest(BaseConverter):
    """Everything to the end, whatever it is: the view has a sentence for what is wrong with it."""

    regex = "(?s:.*)"
    part_isolating = False


@bp.record_once
def add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["rest"] = Rest


@bp.route("/proxy/<rest:url>", methods=METHODS)
def fetch(url: str) -> Response:  # noqa: ARG001
    """The answer of the URL after `/proxy/`, as it is. `url` is Flask's, decoded; fetched is what came."""
    settings = services().config["PROXY"]
    if not settings["enabled"]:
        raise NotAllowed("AI Pipe's proxy is off here: its operator has turned it off.")
    refuse_to_mix()
    original = raw_target("proxy").removeprefix("/")
    target = addresses.read(original)
    g.proxied = original
    refuse_loop(target)
    request.max_content_length = min(services().config["MAX_BODY_BYTES"], settings["max_bytes"])
    client = Client(request.environ)
    fetched = services().fetcher.fetch(
        request.remote_addr or "",
        request.method,
        target,
        outgoing_headers(),
        lambda: whole_body() or (b"" if request.method in WITH_BODY else None),
        client.watch,
    )
    try:
        headers = incoming_headers(original, fetched)
    except BaseException:
        fetched.close()
        raise
    return Response(Unmetered(fetched, client), fetched.status, headers, direct_passthrough=True)


def refuse_to_mix() -> None:
    """A stranger's script, style or picture must not be a part of our pages; for other origins it is as good as any."""
    same = request.headers.get("Sec-Fetch-Site") == "same-origin"
    if "Service-Worker" in request.headers or (same and request.headers.get("Sec-Fetch-Dest", "empty") not in APART):
        raise NotAllowed("AI Pipe's proxy doesn't fetch what would be a part of AI Pipe's own pages.")


def refuse_loop(target: Target) -> None:
    """Raises InvalidRequest for a fetch of ourselves, directly or through another proxy."""
    public = urlsplit(services().public_url())
    port = public.port or addresses.DEFAULT_PORTS[public.scheme]
    loopback = services().config["UNSAFE_LOOPBACK"]  # then other servers of a test share our host
    ours = target.host == public.hostname and (target.port == port or not loopback)
    if ours or VIA in request.headers.get("Via", "").lower().replace(",", " ").split():
        raise InvalidRequest("AI Pipe's proxy doesn't fetch from itself: call the last URL directly.")


def outgoing_headers() -> Headers:
    secrets = services().secrets()
    caller = [
        (name, value)
        for name, value in request.headers
        if name.lower() not in TOKEN_HEADERS or not tokens.is_signed_here((value.split() or [""])[-1], secrets)
    ]
    via = [value for name, value in caller if name.lower() == "via"]
    others = [(name, value) for name, value in stranger_request_headers(caller) if name.lower() != "via"]
    return [*others, ("Via", ", ".join([*via, f"1.1 {VIA}"]))]


def incoming_headers(original: str, fetched: Fetched) -> Headers:
    headers = stranger_answer_headers(fetched.headers)
    if fetched.length is not None:
        headers.append(("Content-Length", str(fetched.length)))
    told = next((value for name, value in fetched.headers if name.lower() == "location"), None)
    if told is not None and (location := addresses.location(original, told)):
        headers.append(("Location", location))
    return headers


@bp.after_request
def make_inert(answer: Response) -> Response:
    """On errors too: our own sentences need none of what is taken away."""
    answer.headers.update(INERT)
    if "proxied" in g:
        answer.headers["X-Proxy-URL"] = g.proxied
    return answer
