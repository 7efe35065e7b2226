"""Chat completions: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aipipe.admission import SHORTEST_ANSWER, WHOLE_ANSWER, Ask
from aipipe.errors import InvalidRequest
from aipipe.formats.base import (
    JSON,
    TEMPLATE_BYTES,
    Context,
    OpenAIFamily,
    Reader,
    Reading,
    count,
    inline_bytes,
    objects,
    parse,
    refuse_fields,
    refuse_kinds,
    refuse_long_caching,
    refuse_stored_voice,
    texts,
)
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour

CHAT = Flavour("openai", "chat")
TOOLS = frozenset({"function", "custom"})
PARTS = frozenset({"text", "refusal", "image_url", "input_audio", "thinking", "reasoning"})
NO_PRICE = {
    "web_search_options": "searches are billed per call",
    "plugins": "they are billed per call",
    "search_parameters": "searches are billed by their sources",  # https://docs.x.ai/docs/guides/live-search
    "deferred": "its usage is known only after the answer has left",  # xAI's
    "enable_search": "searches are billed per call",  # https://www.alibabacloud.com/help/en/model-studio/web-search
    "search_options": "searches are billed per call",
    "enable_code_interpreter": "it is billed per call",
    "compound_custom": "its tools are billed per call",  # https://console.groq.com/docs/compound
    "search_settings": "searches are billed per call",
    "web_search": "searches are billed per call",  # Baidu's
    "venice_parameters": "searches are billed per call",  # https://docs.venice.ai
    "data_sources": "what they add is not known beforehand",  # Azure's
    "preset": "it belongs to the operator's account",
    "n_predict": "max_tokens says how long an answer may be",  # llama.cpp believes it rather than max_tokens
}
CAPS = ("max_completion_tokens", "max_tokens")
STORED = {"audio": "stored answers belong to the operator's account, and their length is not known"}

# Sound is up to 17 tokens a second (https://developers.openai.com/api/docs/guides/realtime-costs). At 8 kbit/s, the
# least that the MP3 format knows, 80 bytes of base64 are a token; at 32 kbit/s four times as many.
HEARD_BYTES_PER_TOKEN = 80


def parts(messages: Iterator[JSON]) -> Iterator[JSON]:
    """The content parts of all messages."""
    for message in messages:
        yield from objects(message, "content")


def refuse_unpriced(body: JSON) -> None:
    """Raises `NotAllowed` for what has no price, or belongs to the operator's account."""
    refuse_fields(body, NO_PRICE)
    refuse_kinds(objects(body, "tools"), TOOLS, "tools")
    refuse_long_caching(body.get("prompt_cache_options"))
    if isinstance(spoken := body.get("audio"), dict):
        refuse_stored_voice(spoken)
    for message in objects(body, "messages"):
        refuse_fields(message, STORED)
    for part in parts(objects(body, "messages")):
        refuse_kinds(iter([part]), PARTS, "content parts")
        refuse_long_caching(part.get("prompt_cache_breakpoint"))


def wanted(body: JSON) -> set[str]:
    """What the answer may be made of, as far as the request says it."""
    asked = body.get("modalities")
    return {item for item in asked if isinstance(item, str)} if isinstance(asked, list) else set()


def cap_of(body: JSON) -> int | None:
    """The caller's own cap: of two the larger one, since providers differ over which of them counts."""
    return max(count(body, name) or 0 for name in CAPS) or None


def image_bytes(part: JSON) -> int | None:
    """How many of the body's bytes are this image, if the part is one."""
    held = part.get("image_url")
    if part.get("type") != "image_url":
        return None
    return inline_bytes(held.get("url") if isinstance(held, dict) else held)


def sound_bytes(part: JSON) -> int | None:
    """How many of the body's bytes are this sound, if the part is one."""
    held = part.get("input_audio")
    if part.get("type") != "input_audio" or not isinstance(held, dict):
        return None
    data = held.get("data") or ""
    if not isinstance(data, str):
        raise InvalidRequest("AI Pipe expected a text, the sound in base64, in the data of input_audio.")
    return len(data)


@dataclass(frozen=True, slots=True)
class Chat(OpenAIFamily):
    """`cap_field` is how the provider spells a cap. Where that is `max_tokens`, it takes the place of the newer name,
    which not everybody reads: https://github.com/earendil-works/pi/issues/8018."""

    cap_field: str = "max_tokens"

    def ask(self, body: JSON, context: Context) -> Ask:
        refuse_unpriced(body)
        said = [*parts(objects(body, "messages"))]
        images = [size for part in said if (size := image_bytes(part)) is not None]
        sounds = [size for part in said if (size := sound_bytes(part)) is not None]
        drawn = {"image"} if context.limits.draws else set()
        text = context.size - sum(images) - sum(sounds) + TEMPLATE_BYTES
        return Ask(
            # A sound is at most so many tokens, and probably a quarter of them, as text is of its bytes.
            input_bytes=text + -(-sum(sounds) // HEARD_BYTES_PER_TOKEN),
            input_tokens=len(images) * context.limits.image,
            cap=cap_of(body),
            most=context.limits.most,
            choices=count(body, "n", most=128) or 1,
            least=WHOLE_ANSWER if context.limits.thinks else SHORTEST_ANSWER,
            modalities=frozenset(wanted(body) | drawn | ({"audio"} if sounds else set())),
        )

    def cap(self, body: JSON, tokens: int | None) -> None:
        names = [name for name in CAPS if body.get(name) is not None]
        if self.cap_field == "max_tokens" and "max_completion_tokens" in body:
            tokens = cap_of(body) if tokens is None else tokens
            del body["max_completion_tokens"]
            names = []
        if tokens is not None:
            for name in names or [self.cap_field]:
                body[name] = tokens
        ask_for_usage(body)

    def read(self, answer: JSON) -> Reading:
        return self.watch().whole(answer)

    def watch(self) -> ChoicesWatch:
        return ChoicesWatch(CHAT)


def ask_for_usage(body: JSON) -> None:
    if body.get("stream"):
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}


def written(choice: dict[str, Any]) -> Iterable[object]:
    """Every text of a choice in a stream's chunk: what is said, thought, refused, or passed to a tool.

    Once, where it stands there twice: some providers tell a thought under two names.
    """
    return dict.fromkeys((choice.get("text"), *texts(choice.get("delta"))))


def sound(choice: dict[str, Any]) -> str:
    """The sound of a choice in a stream's chunk, in base64."""
    spoken = (choice.get("delta") or {}).get("audio")
    return str(spoken.get("data") or "") if isinstance(spoken, dict) else ""


class ChoicesWatch(Reader):
    """Follows a stream of chat or completion chunks, which ends with `data: [DONE]`."""

    def see(self, event: Event) -> bool:
        if event.data == b"[DONE]":
            return True
        chunk = parse(event.data)
        if chunk is not None:
            self.take(chunk)
            self.reading.identify(chunk)
            for choice in chunk.get("choices") or ():
                for text in written(choice):
                    self.reading.wrote(text)
                self.reading.sound_bytes += len(sound(choice))
        return False
