"""What a provider says, in the shapes that OpenAI documents.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
from typing import Any

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
COST = 10 * 1_000 + 20 * 2_000  # nanodollars, at the prices of `small`
COMMENT = re.compile(rb": aipipe cost=[\d.]+ remaining=[\d.]+\n\n")
HEAD: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "small"}


def question(**more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "Hello?"}], **more}


def answer(text: str = "Hello.") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def piece(text: str) -> dict[str, Any]:
    """One chunk of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], "usage": None}


def end() -> list[dict[str, Any] | str]:
    """The chunks that end a streamed answer."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    stop = {**HEAD, "object": "chat.completion.chunk", "choices": [choice], "usage": None}
    usage = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    return [stop, usage, "[DONE]"]


def event(content: dict[str, Any] | str) -> bytes:
    """What `piece` or one of `end` is on the wire."""
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()
