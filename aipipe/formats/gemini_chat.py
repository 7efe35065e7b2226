"""Gemini in OpenAI's form of chat: https://ai.google.dev/gemini-api/docs/openai."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aipipe.admission import Ask
from aipipe.errors import NotAllowed
from aipipe.formats.base import JSON, Context, Reading, objects
from aipipe.formats.chat import Chat, ChoicesWatch, parts
from aipipe.formats.gemini import consistent, message, refuse_others
from aipipe.formats.gemini_generate import A_PICTURE, UNASKED
from aipipe.usage_parsing import Flavour

CHAT = Flavour("google", "chat")
BODY = frozenset({
    "model", "messages", "stream", "streamOptions", "maxTokens", "maxCompletionTokens", "n", "temperature", "topP",
    "stop", "seed", "tools", "toolChoice", "parallelToolCalls", "responseFormat", "reasoningEffort", "modalities",
    "presencePenalty", "frequencyPenalty", "logprobs", "topLogprobs", "user", "audio", "serviceTier", "extraBody",
})  # fmt: skip


class GeminiChat(Chat):
    """Chat, whose usage hides what was thought: it is what the total has over the prompt and the answer."""

    def ask(self, body: JSON, context: Context) -> Ask:
        asked = message(body, "the request")
        refuse_others(asked, BODY, "requests")
        extra = message(asked.get("extraBody"), "extra_body")
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
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            if part.get("type") == "image_url" and not str(url).startswith("data:image/"):
                raise NotAllowed("AI Pipe takes images for Gemini as data:image/… URLs only: send the image itself.")

    def read(self, answer: JSON) -> Reading:
        watch = self.watch()
        watch.take(answer)
        watch.reading.identify(answer)
        return watch.reading

    def watch(self) -> GeminiChatWatch:
        return GeminiChatWatch(CHAT)


class GeminiChatWatch(ChoicesWatch):
    def take(self, answer: Mapping[str, Any]) -> None:
        super().take({**answer, "usage": with_thoughts(answer.get("usage"))})
        if found := self.reading.usage:
            self.reading.usage = replace(found, counts=consistent(found.counts))


def with_thoughts(usage: Any) -> Any:
    """The usage with all that isn't prompt as completion, if it is one that tells a total."""
    if not isinstance(usage, Mapping):
        return usage
    total, prompt = usage.get("total_tokens"), usage.get("prompt_tokens")
    if type(total) is not int or type(prompt) is not int or total - prompt < usage.get("completion_tokens", 0):
        return usage
    return {**usage, "completion_tokens": total - prompt}
