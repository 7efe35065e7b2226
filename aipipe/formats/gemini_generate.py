"""Gemini's own way to generate content: https://ai.google.dev/api/generate-content#method:-models.generatecontent."""

from __future__ import annotations

from typing import Any

import orjson

from aipipe.admission import SHORTEST_ANSWER, WHOLE_ANSWER, Ask
from aipipe.formats.base import JSON, Context, Reading, count, data_event, parse
from aipipe.formats.gemini import Media, fields, media, message, messages, refuse_others, usage
from aipipe.sse import Event

BODY = frozenset({
    "model", "contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig",
})  # fmt: skip
TOOLS = frozenset({"functionDeclarations"})
STANDARD = frozenset({"standard", "unspecified", "service_tier_standard", "service_tier_unspecified"})
A_PICTURE = 2_048  # tokens: one of up to 2K, with a word beside it
UNASKED = ("image", "video")  # what models that make it answer with, without being asked


class Generate:
    """Content in one piece, or as a stream of pieces, each with the usage so far."""

    def ask(self, body: JSON, context: Context) -> Ask:
        asked = fields(body)
        found = self._media(asked)
        config = message(asked.get("generationConfig"), "generationConfig")
        wanted = config.get("responseModalities")
        least = WHOLE_ANSWER if context.limits.thinks else SHORTEST_ANSWER
        return found.ask(
            context,
            (str(item).lower() for item in wanted) if isinstance(wanted, list) and wanted else UNASKED,
            cap=count(config, "maxOutputTokens"),
            most=context.limits.most,
            choices=count(config, "candidateCount", most=8) or 1,
            least=A_PICTURE if context.limits.draws else least,
        )

    def refuse(self, body: JSON) -> None:
        """Raises NotAllowed for what is refused when tokens are counted, as when they are made."""
        asked = fields(body)
        self._media(message(asked.pop("generateContentRequest", None), "generateContentRequest"))
        self._media(asked)

    def _media(self, asked: JSON) -> Media:
        if str(asked.get("serviceTier")).lower() in STANDARD:
            asked.pop("serviceTier")
        refuse_others(asked, BODY, "requests")
        for tool in messages(asked.get("tools"), "tools"):
            refuse_others(tool, TOOLS, "tools")
        system = message(asked.get("systemInstruction"), "systemInstruction")
        return media([system, *messages(asked.get("contents"), "contents")])

    def cap(self, body: JSON, tokens: int | None) -> None:
        if tokens is None:
            return
        name = "generation_config" if "generation_config" in body else "generationConfig"
        config = body[name] = body.get(name) or {}
        config["max_output_tokens" if "max_output_tokens" in config else "maxOutputTokens"] = tokens

    def read(self, answer: JSON) -> Reading:
        watch = self.watch()
        watch.take(answer)
        return watch.reading

    def watch(self) -> GenerateWatch:
        return GenerateWatch()

    def failure(self, message: str) -> bytes:
        return data_event(
            {"error": {"code": 502, "message": message, "status": "UNAVAILABLE", "type": "provider_error"}}
        )


class GenerateWatch:
    """Follows pieces of an answer. One that gives a reason to finish may be the last: older models give one in each."""

    def __init__(self) -> None:
        self.reading = Reading()

    def take(self, answer: JSON) -> None:
        self.reading.usage = usage(answer) or self.reading.usage
        if isinstance(found := answer.get("responseId"), str):
            self.reading.answer_id = found
        if isinstance(found := answer.get("modelVersion"), str):
            self.reading.model = found

    def see(self, event: Event) -> bool:
        piece = parse(event.data)
        if piece is None:
            return event.data == b"]"
        self.take(piece)
        candidates: list[dict[str, Any]] = piece.get("candidates") or []
        for candidate in candidates:
            for part in (candidate.get("content") or {}).get("parts") or ():
                self.reading.wrote(part.get("text"))
                if call := part.get("functionCall"):
                    self.reading.wrote(orjson.dumps(call).decode())
        return not candidates or any(candidate.get("finishReason") for candidate in candidates)
