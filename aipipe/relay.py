"""Passes a provider's answer on while metering watches it: bytes untouched, charged before the last of them leaves."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from tempfile import SpooledTemporaryFile

from aipipe import arrays, sse
from aipipe.answers import Spooled, Unmetered, Whole, is_answer, read, settle
from aipipe.client import Client
from aipipe.errors import ProviderError, ProviderTimeout
from aipipe.formats import JSON, Reading, parse
from aipipe.forwarding import Headers, answer_headers
from aipipe.metering import Bill, Charge, ClientGone
from aipipe.money import show
from aipipe.outline import outline
from aipipe.streaming import Reader, Stream
from aipipe.upstream import Answer, Body, Pool, unwatched

WHOLE = 8 * 2**20  # bytes: an answer up to this is kept in memory, a larger one in a file

# What the operator has to hear of, by the provider's status; what is left is the caller's business.
REFUSALS = {
    401: "It does not take AI Pipe's key.",
    402: "AI Pipe's account there has no money left.",
    403: "It forbids AI Pipe's key what was asked for.",
    429: "It wants AI Pipe to ask less, or its quota is used up.",
    500: "It failed.",
}

AnswerBody = Whole | Spooled | Stream | Unmetered


@dataclass(slots=True)
class Reply:
    """What goes back to the caller. Whoever takes it must close `body`, even one that was never begun.

    Of an answer that isn't a stream there are also its `bill` and, where that is a JSON object and not too large, its
    `content`.
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
    events = _events(answer, charge) if is_answer(answer.status) else None
    charge.sight.answers(streams=events is not None)
    if events:
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        return Reply(answer.status, headers, Stream(answer, charge, client, events))
    if charge.call.ask.told and is_answer(answer.status):  # its price is known, so it may pass as it comes
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
    """Takes all of an answer before any of it is passed on, however slowly that is taken: in a file, if it is large."""
    spool = SpooledTemporaryFile(max_size=whole)  # noqa: SIM115 - closed with the reply, or below
    try:
        while chunk := answer.read():
            spool.write(chunk)
    except (ProviderError, OSError) as error:
        answer.close()
        failure = error if isinstance(error, ProviderError) else ProviderError("AI Pipe has no room for this answer.")
        charge.failed(failure.status, failure.message)
        written = spool.tell() * charge.call.ask.output
        settle(charge, Reading(text_bytes=written), answer.status, interrupted=True)
        spool.close()
        raise failure from None
    answer.close()
    size = spool.tell()
    if size > whole:
        spool.flush()
        with mmap(spool.fileno(), 0, access=ACCESS_READ) as body:
            bill = _settle_whole(charge, outline(body), size, answer.status)
        return Reply(answer.status, [*headers, *bill_headers(bill)], Spooled(spool), bill=bill)
    spool.seek(0)
    content = parse(found := spool.read())
    spool.close()
    bill = _settle_whole(charge, outline(found) if content is None else content, size, answer.status)
    return Reply(answer.status, [*headers, *bill_headers(bill)], Whole(found), content, bill)


def _settle_whole(charge: Charge, found: JSON | None, size: int, status: int) -> Bill | None:
    """Charges a whole answer of so many bytes."""
    reading = read(charge, found)
    if found is not None and reading.usage is None and charge.call.ask.output:
        reading.text_bytes = size
    return settle(charge, reading, status)


def bill_headers(bill: Bill | None) -> Headers:
    if bill is None:
        return []
    return [("X-AIPipe-Cost", show(bill.cost)), ("X-AIPipe-Remaining", show(bill.remaining))]
