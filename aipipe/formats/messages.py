"""Anthropic's messages: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipipe.admission import SHORTEST_ANSWER, WHOLE_ANSWER, Ask
from aipipe.errors import NotAllowed
from aipipe.formats.base import (
    JSON,
    TEMPLATE_BYTES,
    Context,
    Reader,
    Reading,
    count,
    data_event,
    inline_bytes,
    objects,
    parse,
    refuse_fields,
    refuse_kinds,
)
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour

MESSAGES = Flavour("anthropic", "default")
BLOCKS = frozenset({"text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"})
SHARED = {
    "mcp_servers": "what they add is not known beforehand",
    "container": "containers are billed by the hour and belong to the operator's account",
    "context_management": "what it adds is not known beforehand",
    "plugins": "they are billed per call",
}


class Messages:
    def ask(self, body: JSON, context: Context) -> Ask:
        refuse_fields(body, SHARED)
        refuse_kinds(objects(body, "tools"), frozenset({"custom"}), "tools", default="custom")
        images = inline = 0
        for block in self._blocks(body):
            refuse_kinds(iter([block]), BLOCKS, "content blocks")
            if block["type"] == "image":
                images += 1
                inline += self._image_bytes(block.get("source"))
        thinking = body.get("thinking")
        budget = count(thinking, "budget_tokens") if isinstance(thinking, dict) else None
        return Ask(
            input_bytes=context.size - inline + TEMPLATE_BYTES,
            input_tokens=images * context.limits.image,
            cap=count(body, "max_tokens"),
            most=context.limits.most,
            least=budget + WHOLE_ANSWER if budget else SHORTEST_ANSWER,
        )

    def _blocks(self, body: JSON) -> list[JSON]:
        blocks = [*objects(body, "system")]
        for message in objects(body, "messages"):
            for block in objects(message, "content"):
                blocks += [block, *objects(block, "content")] if block.get("type") == "tool_result" else [block]
        return blocks

    def _image_bytes(self, source: Any) -> int:
        if not isinstance(source, dict) or source.get("type") not in {"base64", "url"}:
            raise NotAllowed("AI Pipe takes images as base64 or url: stored files belong to the operator's account.")
        data = source.get("data")
        return len(data) if isinstance(data, str) else inline_bytes(source.get("url"))

    def cap(self, body: JSON, tokens: int | None) -> None:
        if tokens is not None:
            body["max_tokens"] = tokens

    def read(self, answer: JSON) -> Reading:
        watch = self.watch()
        watch.take(answer)
        watch.reading.identify(answer)
        return watch.reading

    def watch(self) -> MessagesWatch:
        return MessagesWatch(MESSAGES)

    def failure(self, message: str) -> bytes:
        return data_event({"type": "error", "error": {"type": "api_error", "message": message}}, name="error")


class MessagesWatch(Reader):
    """Follows a stream whose input is counted at its start, and its output, cumulatively, near its end."""

    def see(self, event: Event) -> bool:
        found = parse(event.data)
        if found is None:
            return False
        kind = found.get("type")
        if kind == "message_start" and isinstance(found.get("message"), Mapping):
            self.take(found["message"])
            self.reading.identify(found["message"])
        elif kind == "message_delta":
            self._add(found.get("usage"))
        delta = found.get("delta")
        if isinstance(delta, dict):
            for name in ("text", "thinking", "partial_json"):
                self.reading.wrote(delta.get(name))
        return kind in {"message_stop", "error"}

    def _add(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            known = self.reading.usage.raw if self.reading.usage else {}
            told = {name: value for name, value in usage.items() if value is not None}
            self.take({"usage": {**known, **told}})
