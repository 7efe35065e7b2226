"""`/<provider>/<path>`: an app's request, on the operator's key and the user's budget, or on the user's own key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers
from werkzeug.routing import BaseConverter, ValidationError

from aipipe import calling, multipart, relay
from aipipe.answers import Unmetered
from aipipe.client import Client
from aipipe.formats import JSON, Format
from aipipe.forwarding import answer_headers, request_headers
from aipipe.providers import Endpoint, Provider
from aipipe.providers.base import read_body
from aipipe.services import services
from aipipe.tokens import Identity
from aipipe.views import guards
from aipipe.views.bodies import whole_body
from aipipe.views.targets import raw_target

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

bp = Blueprint("gateway", __name__)


# What was read here as UTF-8 must not be read there as something else, which a caller's own `charset` might ask for.
AS_JSON = {"Content-Type": "application/json"}


class Rest(BaseConverter):
    """Whatever comes behind the provider's name, in any spelling: it is judged later, as it came."""

    regex = "(?s:.*)"
    part_isolating = False


class KnownProvider(BaseConverter):
    """A first segment that names a provider: where it names none, another route's 405 is not hidden by a 404."""

    def to_python(self, value: str) -> str:
        if value not in services().providers:
            raise ValidationError
        return value


bp.record_once(lambda state: state.app.url_map.converters.update(known=KnownProvider, rest=Rest))


@bp.route("/<known:provider>", defaults={"path": ""}, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
@bp.route("/<known:provider>/<rest:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def call(provider: str, path: str) -> Response:  # noqa: ARG001
    """`path` is Flask's, decoded; upstream goes the target as it came."""
    parts = services()
    chosen = parts.providers.named(provider)
    target = raw_target(provider)
    credential = guards.credential()
    if guards.own_key(credential, chosen):
        return pass_on(chosen, target, chosen.credentials(credential), shared=False)
    identity = guards.identified(credential)
    where, _, query = target.partition("?")
    endpoint = chosen.find(request.method, where)
    guards.funded(identity)
    chosen.check_query(query)
    credentials = {**chosen.shared_headers(parts.public_url), **chosen.features(request.headers)}
    if endpoint.format is None:
        return pass_on(chosen, target, credentials, shared=True, check=endpoint.check)
    return meter(chosen, endpoint, endpoint.format, target, credentials, identity)


def pass_on(
    provider: Provider,
    target: str,
    credentials: dict[str, str],
    *,
    shared: bool,
    check: Callable[[JSON], None] | None = None,
) -> Response:
    """A request that costs the operator nothing. A body that has a `check` goes out as it was read for that."""
    body = whole_body() or None
    if check:
        credentials = {**credentials, **AS_JSON}
        asked = read_body(body or b"")
        check(asked)
        body = orjson.dumps(asked)
    headers = request_headers(list(iter(request.headers)), credentials, shared=shared)
    client = Client(request.environ)
    answer = services().pool.send(provider.name, provider.base, request.method, target, headers, body, client.watch)
    passing = Unmetered(answer, client)
    return respond(answer.status, answer_headers(answer.headers, shared=shared), passing)


def meter(
    provider: Provider, endpoint: Endpoint, format: Format, target: str, credentials: dict[str, str], identity: Identity
) -> Response:
    """A request that costs, as JSON or as a form with files."""
    caller = list(iter(request.headers))
    if endpoint.form:
        form = multipart.read(request.stream, request.headers.get("Content-Type", ""))
        headers = request_headers(caller, {**credentials, "Content-Type": form.content_type}, shared=True)
        asked = calling.Request(provider, endpoint, format, target, headers, form.fields, form.size, form)
    else:
        raw = whole_body()
        headers = request_headers(caller, {**credentials, **AS_JSON}, shared=True)
        asked = calling.Request(provider, endpoint, format, target, headers, read_body(raw), len(raw))
    try:
        reply = calling.meter(services(), identity, asked, Client(request.environ))
    finally:
        if asked.form:
            asked.form.close()
    return respond(reply.status, reply.headers, reply.body)


class Passed(Response):
    """Somebody else's answer: nothing is guessed of its headers."""

    default_mimetype = None
    automatically_set_content_length = False

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Werkzeug looks for what has no body or leads elsewhere, which an answer like most doesn't."""
        return self.headers if self.status_code == 200 else super().get_wsgi_headers(environ)


def respond(status: int, headers: list[tuple[str, str]], body: relay.AnswerBody) -> Response:
    return Passed(body, status, headers, direct_passthrough=True)
