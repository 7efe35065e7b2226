"""Passes a provider's answer on while metering watches it: bytes untouched, charged before the last of them leaves."""

from __future__ import annotations

from dataclasses import dataclass

from aipipe import arrays, sse
from aipipe.answers import Large, Unmetered, Whole, read, settle
from aipipe.client import Client
from aipipe.errors import ProviderError, ProviderTimeout
from aipipe.formats import JSON, Reading, parse
from aipipe.forwarding import Headers, answer_headers
from aipipe.metering import Bill, Charge, ClientGone
from aipipe.money import show
from aipipe.streaming import Reader, Stream
from aipipe.upstream import Answer, Body, Pool, unwatched

WHOLE = 8 * 2**20  # bytes: an answer up to this is read whole before any of it is passed on

# What the operator has to hear of, by the provider's status; what is left is the caller's business.
REFUSALS = {
    401: "It does not take AI Pipe's key.",
    402: "AI Pipe's account there has no money left.",
    403: "It forbids AI Pipe's key what was asked for.",
    429: "It wants AI Pipe to ask less, or its quota is used up.",
    500: "It failed.",
}

AnswerBody = Whole | Large | Stream | Unmetered


@dataclass(slots=True)
class Reply:
    """What goes back to the caller. Whoever takes it must close `body`, even one that was never begun.

    Of an answer that was read whole there are also its `content`, where that is a JSON object, and its `bill`.
    """

    status: int
    headers: Headers
    body: AnswerBody
    content: JSON | None = None
    bill: Bill | None = None


def send(
    pool: Pool,
    charge: Charge,
    method: str,
    target: str,
    headers: Headers,
    body: Body,
    client: Client,
    *,
    whole: int = WHOLE,
) -> Reply:
    """Sends an admitted request and begins to pass its answer on. The charge is resolved in any case.

    Raises:
        ProviderError: there is no answer; nothing is charged, unless the provider had the request and may bill it.
    """
    call, provider = charge.call, charge.call.provider
    watch = client.watch if call.streams and not provider.reads_on(call) else unwatched
    try:
        answer = pool.send(provider.name, provider.base, method, target, headers, body, watch)
    except ProviderTimeout as error:
        _give_up(charge, error.status if error.billable else None)
        charge.failed(error.status, error.message)
        raise
    except Exception as error:
        _give_up(charge, ClientGone.status if client.left else None)
        if isinstance(error, ProviderError) and not client.left:
            charge.failed(error.status, error.message)
        raise
    return begin(answer, charge, client, whole)


def _give_up(charge: Charge, status: int | None) -> None:
    """There is no answer; with a `status`, the provider had the request and may bill it."""
    if status is None:
        charge.release()
    else:
        charge.settle(Reading(), status=status, interrupted=True)


def begin(answer: Answer, charge: Charge, client: Client, whole: int = WHOLE) -> Reply:
    """Takes the head of an answer, and the whole of it where it isn't a stream."""
    headers = answer_headers(answer.headers, shared=True)
    if charge.grant.capped:
        headers.append(("X-AIPipe-Capped", str(charge.grant.tokens)))
    if sentence := REFUSALS.get(answer.status, REFUSALS[500] if answer.status > 500 else None):
        charge.failed(answer.status, sentence)
    events = _events(answer, charge) if answer.status < 400 else None
    charge.sight.answers(streams=events is not None)
    if events:
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        return Reply(answer.status, headers, Stream(answer, charge, client, events))
    if answer.status < 400 and charge.call.ask.told:  # its price is known, so it needn't be read before it is passed on
        bill = charge.settle(Reading(), status=answer.status)
        return Reply(answer.status, [*headers, *bill_headers(bill)], Unmetered(answer, client), bill=bill)
    return _read_whole(answer, charge, headers, whole)


def _events(answer: Answer, charge: Charge) -> Reader | None:
    """What reads the answer as it goes by, if it is a stream."""
    kind = answer.header("Content-Type")
    if kind.startswith("text/event-stream"):
        return sse.Reader()
    return arrays.Reader() if charge.call.endpoint.array and kind.startswith("application/json") else None


def _read_whole(answer: Answer, charge: Charge, headers: Headers, whole: int) -> Reply:
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := answer.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > whole:
                return Reply(answer.status, headers, Large(answer, charge, chunks))
    except ProviderError as error:
        answer.close()
        charge.failed(error.status, error.message)
        settle(charge, Reading(text_bytes=size * charge.call.ask.output), answer.status, interrupted=True)
        raise
    answer.close()
    body = b"".join(chunks)
    content = parse(body)
    bill = _settle_whole(charge, body, content, answer.status)
    return Reply(answer.status, [*headers, *bill_headers(bill)], Whole(body), content, bill)


def _settle_whole(charge: Charge, body: bytes, found: JSON | None, status: int) -> Bill | None:
    """Charges a whole answer."""
    reading = read(charge, found)
    if found is not None and reading.usage is None and charge.call.ask.output:
        reading.text_bytes = len(body)
    return settle(charge, reading, status)


def bill_headers(bill: Bill | None) -> Headers:
    if bill is None:
        return []
    return [("X-AIPipe-Cost", show(bill.cost)), ("X-AIPipe-Remaining", show(bill.remaining))]
