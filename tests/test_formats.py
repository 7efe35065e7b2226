"""The wire formats: what bounds a request, what caps it, what is refused, and what an answer tells."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from bodies import IMAGE, REQUESTS

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats import Chat, Completions, Context, Embeddings, Format, Generate, Messages, Reading, Responses
from aipipe.formats.base import TEMPLATE_BYTES
from aipipe.models import Limits
from aipipe.providers.base import read_body
from aipipe.sse import Event

CHAT = Chat(cap_field="max_completion_tokens")
EARLIER = {"mine": 5000}


def size(body: dict[str, Any]) -> int:
    return len(orjson.dumps(body))


def ask(format: Format, body: dict[str, Any], limits: Limits | None = None) -> Ask:
    return format.ask(copy.deepcopy(body), Context(limits or Limits(), size(body), EARLIER.get))


def chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], **fields}


def responses(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(parts)}], **fields}


def message(*blocks: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}], "max_tokens": 100, **fields}


@pytest.mark.parametrize(("format", "body"), REQUESTS.values(), ids=REQUESTS)
def test_requests_as_they_are_documented_pass(format: Format, body: dict[str, Any]) -> None:
    assert ask(format, body).choices >= 1


# What is refused

PICTURE = {"type": "image_url", "image_url": {"url": IMAGE}}
NOT_ALLOWED: dict[str, tuple[Format, dict[str, Any], str]] = {
    "search options": (CHAT, chat(web_search_options={}), "web_search_options"),
    "plugins": (CHAT, chat(plugins=[{"id": "web"}]), "plugins"),
    "a preset": (CHAT, chat(preset="p"), "preset"),
    "another cap": (CHAT, chat(n_predict=-1), "n_predict"),
    "another cap of completions": (Completions(), {"prompt": "Hi", "n_predict": 9999}, "n_predict"),
    "plugins of completions": (Completions(), {"prompt": "Hi", "plugins": [{"id": "web"}]}, "plugins"),
    "a hosted tool in a chat": (CHAT, chat(tools=[{"type": "web_search"}]), "web_search"),
    "a tool without a type": (CHAT, chat(tools=[{}]), "tools of type ''"),
    "a tool whose type is an object": (CHAT, chat(tools=[{"type": {"function": 1}}]), "tools of type"),
    "a part whose type is a list": (CHAT, chat({"type": ["text"]}), "content parts of type"),
    "a file": (CHAT, chat({"type": "file", "file": {"file_id": "f"}}), "'file'"),
    "a film": (CHAT, chat({"type": "video_url", "video_url": {"url": "https://example.com"}}), "'video_url'"),
    "an earlier answer's sound": (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "audio"),
    "a custom voice": (CHAT, chat(audio={"voice": {"id": "v"}}), "voices"),
    "xAI's search": (CHAT, chat(search_parameters={"mode": "auto"}), "search_parameters"),
    "xAI's search in a response": (Responses(), {"input": "Hi", "search_parameters": {}}, "search_parameters"),
    "an answer for later": (CHAT, chat(deferred=True), "deferred"),
    "Qwen's search": (CHAT, chat(enable_search=True), "enable_search"),
    "Qwen's code": (CHAT, chat(enable_code_interpreter=True), "enable_code_interpreter"),
    "Groq's tools": (CHAT, chat(compound_custom={"tools": {"enabled_tools": ["web_search"]}}), "compound_custom"),
    "Groq's search": (CHAT, chat(search_settings={"include_domains": ["example.com"]}), "search_settings"),
    "Baidu's search": (CHAT, chat(web_search={"enable": True}), "web_search"),
    "Venice's search": (CHAT, chat(venice_parameters={"enable_web_search": "on"}), "venice_parameters"),
    "Azure's data": (CHAT, chat(data_sources=[{"type": "azure_search"}]), "data_sources"),
    "background": (Responses(), {"input": "Hi", "background": True}, "background"),
    "an empty conversation": (Responses(), {"input": "Hi", "conversation": {}}, "conversation"),
    "a stored prompt": (Responses(), {"prompt": {"id": "p"}}, "prompt"),
    "a reference": (Responses(), {"input": [{"type": "item_reference", "id": "i"}]}, "item_reference"),
    "a reference without a type": (Responses(), {"input": [{"id": "msg_1"}]}, "item_reference"),
    "a reference with a role": (Responses(), {"input": [{"id": "msg_1", "role": "user"}]}, "item_reference"),
    "an image of the account's": (Responses(), responses({"type": "input_image", "file_id": "f"}), "file_id"),
    "a file in a tool's result": (
        Responses(),
        {"input": [{"type": "function_call_output", "output": [{"type": "input_file", "file_url": "x"}]}]},
        "input_file",
    ),
    "somebody else's answer": (Responses(), {"input": "Hi", "previous_response_id": "yours"}, "knows no answer"),
    "nobody's answer": (Responses(), {"input": "Hi", "previous_response_id": ""}, "knows no answer"),
    "code interpreter": (Responses(), {"input": "Hi", "tools": [{"type": "code_interpreter"}]}, "code_interpreter"),
    "servers of tools": (Messages(), message(mcp_servers=[{"url": "https://example.com"}]), "mcp_servers"),
    "a container": (Messages(), message(container="c"), "container"),
    "an edited context": (Messages(), message(context_management={"edits": []}), "context_management"),
    "Anthropic's search": (Messages(), message(tools=[{"type": "web_search_20250305"}]), "web_search_20250305"),
    "a document": (Messages(), message({"type": "document", "source": {"type": "url", "url": "x"}}), "'document'"),
    "a stored picture": (Messages(), message({"type": "image", "source": {"type": "file", "file_id": "f"}}), "image"),
    "a stored picture in a result": (
        Messages(),
        message({"type": "tool_result", "content": [{"type": "image", "source": {"type": "file"}}]}),
        "image",
    ),
}


@pytest.mark.parametrize(("format", "body", "says"), NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_what_has_no_price_or_belongs_to_the_operator_is_refused(
    format: Format, body: dict[str, Any], says: str
) -> None:
    with pytest.raises(NotAllowed) as caught:
        ask(format, body)
    assert says in caught.value.message


INVALID: dict[str, tuple[Format, dict[str, Any], str]] = {
    "no whole number": (CHAT, chat(max_tokens=1.5), "max_tokens=1.5"),
    "a number in quotes": (
        CHAT,
        chat(max_completion_tokens="100"),
        "max_completion_tokens=100: send a whole number from 1 to 10000000",
    ),
    "a flag": (CHAT, chat(max_tokens=True), "max_tokens=True"),
    "nothing": (CHAT, chat(max_tokens=0), "max_tokens=0"),
    "less than nothing": (Responses(), {"input": "Hi", "max_output_tokens": -1}, "max_output_tokens=-1"),
    "more than anybody has": (CHAT, chat(max_tokens=10**8), "max_tokens=100000000"),
    "no choices": (CHAT, chat(n=0), "n=0"),
    "too many choices": (CHAT, chat(n=129), "n=129"),
    "bad best": (Completions(), {"prompt": "Hi", "best_of": "all"}, "best_of=all"),
    "a budget in quotes": (Messages(), message(thinking={"type": "enabled", "budget_tokens": "9"}), "budget_tokens"),
    "a sound in a list": (
        CHAT,
        chat({"type": "input_audio", "input_audio": {"data": [1] * 500, "format": "wav"}}),
        "data of input_audio",
    ),
    "messages that are none": (CHAT, {"messages": ["Hi"]}, "objects in messages"),
    "messages in an object": (CHAT, {"messages": {"0": {}}}, "a list in messages"),
    "content in an object": (CHAT, {"messages": [{"content": {}}]}, "a list in content"),
    "an earlier answer in a list": (Responses(), {"previous_response_id": ["mine"]}, "must be a string"),
    "embeddings in a stream": (Embeddings(), {"input": "Hi", "stream": True}, "can't be streamed"),
    "a number of many digits": (REQUESTS["images"][0], {"prompt": "A cat", "n": "9" * 5000}, "n=999"),
    "too many images": (REQUESTS["images"][0], {"prompt": "A cat", "n": "101"}, "n=101"),
}


@pytest.mark.parametrize(("format", "body", "says"), INVALID.values(), ids=INVALID)
def test_a_field_that_decides_about_money_must_be_readable(format: Format, body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(format, body)
    assert says in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b'{"a":1}{', b"\xff", b'{"a":' * 255 + b"1" + b"}" * 255])
def test_a_body_must_be_a_json_object_that_can_be_written_again(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_body(raw)


def test_a_body_may_be_deep_and_hold_any_number_of_brackets() -> None:
    deep = b'{"a":' * 254 + b"1" + b"}" * 254
    assert orjson.dumps(read_body(deep)) == deep
    assert read_body(orjson.dumps({"text": "[{" * 1000})) == {"text": "[{" * 1000}


# What bounds a request


def test_text_is_bounded_by_the_bytes_of_the_whole_body() -> None:
    body = chat({"type": "text", "text": "Grüße, 世界"}, tools=[{"type": "function", "function": {"name": "f"}}])
    assert ask(CHAT, body) == Ask(input_bytes=size(body) + TEMPLATE_BYTES)


IMAGES: dict[str, tuple[Format, dict[str, Any], int]] = {
    "in a chat": (CHAT, chat(PICTURE, PICTURE), 2 * len(IMAGE)),
    "as text alone": (CHAT, chat({"type": "image_url", "image_url": IMAGE}), len(IMAGE)),
    "elsewhere": (CHAT, chat({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}), 0),
    "missing": (CHAT, chat({"type": "image_url"}), 0),
    "that is a document": (CHAT, chat({"type": "image_url", "image_url": {"url": "data:application/pdf,x"}}), 0),
    "in an input": (Responses(), responses({"type": "input_image", "image_url": IMAGE}), len(IMAGE)),
    "in a message": (
        Messages(), message({"type": "image", "source": {"type": "base64", "data": "iVBOR"}}), len("iVBOR"),
    ),
    "in a result": (
        Messages(),
        message({"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}]}),
        2,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("format", "body", "inline"), IMAGES.values(), ids=IMAGES)
def test_images_count_at_their_documented_most_and_not_by_their_bytes(
    format: Format, body: dict[str, Any], inline: int
) -> None:
    found = ask(format, body, Limits(image=700))
    assert found.input_bytes == size(body) - inline + TEMPLATE_BYTES
    assert found.input_tokens == (1400 if inline == 2 * len(IMAGE) else 700)


def test_an_earlier_answer_counts_with_all_its_tokens() -> None:
    assert ask(Responses(), {"input": "Hi", "previous_response_id": "mine"}).input_tokens == 5000


THINKS = Limits(most=9000, thinks=True)
BOUNDS: dict[str, tuple[Format, dict[str, Any], Limits, tuple[int | None, int, int]]] = {
    "no cap": (CHAT, chat(), Limits(), (None, 1, 16)),
    "null is no cap": (CHAT, chat(max_tokens=None, n=None), Limits(), (None, 1, 16)),
    "a cap": (CHAT, chat(max_tokens=50), Limits(), (50, 1, 16)),
    "a cap by its newer name": (CHAT, chat(max_completion_tokens=50), Limits(), (50, 1, 16)),
    "the larger of two caps": (CHAT, chat(max_completion_tokens=50, max_tokens=90), Limits(), (90, 1, 16)),
    "choices": (CHAT, chat(n=3), Limits(), (None, 3, 16)),
    "a model that thinks": (CHAT, chat(), THINKS, (None, 1, 1024)),
    "a response": (Responses(), {"input": "Hi", "max_output_tokens": 70}, THINKS, (70, 1, 1024)),
    "Claude": (Messages(), message(), Limits(), (100, 1, 16)),
    "Claude, thinking": (
        Messages(), message(thinking={"type": "enabled", "budget_tokens": 2000}), Limits(), (100, 1, 3024),
    ),
    "Claude, thinking as it likes": (Messages(), message(thinking={"type": "adaptive"}), Limits(), (100, 1, 1024)),
    "Claude, not thinking": (Messages(), message(thinking={"type": "disabled"}), Limits(), (100, 1, 16)),
    "completions": (Completions(), {"prompt": "Hi"}, Limits(), (16, 1, 16)),
    "completions with a cap": (Completions(), {"prompt": "Hi", "max_tokens": 0}, Limits(), (0, 1, 16)),
    "the best of several": (Completions(), {"prompt": "Hi", "n": 2, "best_of": 5}, Limits(), (16, 5, 16)),
    "several prompts": (Completions(), {"prompt": ["a", "b"], "n": 2}, Limits(), (16, 4, 16)),
    "a prompt in tokens": (Completions(), {"prompt": [1, 2, 3]}, Limits(), (16, 1, 16)),
    "prompts in tokens": (Completions(), {"prompt": [[1, 2], [3]]}, Limits(), (16, 2, 16)),
}  # fmt: skip


@pytest.mark.parametrize(("format", "body", "limits", "bounds"), BOUNDS.values(), ids=BOUNDS)
def test_caps_choices_and_the_shortest_answer_of_use_are_read(
    format: Format, body: dict[str, Any], limits: Limits, bounds: tuple[int | None, int, int]
) -> None:
    found = ask(format, body, limits)
    assert (found.cap, found.choices, found.least) == bounds
    assert found.output


# What goes upstream

CAPPED: dict[str, tuple[Format, dict[str, Any], int | None, dict[str, Any]]] = {
    "OpenAI's chat": (CHAT, {}, 9, {"max_completion_tokens": 9}),
    "any other chat": (Chat(), {}, 9, {"max_tokens": 9}),
    "the caller's older name stays": (CHAT, {"max_tokens": 50}, 9, {"max_tokens": 9}),
    "the caller's newer name stays at OpenAI": (CHAT, {"max_completion_tokens": 50}, 9, {"max_completion_tokens": 9}),
    "elsewhere the older one takes its place": (Chat(), {"max_completion_tokens": 50}, 9, {"max_tokens": 9}),
    "elsewhere a caller's cap goes by the older one": (
        Chat(), {"max_completion_tokens": 50}, None, {"max_tokens": 50},
    ),
    "elsewhere of two the larger goes": (
        Chat(), {"max_completion_tokens": 50, "max_tokens": 90}, None, {"max_tokens": 90},
    ),
    "both are lowered": (
        CHAT, {"max_completion_tokens": 50, "max_tokens": 60}, 9, {"max_completion_tokens": 9, "max_tokens": 9},
    ),
    "null is no cap": (CHAT, {"max_tokens": None}, 9, {"max_tokens": None, "max_completion_tokens": 9}),
    "nothing to change": (CHAT, {"max_tokens": 50}, None, {"max_tokens": 50}),
    "responses": (Responses(), {}, 9, {"max_output_tokens": 9}),
    "messages": (Messages(), {"max_tokens": 50}, 9, {"max_tokens": 9}),
    "completions": (Completions(), {}, 9, {"max_tokens": 9}),
    "completions without a cap": (Completions(), {}, None, {"max_tokens": 16}),
    "completions with none": (Completions(), {"max_tokens": 0}, None, {"max_tokens": 0}),
    "embeddings": (Embeddings(), {"input": "Hi"}, None, {"input": "Hi"}),
    "a stream tells its usage": (
        CHAT, {"stream": True}, None, {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "whatever was asked": (
        CHAT,
        {"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}},
        None,
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    ),
    "in whatever form": (
        Completions(),
        {"stream": True, "stream_options": [1], "max_tokens": 5},
        None,
        {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5},
    ),
    "a stream of responses does anyway": (Responses(), {"stream": True}, None, {"stream": True}),
    "no stream": (CHAT, {"stream": False}, None, {"stream": False}),
}  # fmt: skip


@pytest.mark.parametrize(("format", "body", "tokens", "sent"), CAPPED.values(), ids=CAPPED)
def test_the_cap_goes_where_the_endpoint_knows_it_and_nothing_else_is_changed(
    format: Format, body: dict[str, Any], tokens: int | None, sent: dict[str, Any]
) -> None:
    format.cap(body, tokens)
    assert body == sent


# What an answer tells


def events(*found: Any) -> list[Event]:
    return [Event("message", one if isinstance(one, bytes) else orjson.dumps(one), 0, 1) for one in found]


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


COUNTED: dict[str, tuple[Format, list[Any], int, int]] = {
    "text": (CHAT, [delta(content="Hello"), delta(content=" 世界"), delta(content="")], 12, 2),
    "thoughts": (CHAT, [delta(reasoning="Hm"), delta(reasoning_content="Hm")], 4, 2),
    "a refusal": (CHAT, [delta(refusal="No")], 2, 1),
    "arguments": (CHAT, [delta(tool_calls=[{"function": {"arguments": '{"a":'}}, {}])], 5, 1),
    "input of a custom tool": (
        CHAT,
        [delta(tool_calls=[{"id": "c1", "type": "custom", "custom": {"name": "f", "input": "Hello"}}])],
        5,
        1,
    ),
    "arguments of a function, as they once were": (CHAT, [delta(function_call={"arguments": '{"a":'})], 5, 1),
    "a thought under two names": (
        CHAT,
        [delta(reasoning="Hm", reasoning_details=[{"type": "reasoning.text", "text": "Hm"}])],
        2,
        1,
    ),
    "parts": (CHAT, [delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}])], 2, 1),
    "what was said, and not its sound": (CHAT, [delta(audio={"id": "a", "transcript": "Hi", "data": "AAAA"})], 2, 1),
    "no picture": (CHAT, [delta(role="assistant", images=[{"image_url": {"url": IMAGE}}])], 0, 0),
    "choices": (CHAT, [{"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}], 2, 2),
    "completions": (Completions(), [{"choices": [{"text": "Hello"}]}], 5, 1),
    "responses": (Responses(), [{"type": "response.output_text.delta", "delta": "Hi"}, {"delta": {}}], 2, 1),
    "messages": (
        Messages(),
        [{"delta": {"text": "Hi"}}, {"delta": {"thinking": "Hm"}}, {"delta": {"partial_json": "{"}}],
        5,
        3,
    ),
    "input of a response's tool": (
        Responses(),
        [{"type": "response.custom_tool_call_input.delta", "delta": "Hello"}],
        5,
        1,
    ),
    "thoughts that are shown, without their signature": (
        Messages(),
        [
            {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
            {"delta": {"thinking": "Hm"}},
            {"delta": {"signature": "EqoB"}},
        ],
        2,
        1,
    ),
    "thoughts that aren't": (
        Messages(),
        [
            {"delta": {"thinking": "Hm"}},
            {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
            {"delta": {"signature": "EqoB"}},
            {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "EmwK"}},
        ],
        10,
        3,
    ),
    "a call of Gemini's": (
        Generate(),
        [{"candidates": [{"content": {"parts": [{"functionCall": {"args": {"a": 1}}}]}}]}],
        16,
        1,
    ),
    "no JSON": (CHAT, [b"Hello", b"", b"[1]", b"{", b"null"], 0, 0),
}


@pytest.mark.parametrize(("format", "found", "text", "pieces"), COUNTED.values(), ids=COUNTED)
def test_what_is_written_is_counted_for_want_of_a_usage(
    format: Format, found: list[Any], text: int, pieces: int
) -> None:
    watch = format.watch()
    assert not any(watch.see(event) for event in events(*found))
    reading = watch.reading
    assert (reading.text_bytes, reading.pieces, reading.usage) == (text, pieces, None)


TELLS_NOTHING: list[Any] = [
    None,
    {},
    [],
    "much",
    5,
    {"prompt_tokens": 5},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": -5, "completion_tokens": 5},
    {"prompt_tokens": "5", "completion_tokens": 5},
]


@pytest.mark.parametrize("usage", TELLS_NOTHING)
def test_a_usage_that_tells_nothing_is_none(usage: Any) -> None:
    assert CHAT.read({"id": "c", "usage": usage}) == Reading(answer_id="c")


def test_the_last_usage_counts_and_an_empty_one_does_not_undo_it() -> None:
    watch = CHAT.watch()
    told = [{"usage": {"prompt_tokens": 5, "completion_tokens": tokens}} for tokens in (1, 9)]
    for event in events(*told, {"usage": None}, {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}):
        watch.see(event)
    assert watch.reading.usage
    assert watch.reading.usage.counts == {"input_tokens": 5, "output_tokens": 9}
