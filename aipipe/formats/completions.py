"""The older completions: https://platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

from aipipe.admission import Ask
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reading, count, refuse_fields
from aipipe.formats.chat import CHAT, NO_PRICE, ChoicesWatch, ask_for_usage

DEFAULT_CAP = 16  # the provider's own; always sent, since others' is "no limit"


class Completions(OpenAIFamily):
    def ask(self, body: JSON, context: Context) -> Ask:
        refuse_fields(body, NO_PRICE)
        prompt = body.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
        answers = max(count(body, "n", most=128) or 1, count(body, "best_of", most=128) or 1)
        return Ask(
            input_bytes=context.size,
            cap=count(body, "max_tokens", least=0) if body.get("max_tokens") is not None else DEFAULT_CAP,
            most=context.limits.most,
            choices=answers * prompts,
        )

    def cap(self, body: JSON, tokens: int | None) -> None:
        if tokens is not None:
            body["max_tokens"] = tokens
        elif body.get("max_tokens") is None:
            body["max_tokens"] = DEFAULT_CAP
        ask_for_usage(body)

    def read(self, answer: JSON) -> Reading:
        return self.watch().whole(answer)

    def watch(self) -> ChoicesWatch:
        return ChoicesWatch(CHAT)
