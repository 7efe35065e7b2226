"""`/<provider>/<path>`: an app's request, on the operator's key and the user's budget, or on the user's own key."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter, ValidationError

from aipipe import multipart, relay
from aipipe.answers import Unmetered
from aipipe.client import Client
from aipipe.errors import BudgetExceeded
from aipipe.formats import JSON, Format
from aipipe.forwarding import answer_headers, request_headers
from aipipe.providers import Endpoint, Provider
from aipipe.providers.base import read_body
from aipipe.services import services
from aipipe.tokens import Identity, is_native_key
from aipipe.views import guards

bp = Blueprint("gateway", __name__)


class KnownProvider(BaseConverter):
    """A first segment that names a provider: where it names none, another route's 405 is not hidden by a 404."""

    def to_python(self, value: str) -> str:
        if value not in services().providers:
            raise ValidationError
        return value


bp.record_once(lambda state: state.app.url_map.converters.update(known=KnownProvider))


@bp.route("/<known:provider>", defaults={"path": ""}, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
@bp.route("/<known:provider>/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def call(provider: str, path: str) -> Response:  # noqa: ARG001
    """`path` is Flask's, decoded; upstream goes the target as it came."""
    chosen = services().providers.named(provider)
    target = raw_target(provider)
    credential = guards.credential()
    if is_native_key(credential):
        return pass_on(chosen, target, chosen.credentials(credential), shared=False)
    identity = guards.identified(credential)
    endpoint = chosen.find(request.method, target.partition("?")[0])
    budget = services().budgets.find(identity.email)
    if budget.limit <= 0:
        raise BudgetExceeded("AI Pipe has no budget for you. Ask its operator for one.")
    credentials = chosen.shared_headers(services().public_url())
    if endpoint.format is None:
        return pass_on(chosen, target, credentials, shared=True)
    return meter(chosen, endpoint, endpoint.format, target, credentials, identity)


def raw_target(provider: str) -> str:
    """The path and query behind the provider's name, byte for byte as they came."""
    uri: str = request.environ["RAW_URI"]
    if not uri.startswith("/"):  # the absolute form, which a proxy may send
        uri = "/" + uri.partition("://")[2].partition("/")[2]
    return uri.removeprefix(f"/{provider}")


def pass_on(provider: Provider, target: str, credentials: dict[str, str], *, shared: bool) -> Response:
    """A request that costs the operator nothing."""
    headers = request_headers(list(request.headers), credentials, shared=shared)
    body = request.get_data(cache=False) or None
    answer = services().pool.send(provider.name, provider.base, request.method, target, headers, body)
    passing = Unmetered(answer, Client(request.environ))
    return respond(answer.status, answer_headers(answer.headers, shared=shared), passing)


def meter(
    provider: Provider, endpoint: Endpoint, format: Format, target: str, credentials: dict[str, str], identity: Identity
) -> Response:
    """A request that costs: bounded, admitted, sent, charged."""
    parts = services()
    budget = parts.budgets.find(identity.email)
    form = multipart.read(request.stream, request.headers.get("Content-Type", "")) if endpoint.form else None
    raw = b"" if form else request.get_data(cache=False)
    asking = form.fields if form else read_body(raw)

    def answer_tokens(answer_id: str) -> int | None:
        known = parts.ledger.answer(identity.email, answer_id)
        return known.input_tokens + known.output_tokens if known else None

    asked = provider.prepare(
        endpoint, format, asking, form.size if form else len(raw), parts.prices, budget, answer_tokens
    )
    client = Client(request.environ)
    charge = parts.metering.admit(identity, budget, asked, client.gone)
    body = form or upstream_body(asked.body, format, charge.grant.cap)
    headers = request_headers(list(request.headers), credentials, shared=True)
    if form:
        headers = [(name, value) for name, value in headers if name.lower() != "content-type"]
        headers.append(("Content-Type", form.content_type))
    reply = relay.send(parts.pool, charge, request.method, target, headers, body, client)
    return respond(reply.status, reply.headers, reply.body)


def upstream_body(body: JSON, format: Format, cap: int | None) -> bytes:
    """The request as the provider gets it, always written anew: a field that stands twice goes out as we read it."""
    format.cap(body, cap)
    return orjson.dumps(body)


def respond(status: int, headers: list[tuple[str, str]], body: relay.AnswerBody) -> Response:
    answer = Response(body, status, headers, direct_passthrough=True)
    if not any(name.lower() == "content-type" for name, _ in headers):
        del answer.headers["Content-Type"]  # Flask's guess
    return answer
