"""What Gemini's requests and answers are made of: https://ai.google.dev/api/generate-content.

Google reads a field under its JSON name and under that of its protocol buffers, and an object alone as a list of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats.base import JSON, TEMPLATE_BYTES, Context
from aipipe.usage_parsing import Flavour, Usage

GEMINI = Flavour("google", "default")

# Base64 of a recording or a document that is at least as much as a token of it, ordinarily: 32 tokens are a second of
# audio, 263 one of video, 258 a page. https://ai.google.dev/gemini-api/docs/tokens
RECORDED_BYTES = 64

MODALITIES = {"image": ("image",), "audio": ("audio",), "video": ("video", "audio"), "application": ("image",)}
PARTS = frozenset({
    "text", "inlineData", "functionCall", "functionResponse", "thought", "thoughtSignature", "videoMetadata",
    "mediaResolution", "partMetadata",
})  # fmt: skip
REASONS = {
    "fileData": "stored files belong to the operator's account, so send the data itself as inlineData",
    "cachedContent": "stored content belongs to the operator's account",
    "continuationToken": "stored answers belong to the operator's account",
    "store": "what is stored belongs to the operator's account",
    "serviceTier": "AI Pipe doesn't know its price",
}


@lru_cache(maxsize=512)
def _json_name(name: str) -> str:
    return re.sub(r"(?<=[a-zA-Z0-9])_([a-z0-9])", lambda found: found[1].upper(), name)


def fields(message: JSON) -> JSON:
    """A message's fields under their JSON names. Raises InvalidRequest where one stands there under two names."""
    found: JSON = {}
    for name, value in message.items():
        known = _json_name(name)
        if known in found:
            raise InvalidRequest(f"AI Pipe expected {known[:60]} under one name, not under two.")
        found[known] = value
    return found


def message(value: Any, name: str) -> JSON:
    """The `fields` of the message in a field called `name`; none where there is no message."""
    if not isinstance(value, dict | None):
        raise InvalidRequest(f"AI Pipe expected an object in {name}.")
    return fields(value or {})


def messages(value: Any, name: str) -> Iterator[JSON]:
    """The `fields` of each message in a repeated field called `name`."""
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        yield message(item, name)


def refuse_others(message: JSON, known: frozenset[str], what: str) -> None:
    """Raises NotAllowed for a field that isn't known and is set: to an empty object, too, which asks for a tool."""
    for name, value in message.items():
        if name not in known and value not in (None, False, "", []):
            reason = REASONS.get(name, f"AI Pipe can't price {what} with it")
            raise NotAllowed(f"AI Pipe refuses {name[:60]} on its shared key: {reason}.")


@dataclass(slots=True)
class Media:
    """What of a request isn't text: how many `images`, how many bytes of its body are media (`encoded`), and how many
    of these are recordings or documents, whose tokens nobody can tell beforehand (`recorded`)."""

    images: int = 0
    encoded: int = 0
    recorded: int = 0
    modalities: set[str] = field(default_factory=set)

    def take(self, data: JSON) -> None:
        """Takes a part's `inlineData`. Raises NotAllowed for a kind of data that has no price."""
        kind, content = data.get("mimeType"), data.get("data")
        if not isinstance(kind, str) or not isinstance(content, str):
            raise InvalidRequest("AI Pipe expected inlineData with a mimeType and data, both texts.")
        family, _, name = kind.lower().partition("/")
        if family == "text":
            return
        if family not in MODALITIES or (family == "application" and name != "pdf"):
            raise NotAllowed(f"AI Pipe can't price inlineData of type {kind[:60]!r} and so refuses it.")
        self.encoded += len(content)
        self.modalities.update(MODALITIES[family])
        if family == "image":
            self.images += 1
        else:
            self.recorded += len(content)

    def ask(self, context: Context, modalities: Iterable[str] = (), **rest: Any) -> Ask:
        """The bounds of a request with these media. What is recorded is a guess, so it gets all the money there is."""
        return Ask(
            input_bytes=context.size - self.encoded + TEMPLATE_BYTES,
            input_tokens=self.images * context.limits.image + self.recorded // RECORDED_BYTES,
            guessed=bool(self.recorded),
            modalities=frozenset({*self.modalities, *modalities}),
            **rest,
        )


def media(contents: Iterable[JSON]) -> Media:
    """What in contents isn't text. Raises NotAllowed for parts that are not on the list."""
    found = Media()
    for content in contents:
        for part in _parts(content.get("parts")):
            refuse_others(part, PARTS, "parts")
            refuse_others(message(part.get("mediaResolution"), "mediaResolution"), frozenset({"level"}), "media")
            if part.get("inlineData") is not None:
                found.take(message(part["inlineData"], "inlineData"))
    return found


def _parts(value: Any) -> Iterator[JSON]:
    """Parts, and those in the answers of functions."""
    for part in messages(value, "parts"):
        yield part
        yield from _parts(message(part.get("functionResponse"), "functionResponse").get("parts"))


def usage(answer: Mapping[str, Any]) -> Usage | None:
    """The usage that an answer carries. Embeddings spell one of its fields differently."""
    told = answer.get("usageMetadata")
    if not isinstance(told, Mapping):
        return None
    found = GEMINI.read({"usageMetadata": {"promptTokensDetails": told.get("promptTokenDetails"), **told}})
    return found and replace(found, counts=consistent(found.counts))


def consistent(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Counts that add up: totals are at least their parts, and as much of what was cached is audio as must be."""
    found = dict(counts)
    for direction in ("input", "output"):
        kinds = ("text", "audio", "image", "video", *(["reasoning"] if direction == "output" else []))
        parts = sum(found.get(f"{direction}_{kind}_tokens", 0) for kind in kinds)
        if parts > found.get(f"{direction}_tokens", 0):
            found[f"{direction}_tokens"] = parts
    cached, audio = found.get("cache_read_tokens", 0), found.get("input_audio_tokens", 0)
    if cached and audio:
        found.setdefault("cache_audio_read_tokens", max(0, cached + audio - found["input_tokens"]))
    return found
