"""A conversation with any model: the request in a format that its provider speaks, and what the answer says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aipipe.errors import InvalidRequest
from aipipe.formats import JSON, UNREADABLE, Chat, Messages, parse
from aipipe.formats.base import count
from aipipe.models import limits
from aipipe.providers import Endpoint, Provider
from aipipe.sse import Event

ROLES = ("user", "assistant")
USUAL_ANSWER = 4096  # tokens, for a format that must be told a number


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said so far, and how the next answer is wanted. What is None is left to the model."""

    model: str
    messages: list[JSON]
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What an event of an answer says: text, the answer's id, an error; and whether it was cut at its limit."""

    text: str = ""
    id: str = ""
    error: str = ""
    cut: bool = False


def read(body: JSON) -> Conversation:
    """Raises InvalidRequest with a sentence for what can't be used."""
    model, messages, system = body.get("model"), body.get("messages"), body.get("system") or ""
    temperature = body.get("temperature")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("Choose a model first.")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise InvalidRequest("Write a message first.")
    if not isinstance(system, str):
        raise InvalidRequest("The system prompt must be text.")
    if temperature is not None and (type(temperature) not in (int, float) or not 0 <= temperature <= 2):
        raise InvalidRequest("The temperature must be a number from 0 to 2.")
    said = [{"role": message["role"], "content": message["content"]} for message in messages]
    return Conversation(model, said, system.strip(), temperature, count(body, "max_tokens"))


def _is_message(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("role") not in ROLES:
        return False
    return isinstance(item.get("content"), str) and bool(item["content"].strip())


def endpoint(provider: Provider) -> Endpoint | None:
    """Where one talks with a provider's models: in OpenAI's format, or else in Anthropic's."""
    for format in (Chat, Messages):
        for found in provider.endpoints:
            if isinstance(found.format, format):
                return found
    return None


def request(endpoint: Endpoint, talk: Conversation) -> JSON:
    """The request for the next answer, without `stream`."""
    body: JSON = {"model": talk.model, "messages": talk.messages}
    if talk.temperature is not None:
        body["temperature"] = talk.temperature
    if isinstance(endpoint.format, Chat):
        if talk.system:
            body["messages"] = [{"role": "system", "content": talk.system}, *talk.messages]
        if talk.max_tokens:
            body[endpoint.format.cap_field] = talk.max_tokens
        return body
    if talk.system:
        body["system"] = talk.system
    most = limits(talk.model).most or USUAL_ANSWER
    return {**body, "max_tokens": talk.max_tokens or min(USUAL_ANSWER, most)}


def said(event: Event) -> Piece:
    """What an event of a streamed answer says, in either format; nothing where it can't be read."""
    try:
        return _said(parse(event.data) or {})
    except UNREADABLE:
        return Piece()


def _said(chunk: JSON) -> Piece:
    if error := chunk.get("error"):
        return Piece(error=str(error["message"]) if isinstance(error, dict) else str(error))
    choice = (chunk.get("choices") or [{}])[0]
    delta = choice.get("delta") or chunk.get("delta") or {}
    text = delta.get("content") or delta.get("text")
    found = chunk.get("id") or (chunk.get("message") or {}).get("id")
    return Piece(
        text=text if isinstance(text, str) else "",
        id=found if isinstance(found, str) else "",
        cut=choice.get("finish_reason") == "length" or delta.get("stop_reason") == "max_tokens",
    )
