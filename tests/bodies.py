"""Requests and answers in every wire format, each with all that decides about money: whole, or with a piece of it
replaced by something else."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aipipe.formats import (
    Chat,
    Completions,
    Embed,
    Embeddings,
    Format,
    GeminiChat,
    Generate,
    Images,
    Messages,
    Responses,
    Speech,
    Transcription,
    Translation,
)

IMAGE = "data:image/png;base64,iVBORw0KGgo="
_CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "max_tokens": 100,
}
_MESSAGES: dict[str, Any] = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "done"}]},
            ],
        }
    ],
    "tools": [{"name": "f", "input_schema": {}}],
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "max_tokens": 4000,
}
_CONTENT: dict[str, Any] = {
    "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]
}

# A format, and a request that it takes.
REQUESTS: dict[str, tuple[Format, dict[str, Any]]] = {
    "chat": (Chat(cap_field="max_completion_tokens"), {**_CHAT, "n": 2, "prompt_cache_options": {"mode": "implicit"}}),
    "chat with sound": (
        Chat(),
        {
            "messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}],
            "modalities": ["text", "audio"],
            "audio": {"voice": "alloy", "format": "wav"},
        },
    ),
    "completions": (Completions(), {"prompt": ["Once", [1, 2]], "n": 1, "best_of": 2, "max_tokens": 0, "stream": True}),
    "responses": (
        Responses(),
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE, "file_id": None}]},
                {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "done"}]},
            ],
            "tools": [{"type": "function", "name": "f"}],
            "previous_response_id": "mine",
            "max_output_tokens": 100,
            "background": False,
        },
    ),
    "messages": (Messages(), _MESSAGES),
    "messages of Anthropic's": (
        Messages(native=True),
        {
            **_MESSAGES,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                        {"type": "search_result", "content": [{"type": "text", "text": "x"}]},
                    ],
                }
            ],
            "tools": [{"type": "bash_20250124", "name": "bash"}],
            "output_config": {"format": {"type": "json_schema"}},
        },
    ),
    "embeddings": (Embeddings(), {"input": ["Hi", [1, 2, 3]], "stream": False}),
    "speech": (Speech(), {"input": "Hello", "voice": "alloy", "stream_format": "audio"}),
    "speech in events": (Speech(), {"input": "Hello", "voice": "alloy", "stream_format": "sse"}),
    "transcription": (Transcription(), {"response_format": "json", "file": "a.wav"}),
    "translation": (Translation(), {"response_format": "verbose_json", "file": "a.wav"}),
    "images": (Images(), {"prompt": "A cat", "n": 2, "quality": "low", "size": "1024x1024"}),
    "edited images": (Images(), {"prompt": "A dog", "n": "2", "image[]": ["a.png", "b.png"], "stream": "false"}),
    "generate": (
        Generate(),
        {
            "contents": [{"role": "user", **_CONTENT}],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "generationConfig": {"maxOutputTokens": 100, "candidateCount": 2, "thinkingConfig": {"thinkingBudget": 9}},
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        },
    ),
    "embed": (
        Embed(),
        {"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "Hi"}]}}]},
    ),
    "Gemini's chat": (GeminiChat(), _CHAT),
}

_USAGE: dict[str, Any] = {
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "service_tier": "default",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 20,
        "input_tokens_details": {"cached_tokens": 4, "text_tokens": 6, "image_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 5},
    },
}
ANSWERS: list[dict[str, Any]] = [
    {"id": "c", "choices": [{"index": 0, "message": {"content": "Hi"}}], "service_tier": "default", "usage": _USAGE},
    {"id": "c", "choices": [{"text": "Hi"}], "usage": {**_USAGE, "cost": 0.1, "cost_details": {}}},
    {
        "id": "c",
        "choices": [
            {
                "delta": {
                    "content": "Hi",
                    "reasoning": "Hm",
                    "audio": {"data": "AAAA", "transcript": "Hi"},
                    "tool_calls": [{"index": 0, "function": {"arguments": "{}"}}],
                }
            }
        ],
        "usage": None,
    },
    _RESPONSE,
    {"type": "response.output_text.delta", "delta": "Hi"},
    {"type": "response.completed", "response": _RESPONSE},
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "usage": {
                "input_tokens": 10,
                "output_tokens": 1,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 4,
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
            },
        },
    },
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
    {"text": "Hi", "usage": {"type": "duration", "seconds": 5}, "duration": 4.5},
    {"type": "transcript.text.done", "usage": {"input_tokens": 5, "input_token_details": {"audio_tokens": 5}}},
    {"type": "image_generation.completed", "usage": _RESPONSE["usage"], "data": [{"b64_json": "AAAA"}]},
    {
        "responseId": "g",
        "candidates": [{"content": _CONTENT}],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 5,
            "totalTokenCount": 35,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
        },
    },
    {"error": {"code": 500, "message": "Internal error"}},
]  # fmt: skip

_words = st.sampled_from(["", "text", "auto", "sse", "base64", IMAGE, "data:", "input_image", "9" * 5000, "٣", "²"])
_leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
_keys = st.sampled_from(["type", "content", "source", "url", "text", "usage", "choices", "delta", "parts", "ttl", "id"])
anything = st.recursive(
    _leaves | _words | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_keys | st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """`whole` with one or two of its pieces replaced by anything that JSON can say."""
    for _ in range(draw(st.integers(1, 2))):
        whole = _replaced(whole, draw(st.sampled_from(list(_places(whole)))), draw(anything))
    return whole


def _places(value: Any, here: tuple[Any, ...] = ()) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*here, key)
        yield from _places(each, (*here, key))


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _replaced(copy[place[0]], place[1:], new)
    return copy
