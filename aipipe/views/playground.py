"""`/playground`: talking with any model, in a page that shows what it cost. It spends as the API does, in process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from flask import Blueprint, Response, request

from aipipe import calling, conversation, markdown
from aipipe.client import Client
from aipipe.conversation import Conversation
from aipipe.errors import AppError, InvalidRequest, NotConfigured, ProviderError
from aipipe.formats import JSON, Messages
from aipipe.formats.base import data_event
from aipipe.forwarding import request_headers
from aipipe.money import readable, show
from aipipe.providers import Endpoint, Provider
from aipipe.providers.base import read_body
from aipipe.relay import Reply
from aipipe.services import services, window
from aipipe.snippets import snippets
from aipipe.sse import Reader
from aipipe.streaming import Stream
from aipipe.tokens import Identity
from aipipe.views import guards, session
from aipipe.views.account import example
from aipipe.views.responses import json_response, page

bp = Blueprint("playground", __name__)

# What is spent here is booked as this app's: nobody's token was used, and no origin has such a name.
APP = "playground"
LATEST = 20  # entries, among which that of an answer which was stopped is looked for
HEADERS = [("Content-Type", "application/json"), ("Accept", "text/event-stream")]
VERSION = {"anthropic-version": "2023-06-01"}  # https://docs.anthropic.com/en/api/versioning
NEVER_KEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@bp.get("/playground")
def playground() -> Response:
    user = session.signed_in()
    if user is None:
        return session.sign_in_first()
    return page("playground/playground.html", left=left(user), usual=example())


@bp.get("/playground/models")
def models() -> Response:
    """The models that one may talk with here, by provider: each a name and a price."""
    budget = services().budgets.find(session.person().email)
    offered = {
        name: [(model.id, model.price) for model in found if budget.allows(name, model.id)]
        for name, found in services().catalog.models().items()
        if conversation.endpoint(services().providers[name])
    }
    return json_response(offered)


@bp.post("/playground/chat")
def chat() -> Response:
    """The next answer, as events: `{"text", "id"}` as they come, and at the end one named `aipipe` with the answer as
    HTML and what it cost."""
    user, body = asked()
    provider, endpoint, talk = chosen(body)
    guards.funded(user)
    upstream = {**conversation.request(endpoint, talk), "stream": True}
    headers = HEADERS + (list(VERSION.items()) if isinstance(endpoint.format, Messages) else [])
    credentials = provider.shared_headers(services().public_url)
    assert endpoint.format  # noqa: S101 - by which it was found
    reply = calling.meter(
        services(),
        Identity(user.email, app=APP),
        calling.Request(
            provider=provider,
            endpoint=endpoint,
            format=endpoint.format,
            target=f"/{endpoint.name}",
            headers=request_headers(headers, credentials, shared=True),
            body=upstream,
            size=len(orjson.dumps(upstream)),
        ),
        Client(request.environ),
    )
    if not isinstance(reply.body, Stream):
        reply.body.close()
        raise refusal(provider, reply)
    answer = Response(told(reply.body), content_type="text/event-stream", headers=NEVER_KEPT)
    answer.call_on_close(reply.body.close)
    return answer


def told(stream: Stream) -> Iterator[bytes]:
    """A provider's stream in the page's own events, the same for every provider."""
    events, texts, cut, failed = Reader(), list[str](), False, ""
    for chunk in stream:
        told = b""
        for piece in map(conversation.said, events.feed(chunk)):
            cut, failed = cut or piece.cut, failed or piece.error
            if piece.text:
                texts.append(piece.text)
                told += data_event({"text": piece.text, "id": piece.id})
        yield told  # nothing, at first: so the head leaves before the provider writes
    end: dict[str, Any] = {"html": markdown.render("".join(texts)), "cut": cut, "error": failed, "cost": None}
    if bill := stream.bill:
        end |= cost(bill.cost, bill.usages.input_tokens, bill.usages.output_tokens, bill.ended)
        end["remaining"] = amount(bill.remaining)
    yield data_event(end, name="aipipe")


@bp.post("/playground/stopped")
def stopped() -> Response:
    """The beginning of an answer that was stopped, as HTML, and what it cost; `cost` is null until that is booked."""
    user, body = asked()
    text, answer = str(body.get("text") or ""), str(body.get("id") or "")
    booked = [one for one in services().ledger.entries(user.email, LATEST) if answer and one.answer_id == answer]
    found: dict[str, Any] = {"html": markdown.render(text), "remaining": amount(left(user)), "cost": None}
    for entry in booked[:1]:
        found |= cost(entry.cost, entry.input_tokens, entry.output_tokens, entry.ended)
    return json_response(found)


@bp.post("/playground/code")
def code() -> Response:
    """The request for the next answer, as programs that one can paste."""
    _, body = asked()
    provider, endpoint, talk = chosen(body)
    native = isinstance(endpoint.format, Messages)
    return json_response(
        snippets(
            f"{services().public_url()}/{provider.name}/{endpoint.name}",
            conversation.request(endpoint, talk),
            VERSION if native else {},
            '["content"][0]["text"]' if native else '["choices"][0]["message"]["content"]',
        )
    )


def asked() -> tuple[Identity, JSON]:
    """Who asks, from a page of ours, and what."""
    guards.require_same_origin()
    return session.person(), read_body(request.get_data(cache=False))


def chosen(body: JSON) -> tuple[Provider, Endpoint, Conversation]:
    """Raises AppError for what can't be talked about, or with."""
    provider = services().providers.named(str(body.get("provider")))
    endpoint = conversation.endpoint(provider)
    if endpoint is None:
        raise InvalidRequest(f"{provider.name} has no models to talk with.")
    return provider, endpoint, conversation.read(body)


def refusal(provider: Provider, reply: Reply) -> AppError:
    """What the page says when a provider sends anything but a stream."""
    if reply.status in (401, 403):
        return NotConfigured(f"{provider.name} doesn't accept this AI Pipe's key for that. Tell the operator.")
    found = (reply.content or {}).get("error")
    message = str(found.get("message") if isinstance(found, dict) else found or "")[:500]
    if reply.status < 400:
        return ProviderError(f"{provider.name} sent an answer that the playground can't show.")
    return ProviderError(f"{provider.name} refused this ({reply.status}). {message}".strip())


def left(user: Identity) -> int:
    budget = services().budgets.find(user.email)
    return max(0, budget.limit - services().ledger.spent(user.email, window(budget)[0]))


def cost(nano: int, input_tokens: int, output_tokens: int, ended: str) -> dict[str, Any]:
    return {"cost": amount(nano), "input_tokens": input_tokens, "output_tokens": output_tokens, "ended": ended}


def amount(nano: int) -> dict[str, str]:
    """Dollars as pages show them, and exactly."""
    return {"shown": readable(nano), "exact": f"${show(nano)}"}
