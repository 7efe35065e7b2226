"""Gemini in OpenAI's form of chat: https://ai.google.dev/gemini-api/docs/openai."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats.base import JSON, Context, objects
from aipipe.formats.chat import parts
from aipipe.formats.compatible_chat import CompatibleChat, ThoughtsWatch
from aipipe.formats.gemini import consistent, fields, message, refuse_others
from aipipe.formats.gemini_generate import A_PICTURE, UNASKED
from aipipe.usage_parsing import Flavour

CHAT = Flavour("google", "chat")
BODY = frozenset({
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p",
    "stop", "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "modalities",
    "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "user", "audio", "service_tier", "extra_body",
})  # fmt: skip


def refuse_spellings(body: JSON) -> None:
    """Raises InvalidRequest for a field that Google reads under its JSON name too, beside or instead of OpenAI's."""
    for name in body:
        plain = re.sub("[A-Z]", lambda found: "_" + found[0].lower(), name)
        if name != plain and plain in BODY:
            raise InvalidRequest(f"AI Pipe expected {plain!r}, as OpenAI spells it, not {name[:40]!r}.")


class GeminiChat(CompatibleChat):
    """Chat, whose usage hides what was thought."""

    def ask(self, body: JSON, context: Context) -> Ask:
        refuse_spellings(body)
        refuse_others(body, BODY, "requests")
        extra = message(body.get("extra_body"), "extra_body")
        refuse_others(extra, frozenset({"google"}), "requests")
        refuse_others(message(extra.get("google"), "google"), frozenset({"thinkingConfig"}), "requests")
        said = [*parts(objects(body, "messages"))]
        self._refuse_addresses(said)
        found = super().ask(body, context)
        return replace(
            found,
            guessed=any(part.get("type") == "input_audio" for part in said),
            least=A_PICTURE if context.limits.draws else found.least,
            modalities=frozenset(UNASKED),
        )

    def _refuse_addresses(self, said: list[JSON]) -> None:
        """Raises NotAllowed for an image that stands elsewhere, or isn't one."""
        for part in said:
            image = fields(part).get("imageUrl")
            url = image.get("url") if isinstance(image, dict) else image
            told = part.get("type") == "image_url" or image is not None
            if told and not str(url).startswith("data:image/"):
                raise NotAllowed("AI Pipe takes images for Gemini as data:image/… URLs only: send the image itself.")

    def watch(self) -> GeminiChatWatch:
        return GeminiChatWatch(CHAT)


class GeminiChatWatch(ThoughtsWatch):
    def take(self, answer: Mapping[str, Any]) -> None:
        super().take(answer)
        if found := self.reading.usage:
            self.reading.usage = replace(found, counts=consistent(found.counts))
