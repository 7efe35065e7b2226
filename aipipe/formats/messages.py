"""Anthropic's messages: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
DOCUMENTS = frozenset({"document", "search_result"})
# Tools that the caller carries out, as those of its own. https://platform.claude.com/docs/en/agents-and-tools/tool-use
CLIENT_TOOLS = frozenset({
    "bash_20250124", "text_editor_20250124", "text_editor_20250429", "text_editor_20250728", "memory_20250818",
})  # fmt: skip
# Tokens of instructions that come with tools, with each of Anthropic's own, and with a schema for the answer: more than
# any is documented to take. https://platform.claude.com/docs/en/about-claude/pricing#tool-use-pricing
INSTRUCTIONS = 1_000
SHARED = {
    "mcp_servers": "what they add is not known beforehand",
    "container": "containers are billed by the hour and belong to the operator's account",
    "context_management": "what it adds is not known beforehand",
    "plugins": "they are billed per call",
}


@dataclass(frozen=True, slots=True)
class Messages:
    """`native`: at Anthropic itself, documents and its own client tools are billed as what tokens they are."""

    native: bool = False

    def ask(self, body: JSON, context: Context) -> Ask:
        self.refuse(body)
        images = inline = pages = 0
        for block in blocks(body):
            source = block.get("source")
            if block["type"] == "image" and isinstance(source, dict):
                images += 1
                inline += len(source.get("data", "")) if source["type"] == "base64" else inline_bytes(source.get("url"))
            elif block["type"] == "document" and isinstance(source, dict):
                pages += source.get("type") == "base64"
        thinking = body.get("thinking")
        budget = count(thinking, "budget_tokens") if isinstance(thinking, dict) else None
        thinks = context.limits.thinks or (isinstance(thinking, dict) and thinking.get("type") != "disabled")
        return Ask(
            input_bytes=context.size - inline + TEMPLATE_BYTES,
            input_tokens=images * context.limits.image + instructions(body),
            cap=count(body, "max_tokens", least=0),
            most=context.limits.most,
            least=budget + WHOLE_ANSWER if budget else WHOLE_ANSWER if thinks else SHORTEST_ANSWER,
            guessed=pages > 0,
        )

    def refuse(self, body: JSON) -> None:
        """Raises NotAllowed for what can't be priced, when tokens are counted as when they are made."""
        refuse_fields(body, SHARED)
        tools = CLIENT_TOOLS if self.native else frozenset()
        refuse_kinds(objects(body, "tools"), tools | {"custom"}, "tools", default="custom")
        for block in blocks(body):
            refuse_kinds(iter([block]), BLOCKS | (DOCUMENTS if self.native else frozenset()), "content blocks")
            if block["type"] in SOURCES:
                refuse_elsewhere(block)

    def cap(self, body: JSON, tokens: int | None) -> None:
        if tokens is not None:
            body["max_tokens"] = tokens

    def read(self, answer: JSON) -> Reading:
        return self.watch().whole(answer)

    def watch(self) -> MessagesWatch:
        return MessagesWatch(MESSAGES)

    def failure(self, message: str) -> bytes:
        return data_event({"type": "error", "error": {"type": "api_error", "message": message}}, name="error")


# Where images and documents may come from: stored files belong to the operator's account, and how long a document is
# that stands elsewhere nobody knows.
SOURCES = {"image": frozenset({"base64", "url"}), "document": frozenset({"base64", "text", "content"})}


def refuse_elsewhere(block: JSON) -> None:
    source, allowed = block.get("source"), SOURCES[block["type"]]
    data = source.get("data", "") if isinstance(source, dict) else None
    if not isinstance(source, dict) or str(source.get("type")) not in allowed or not isinstance(data, str):
        raise NotAllowed(f"AI Pipe takes {block['type']}s on its shared key as {' or '.join(sorted(allowed))} only.")


def blocks(body: JSON) -> Iterator[JSON]:
    """The content blocks of a request, those in results of tools and in documents too."""
    for holder in (body, *objects(body, "messages")):
        for name in ("system", "content"):
            yield from _blocks(objects(holder, name))


def _blocks(found: Iterator[JSON]) -> Iterator[JSON]:
    for block in found:
        yield block
        if block.get("type") in {"tool_result", "search_result"}:
            yield from _blocks(objects(block, "content"))
        source = block.get("source")
        if block.get("type") == "document" and isinstance(source, dict):
            yield from _blocks(objects(source, "content"))


def instructions(body: JSON) -> int:
    """The most that Anthropic's own instructions for tools and for a schema take, in tokens."""
    tools = [*objects(body, "tools")]
    own = sum(str(tool.get("type")) in CLIENT_TOOLS for tool in tools)
    config = body.get("output_config")
    schema = body.get("output_format") or (isinstance(config, dict) and config.get("format"))
    return INSTRUCTIONS * (bool(tools) + own + bool(schema))


class MessagesWatch(Reader):
    """Follows a stream whose input is counted at its start, and its output, cumulatively, near its end.

    What is thought but not shown comes encrypted: as the data of its block or, behind no text of it, as its signature.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking
    """

    _shown = False

    def see(self, event: Event) -> bool:
        found = parse(event.data)
        if found is None:
            return False
        kind = found.get("type")
        if kind == "message_start" and isinstance(found.get("message"), Mapping):
            self.take(found["message"])
            self.reading.identify(found["message"])
            self.reading.unfinished = True
        elif kind == "message_delta":
            self._add(found.get("usage"))
            self.reading.unfinished = False
        if kind == "content_block_start":
            block = found.get("content_block")
            self.reading.wrote(block.get("data") if isinstance(block, dict) else None)
            self._shown = False
        delta = found.get("delta")
        if isinstance(delta, dict):
            for name in ("text", "thinking", "partial_json"):
                self.reading.wrote(delta.get(name))
            self._shown = self._shown or bool(delta.get("thinking"))
            if not self._shown:
                self.reading.wrote(delta.get("signature"))
        return kind in {"message_stop", "error"}

    def _add(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            known = self.reading.usage.raw if self.reading.usage else {}
            told = {name: value for name, value in usage.items() if value is not None}
            self.take({"usage": {**known, **told}})
