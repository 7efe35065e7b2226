"""What is asked and answered in every measurement: the same bytes for everyone."""

from __future__ import annotations

import json
import time

MODEL = "gpt-4o-mini"
# https://developers.openai.com/api/docs/pricing: $0.15 and $0.60 for a million tokens in and out
INPUT_TOKENS, OUTPUT_TOKENS = 112, 148
COST = INPUT_TOKENS * 150 + OUTPUT_TOKENS * 600  # nanodollars of one answer

_TEXT = (
    "AI Pipe lets a static web app call a large language model without a back-end of its own. "
    "A student signs in, gets a token and a small budget, and the app sends the token where a key would go. "
)
_USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def question(**more: object) -> bytes:
    """A request for a chat completion."""
    messages = [{"role": "system", "content": "Answer in plain words."}, {"role": "user", "content": _TEXT * 2}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 1000, **more}).encode()


def whole() -> bytes:
    """The answer to it, as OpenAI documents it."""
    message = {"role": "assistant", "content": _TEXT * 3, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps(_completion("chat.completion", choices=[choice], usage=_USAGE)).encode()


def piece(text: str) -> bytes:
    """A chunk of a streamed answer, which tells when it left, in nanoseconds of the machine's clock."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return _event(_completion("chat.completion.chunk", choices=[choice], sent=time.monotonic_ns()))


def last() -> bytes:
    """What ends a streamed answer: its usage and the mark."""
    return _event(_completion("chat.completion.chunk", choices=[], usage=_USAGE)) + b"data: [DONE]\n\n"


def _completion(kind: str, **more: object) -> dict[str, object]:
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": kind,
        "created": 1741569952,
        "model": f"{MODEL}-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_b376dfbbd5",
        **more,
    }


def _event(payload: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"
