"""`/similarity`: how alike texts are. Their embeddings are bought as any other answer is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import gevent
import orjson
from flask import Blueprint, Response, request

from aipipe import calling, cosines
from aipipe.answers import Whole
from aipipe.client import Client
from aipipe.cosines import Question, Vectors
from aipipe.errors import NotConfigured, ProviderError
from aipipe.formats import JSON, UNREADABLE, check_parts, parse
from aipipe.forwarding import Headers, answer_headers, request_headers
from aipipe.metering import Bill, ClientGone
from aipipe.providers import Provider
from aipipe.relay import Reply, bill_headers
from aipipe.services import services
from aipipe.tokens import Identity
from aipipe.views import guards

bp = Blueprint("similarity", __name__)

EMBEDDINGS = "/v1/embeddings"
HEADERS = [("Content-Type", "application/json"), ("Accept", "application/json")]
LARGEST = 2**26  # bytes of a provider's answer: nearly twice what 2,048 of the longest embeddings take

Send = Callable[[JSON], Reply]


@bp.post("/similarity")
def compare() -> Response:
    """The similarity of each document with each topic, or of the documents with each other."""
    provider = embedder()
    client = Client(request.environ)
    send = sender(provider, guards.credential(), client)
    raw = request.get_data(cache=False)
    check_parts(raw)
    question = cosines.read(raw)
    return answer(provider, send, question, client)


def embedder() -> Provider:
    """The provider of embeddings. Raises NotConfigured when there is none."""
    name = services().config["EMBEDDING_PROVIDER"]
    if name not in services().providers:
        raise NotConfigured(f"AI Pipe has no provider {name}: its operator should set EMBEDDING_PROVIDER to another.")
    return services().providers[name]


def sender(provider: Provider, credential: str, client: Client) -> Send:
    """What makes one call for embeddings: on the caller's own key, or metered on the operator's."""
    if guards.own_key(credential, provider):
        headers = request_headers(HEADERS, provider.credentials(credential), shared=False)
        return lambda body: on_own_key(provider, headers, body, client)
    identity = guards.identified(credential)
    guards.funded(identity)
    headers = request_headers(HEADERS, provider.shared_headers(services().public_url), shared=True)
    return metered(provider, headers, identity, client)


def metered(provider: Provider, headers: Headers, identity: Identity, client: Client) -> Send:
    endpoint = provider.find("POST", EMBEDDINGS)
    if (format := endpoint.format) is None:
        raise NotConfigured(
            f"AI Pipe can't meter embeddings of {provider.name}: its operator should not have them free."
        )

    def send(body: JSON) -> Reply:
        size = sum(len(text.encode()) for text in body["input"])
        asked = calling.Request(provider, endpoint, format, EMBEDDINGS, headers, body, size)
        return calling.meter(services(), identity, asked, client, whole=LARGEST)

    return send


def on_own_key(provider: Provider, headers: Headers, body: JSON, client: Client) -> Reply:
    content = orjson.dumps(body)
    found = services().pool.send(provider.name, provider.base, "POST", EMBEDDINGS, headers, content, client.watch)
    stop = client.watch(found.abort)
    try:
        answer = b"".join(iter(found.read, b""))
    finally:
        stop()
        found.close()
    return Reply(found.status, answer_headers(found.headers, shared=False), Whole(answer), parse(answer))


def answer(provider: Provider, send: Send, question: Question, client: Client) -> Response:
    """Embeds batch by batch. What the provider refuses is passed on; what was embedded before it is paid."""
    vectors, tokens, bills = Vectors(len(question.texts)), 0, []
    for start, texts in cosines.batches(question.texts):
        if client.gone():
            raise ClientGone("The client left.")
        reply = send(cosines.request(question.model, texts))
        bills += [reply.bill] if reply.bill else []
        if reply.status >= 400:
            return billed(Response(reply.body, reply.status, reply.headers, direct_passthrough=True), bills)
        reply.body.close()
        with readable(provider):
            tokens += vectors.take(start, len(texts), reply.content or {})
    with readable(provider):
        unit = vectors.unit(question.precision)
    # Large products take a second of computing, which a thread does without holding up everybody's streams.
    table = gevent.get_hub().threadpool.apply(cosines.compare, (question, unit))
    return billed(Response(cosines.written(question, table, tokens), content_type="application/json"), bills)


@contextmanager
def readable(provider: Provider) -> Iterator[None]:
    """Raises ProviderError where an answer is found not to be embeddings."""
    try:
        yield
    except UNREADABLE:
        raise ProviderError(f"{provider.name} sent embeddings that AI Pipe can't read.") from None


def billed(response: Response, bills: list[Bill]) -> Response:
    """Tells what all the calls cost together."""
    if bills:
        total = replace(bills[-1], cost=sum(bill.cost for bill in bills))
        response.headers.update(bill_headers(total))
    return response
