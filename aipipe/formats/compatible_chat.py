"""OpenAI's form of chat, as others speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipipe.formats.chat import CHAT, Chat, ChoicesWatch


class CompatibleChat(Chat):
    """Chat, whose usage may tell what was thought beside the completion, as xAI's does, or in the total alone.

    https://docs.x.ai/docs/guides/reasoning
    """

    def watch(self) -> ThoughtsWatch:
        return ThoughtsWatch(CHAT)


class ThoughtsWatch(ChoicesWatch):
    def take(self, answer: Mapping[str, Any]) -> None:
        usage = answer.get("usage")
        super().take({**answer, "usage": with_thoughts(usage)} if usage else answer)


def with_thoughts(usage: Any) -> Any:
    """The usage with all that isn't prompt as completion, if it is one that tells a total."""
    if not isinstance(usage, Mapping):
        return usage
    total, prompt, completion = (usage.get(f"{name}_tokens") for name in ("total", "prompt", "completion"))
    if type(total) is not int or type(prompt) is not int or total - prompt <= (completion or 0):
        return usage
    return {**usage, "completion_tokens": total - prompt}
