"""A request that costs, on the operator's key: bounded, admitted, sent, charged. What every view that spends calls."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from aipipe import relay
from aipipe.client import Client
from aipipe.formats import JSON, Format
from aipipe.forwarding import Headers
from aipipe.multipart import Form
from aipipe.providers import Call, Endpoint, Provider
from aipipe.services import Services
from aipipe.tokens import Identity


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a metered endpoint of a provider, in the wire format `format`; its `headers` are ready to go.

    `body` is what decides about money, `size` the bytes of it all; a `form`, if there is one, is what is sent.
    """

    provider: Provider
    endpoint: Endpoint
    format: Format
    target: str
    headers: Headers
    body: JSON
    size: int
    form: Form | None = None


def meter(
    parts: Services, identity: Identity, request: Request, client: Client, *, whole: int = relay.WHOLE
) -> relay.Reply:
    """The provider's answer, charged or about to be; one of up to `whole` bytes is read whole before.

    Raises AppError: it can't be priced, is not allowed, finds no money, or finds no answer.
    """
    budget, endpoint, format = parts.budgets.find(identity.email), request.endpoint, request.format

    def answer_tokens(answer_id: str) -> int | None:
        known = parts.ledger.answer(identity.email, answer_id)
        return known.input_tokens + known.output_tokens if known else None

    path = request.target.partition("?")[0]
    call = request.provider.prepare(
        endpoint, format, path, request.body, request.size, parts.prices, budget, answer_tokens
    )
    charge = parts.metering.admit(identity, budget, call, client.gone)
    body = request.form or upstream_body(call, charge.grant.cap)
    return relay.send(parts.pool, charge, endpoint.method, request.target, request.headers, body, client, whole=whole)


def upstream_body(call: Call, cap: int | None) -> bytes:
    """The request as the provider gets it, always written anew: a field that stands twice goes out as we read it."""
    call.format.cap(call.body, cap)
    call.provider.confine(call)
    return orjson.dumps(call.body)
