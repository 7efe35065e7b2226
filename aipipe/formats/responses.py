"""Responses: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aipipe.admission import SHORTEST_ANSWER, WHOLE_ANSWER, Ask
from aipipe.errors import InvalidRequest, NotAllowed
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
)
from aipipe.formats.chat import NO_PRICE, TOOLS
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour

RESPONSES = Flavour("openai", "responses")
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
SHARED = {
    **NO_PRICE,
    "background": "its usage is known only after the answer has left",
    "conversation": "stored conversations belong to the operator's account",
    "prompt": "stored prompts belong to the operator's account",
    "background_options": "they are for what runs in the background",
    "context_management": "what it adds is not known beforehand",
    "multi_agent": "nothing bounds how many agents it starts",
}
ITEMS = frozenset({
    "message", "reasoning",
    "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
})  # fmt: skip
PARTS = frozenset({
    "input_text", "input_image", "output_text", "refusal", "summary_text", "reasoning_text", "text",
})  # fmt: skip


def content(items: Iterator[JSON]) -> Iterator[JSON]:
    """The content parts of all items, those of a tool's output included."""
    for item in items:
        yield from objects(item, "content")
        yield from objects(item, "output")


def untyped(item: JSON) -> str:
    """What OpenAI takes an item without a `type` for: an id alone stands for what is stored under it."""
    return "message" if item.get("role") and item.get("content") is not None else "item_reference"


class Responses(OpenAIFamily):
    def ask(self, body: JSON, context: Context) -> Ask:
        refuse_fields(body, SHARED)
        refuse_kinds(objects(body, "tools"), TOOLS, "tools")
        for item in objects(body, "input"):
            refuse_kinds(iter([item]), ITEMS, "input items", default=untyped(item))
        refuse_long_caching(body.get("prompt_cache_options"))
        images = inline = 0
        for part in content(objects(body, "input")):
            refuse_kinds(iter([part]), PARTS, "content parts")
            refuse_long_caching(part.get("prompt_cache_breakpoint"))
            if part.get("type") == "input_image":
                if part.get("file_id"):
                    raise NotAllowed("AI Pipe refuses file_id on its shared key: send the image itself.")
                images += 1
                inline += inline_bytes(part.get("image_url"))
        return Ask(
            input_bytes=context.size - inline + TEMPLATE_BYTES,
            input_tokens=images * context.limits.image + self._earlier(body, context),
            cap=count(body, "max_output_tokens"),
            most=context.limits.most,
            least=WHOLE_ANSWER if context.limits.thinks else SHORTEST_ANSWER,
        )

    def _earlier(self, body: JSON, context: Context) -> int:
        earlier = body.get("previous_response_id")
        if earlier is None:
            return 0
        if not isinstance(earlier, str):
            raise InvalidRequest("previous_response_id must be a string.")
        tokens = context.answer_tokens(earlier)
        if tokens is None:
            raise NotAllowed("AI Pipe knows no answer of yours with this previous_response_id: send the whole input.")
        return tokens

    def cap(self, body: JSON, tokens: int | None) -> None:
        if tokens is not None:
            body["max_output_tokens"] = tokens

    def read(self, answer: JSON) -> Reading:
        return self.watch().whole(answer)

    def watch(self) -> ResponsesWatch:
        return ResponsesWatch(RESPONSES)


class ResponsesWatch(Reader):
    """Follows a stream of typed events; the last one carries the whole response, with its usage."""

    def see(self, event: Event) -> bool:
        found = parse(event.data)
        if found is None:
            return event.data == b"[DONE]"
        response: Any = found.get("response")
        if isinstance(response, Mapping):
            self.take(response)
            self.reading.identify(response)
        self.reading.wrote(found.get("delta"))
        return found.get("type") in ENDS
