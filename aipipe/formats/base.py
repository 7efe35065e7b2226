"""What every wire format can do: bound a request, cap it, read what its answer used. Pure: JSON in, values out.

A format belongs to an API, not to a provider: OpenRouter speaks four of them, the local model five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest, NotAllowed, TooLarge
from aipipe.models import Limits
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour, Usage

JSON = dict[str, Any]

# What reading an answer may raise when a provider sends something else than it documents.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)

# Streamed sound is 16-bit PCM at 24 kHz in base64, and a token of it a twentieth of a second.
# https://developers.openai.com/api/docs/guides/realtime-costs
SOUND_BYTES_PER_TOKEN = 3_200

# Of a streamed piece of an answer: what isn't text that the model wrote, or is counted apart (sound, images).
UNWRITTEN = frozenset({
    "role", "id", "type", "name", "format", "data", "signature", "thought_signature", "extra_content", "images",
    "annotations",
})  # fmt: skip

MOST_PARTS = 200_000  # of a request: six megabytes of program text have as many braces

# Providers wrap messages in a template of their own: more than the JSON around them, for very short ones.
TEMPLATE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Context:
    """What a format has to know of the world. `answer_tokens` tells the tokens of an earlier answer of the same
    person, or None where the ledger knows of none."""

    limits: Limits
    size: int
    answer_tokens: Callable[[str], int | None]


@dataclass(slots=True)
class Reading:
    """What was seen of an answer so far. `text_bytes` and `pieces` count what was written, for want of a usage, or of
    one that isn't `unfinished`."""

    usage: Usage | None = None
    unfinished: bool = False
    answer_id: str = ""
    model: str = ""
    text_bytes: int = 0
    pieces: int = 0
    sound_bytes: int = 0

    @property
    def sound_tokens(self) -> int:
        """The tokens of what was spoken, which are billed beside those of its transcript."""
        return -(-self.sound_bytes // SOUND_BYTES_PER_TOKEN)

    def wrote(self, text: object) -> None:
        if isinstance(text, str) and text:
            self.text_bytes += len(text.encode("utf-8", "replace"))
            self.pieces += 1

    def identify(self, answer: Mapping[str, Any]) -> None:
        if isinstance(found := answer.get("id"), str):
            self.answer_id = found
        if isinstance(found := answer.get("model"), str):
            self.model = found


class Watch(Protocol):
    """Follows one stream."""

    reading: Reading

    def see(self, event: Event) -> bool:
        """Takes an event; True when it is the one after which the answer is complete.

        Raises one of UNREADABLE when the event isn't what it should be.
        """


class Format(Protocol):
    """One wire format. All of it is about JSON: bytes and HTTP are not known here."""

    def ask(self, body: JSON, context: Context) -> Ask:
        """The bounds of a request.

        Raises:
            InvalidRequest: a field that decides about money can't be read.
            NotAllowed: the request wants something that an operator's shared key is not there for.
        """

    def cap(self, body: JSON, tokens: int | None) -> None:
        """Changes the request for its way upstream: at most `tokens` for each choice, usage told in streams."""

    def read(self, answer: JSON) -> Reading:
        """What a whole JSON answer tells. Raises one of UNREADABLE when it isn't what it should be."""

    def watch(self) -> Watch:
        """A fresh watch, for one stream."""

    def failure(self, message: str) -> bytes:
        """The format's own way of telling, in mid-stream, that there is no more to come."""


class OpenAIFamily:
    """How OpenAI's formats tell, in mid-stream, that there is no more to come."""

    def failure(self, message: str) -> bytes:
        return data_event({"error": {"message": message, "type": "provider_error", "code": None}})


@dataclass(slots=True)
class Reader:
    """Shared by the watches: finds JSON objects in events, and the usage in them."""

    flavour: Flavour
    reading: Reading = field(default_factory=Reading)

    def take(self, answer: Mapping[str, Any]) -> None:
        """Keeps the usage of `answer` if it has one: the last one seen counts."""
        if answer.get("usage") and (usage := self.flavour.read(answer)):
            self.reading.usage = usage

    def whole(self, answer: Mapping[str, Any]) -> Reading:
        """What an answer tells that isn't a stream."""
        self.take(answer)
        self.reading.identify(answer)
        return self.reading


def check_parts(raw: bytes) -> None:
    """Raises TooLarge for a large body of more parts than anybody needs: to read these would hold up everybody else."""
    if len(raw) > 2**20 and (raw.count(b"[") + raw.count(b"{") > MOST_PARTS or raw.count(b":") > 2 * MOST_PARTS):
        raise TooLarge(f"AI Pipe takes JSON of at most {MOST_PARTS} lists and objects, and twice as many fields.")


def parse(data: bytes) -> JSON | None:
    """The JSON object that an event or an answer holds, or None."""
    if not data.startswith(b"{"):
        data = data.lstrip()
    if not data.startswith(b"{"):
        return None
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def texts(piece: object) -> Iterator[str]:
    """Every text in a streamed piece of an answer, at any depth, but for what is `UNWRITTEN`."""
    rest = [piece]
    while rest:
        found = rest.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            rest.extend(value for name, value in found.items() if name not in UNWRITTEN)
        elif isinstance(found, list):
            rest.extend(found)


def data_event(payload: JSON, name: str = "") -> bytes:
    prefix = f"event: {name}\n".encode() if name else b""
    return prefix + b"data: " + orjson.dumps(payload) + b"\n\n"


def count(body: JSON, field_name: str, *, least: int = 1, most: int = 10**7) -> int | None:
    """A whole number among the request's fields; None where it is missing or null."""
    value = body.get(field_name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequest(
            f"AI Pipe can't use {field_name}={str(value)[:40]}: send a whole number from {least} to {most}."
        )
    return value


def objects(body: JSON, field_name: str) -> Iterator[JSON]:
    """The objects of a list among the request's fields; none where it is missing, null or a string."""
    value = body.get(field_name)
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, dict):
                raise InvalidRequest(f"AI Pipe expected objects in {field_name}.")
            yield item
    elif value is not None and not isinstance(value, str):
        raise InvalidRequest(f"AI Pipe expected a list in {field_name}.")


def refuse_fields(body: JSON, reasons: Mapping[str, str]) -> None:
    """Raises `NotAllowed` for the first field that is set to something and has a reason not to be."""
    for name, reason in reasons.items():
        if body.get(name) not in (None, False):  # an empty object may mean "yes, by default"
            raise NotAllowed(f"AI Pipe refuses {name} on its shared key: {reason}.")


def refuse_kinds(items: Iterator[JSON], allowed: frozenset[str], what: str, default: str = "") -> None:
    """Raises `NotAllowed` for the first item whose `type` isn't among the allowed ones."""
    for item in items:
        kind = item.get("type") or default
        if not isinstance(kind, str) or kind not in allowed:
            raise NotAllowed(f"AI Pipe can't price {what} of type {str(kind)[:60]!r} and so refuses them.")


def refuse_stored_voice(options: Mapping[str, Any]) -> None:
    """Raises `NotAllowed` for a voice by its id. Those by name are everybody's."""
    if not isinstance(options.get("voice", ""), str):
        raise NotAllowed("AI Pipe refuses custom voices on its shared key: they belong to the operator's account.")


def refuse_long_caching(options: object) -> None:
    """Raises `NotAllowed` for a way of caching a prompt other than that whose price is known.

    https://developers.openai.com/api/docs/guides/prompt-caching
    """
    known = {"mode": ("implicit", "explicit"), "ttl": ("30m",)}
    if isinstance(options, dict):
        odd = [name for name, value in options.items() if value is not None and value not in known.get(name, ())]
        if odd:
            raise NotAllowed(f"AI Pipe knows no price for this {str(odd[0])[:40]!r} of a prompt's caching.")


def inline_bytes(url: object) -> int:
    """How many of the body's bytes are an image, rather than text."""
    return len(url) if isinstance(url, str) and url.startswith("data:image/") else 0
