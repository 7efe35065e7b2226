"""The `openai` package against answers shaped by OpenAI's documentation; e2e/ has it against a real model."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.calls import sdk
from e2e.conftest import Script
from e2e.server import PATIENCE, Caller, Server
from fake_provider import Gate
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from test_scenarios import FILES
from wire import head

from clients.conftest import play

pytestmark = pytest.mark.e2e

HELLO: Any = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def client(server: Server, alice: Caller) -> Iterator[OpenAI]:
    with sdk(server, alice, "openai", max_retries=0) as client:
        yield client


def booked(server: Server, caller: Caller, scenario: dict[str, Any]) -> None:
    """The caller's only entry costs what the scenario says."""
    entry = server.entry(caller)
    assert (entry.cost, entry.ended) == (scenario["ledger"]["cost"], scenario["ledger"]["ended"])


def test_many_at_once_without_waiting(server: Server, provider: Script, alice: Caller) -> None:
    async def ask() -> list[Any]:
        async with AsyncOpenAI(
            base_url=f"{server.url}/openai/v1", api_key=alice.token, timeout=PATIENCE, max_retries=0
        ) as client:
            asked = (client.chat.completions.create(model="gpt-4.1-nano", messages=HELLO) for _ in range(8))
            return await asyncio.gather(*asked)

    for _ in range(8):
        scenario = play(provider, "openai-chat", "chat")
    answers = asyncio.run(ask())
    assert {answer.usage.total_tokens for answer in answers} == {29}
    assert [entry.cost for entry in server.ledger.entries(alice.email)] == [scenario["ledger"]["cost"]] * 8


def test_a_stream_without_waiting(server: Server, provider: Script, alice: Caller) -> None:
    async def ask() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{server.url}/openai/v1", api_key=alice.token, max_retries=0) as client:
            stream = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
            return [chunk async for chunk in stream]

    scenario = play(provider, "openai-chat-stream", "cached input, usage in the last chunk, beyond ASCII")
    chunks = asyncio.run(ask())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "こんにちは 👋🏽"
    booked(server, alice, scenario)


def test_a_streamed_response_is_put_together(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-responses", "a stream")
    with client.responses.stream(model="gpt-4.1-nano", input="Hello!") as stream:
        final = stream.get_final_response()
    assert final.output_text
    assert final.usage is not None and final.usage.total_tokens == 48
    booked(server, alice, scenario)


def test_a_response_goes_on_from_an_earlier_one_of_the_same_person(
    client: OpenAI, server: Server, provider: Script, alice: Caller
) -> None:
    play(provider, "openai-responses", "a response")
    play(provider, "openai-responses", "a response")
    first = client.responses.create(model="gpt-4.1-nano", input="Hello!")
    second = client.responses.create(model="gpt-4.1-nano", input="And then?", previous_response_id=first.id)
    assert second.output_text
    assert provider.requests[1].json()["previous_response_id"] == first.id


def test_an_answer_is_parsed_into_a_model(client: OpenAI, provider: Script) -> None:
    class Town(BaseModel):
        name: str

    message = {"role": "assistant", "content": '{"name":"Köln"}'}
    answer = {
        "id": "chatcmpl-parsed",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1-nano",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35},
    }
    provider.answers("POST", "/v1/chat/completions", json=answer)
    parsed = client.chat.completions.parse(model="gpt-4.1-nano", messages=HELLO, response_format=Town)
    assert parsed.choices[0].message.parsed == Town(name="Köln")
    assert provider.requests[0].json()["response_format"]["json_schema"]["name"] == "Town"


def test_embeddings_come_as_numbers(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-embeddings", "several texts as base64")
    answer = client.embeddings.create(model="text-embedding-3-small", input=["red", "green"], dimensions=2)
    assert [round(number, 1) for each in answer.data for number in each.embedding] == [0.1, 0.2, 0.3, 0.4]
    assert provider.requests[0].json()["encoding_format"] == "base64"
    booked(server, alice, scenario)


def test_a_raw_answer_tells_its_cost(client: OpenAI, provider: Script) -> None:
    play(provider, "openai-chat", "chat")
    raw = client.chat.completions.with_raw_response.create(model="gpt-4.1-nano", messages=HELLO)
    assert raw.headers["x-aipipe-cost"] == "0.0000059"
    assert raw.headers["x-aipipe-remaining"] == "0.9999941"
    assert raw.parse().usage.total_tokens == 29


def test_speech_is_heard_while_it_is_spoken(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    began = head(200, {"Content-Type": "audio/mpeg", "Transfer-Encoding": "chunked"}) + b"4\r\nID3 \r\n"
    provider.answers("POST", "/v1/audio/speech", steps=[began, Gate("speaking"), b"3\r\nend\r\n0\r\n\r\n"])
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="tts-1", voice="alloy", input="Hello!") as answer:
        assert answer.headers["x-aipipe-cost"] == "0.00009"
        heard = answer.iter_bytes(4)
        assert next(heard) == b"ID3 "
        assert server.entry(alice).cost == 6 * 15_000
        provider.reached("speaking")
        provider.release("speaking")
        assert b"".join(heard) == b"end"


def test_speech_told_by_events(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-speech", "by tokens, as a stream")
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="gpt-4o-mini-tts", voice="coral", input="Today!", stream_format="sse") as answer:
        lines = list(answer.iter_lines())
    assert [line for line in lines if line.startswith(": aipipe cost=")]
    booked(server, alice, scenario)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("by tokens", {"model": "gpt-4o-transcribe"}),
        ("by the minute, the length told twice", {"model": "whisper-1", "response_format": "verbose_json"}),
    ],
)
def test_a_large_recording_becomes_text(
    client: OpenAI, server: Server, provider: Script, alice: Caller, name: str, options: Any
) -> None:
    scenario = play(provider, "openai-transcriptions", name)
    recording = bytes(range(256)) * 8_000  # two megabytes: many pieces on their way, and through a file
    answer = client.audio.transcriptions.create(
        file=("speech.wav", recording), timestamp_granularities=["word"], **options
    )
    assert answer.text == scenario["upstream"]["json"]["text"]
    assert recording in provider.requests[0].body
    booked(server, alice, scenario)


def test_a_recording_becomes_text_as_a_stream(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-transcriptions", "a stream")
    file = ("speech.mp3", b"ID3")
    stream = client.audio.transcriptions.create(file=file, model="gpt-4o-mini-transcribe", stream=True)
    assert [event.type for event in stream] == [
        "transcript.text.delta",
        "transcript.text.delta",
        "transcript.text.done",
    ]
    booked(server, alice, scenario)


@pytest.mark.filterwarnings("ignore:deprecated")  # so it is, until 2027
def test_a_recording_is_translated(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-translations", "by the minute")
    file = ("speech.mp3", b"ID3")
    answer = client.audio.translations.create(file=file, model="whisper-1", response_format="verbose_json")
    assert answer.duration == 61.2
    booked(server, alice, scenario)


def test_an_image_is_made(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-images", "text and image in the output")
    answer = client.images.generate(model="gpt-image-1.5", prompt="A cute baby sea otter", quality="medium")
    assert answer.data is not None and answer.data[0].b64_json is not None
    assert base64.b64decode(answer.data[0].b64_json).startswith(b"\x89PNG")
    booked(server, alice, scenario)


def test_an_image_is_made_as_a_stream(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-images", "a stream")
    prompt = "A cute baby sea otter"
    stream = client.images.generate(model="gpt-image-1.5", prompt=prompt, quality="low", stream=True, partial_images=1)
    assert [event.type for event in stream] == ["image_generation.partial_image", "image_generation.completed"]
    booked(server, alice, scenario)


def test_images_are_edited(client: OpenAI, server: Server, provider: Script, alice: Caller) -> None:
    scenario = play(provider, "openai-images", "an edit")
    images = [io.BytesIO(b"\x89PNG one"), io.BytesIO(b"\x89PNG two")]
    for number, image in enumerate(images):
        image.name = f"{number}.png"
    answer = client.images.edit(model="gpt-image-1.5", image=images, prompt="Join them.", quality="low")
    assert answer.usage is not None and answer.usage.input_tokens == 343
    booked(server, alice, scenario)


def test_an_answer_too_large_for_memory_is_charged_all_the_same(
    client: OpenAI, server: Server, provider: Script, alice: Caller
) -> None:
    name = "an output that isn't divided is all image"
    scenario = next(each for each in FILES["openai-images"]["scenarios"] if each["name"] == name)
    told = scenario["upstream"]["json"]
    large = {"data": [{"b64_json": "A" * 9 * 2**20}], "usage": told["usage"]}
    provider.answers("POST", "/v1/images/generations", json=large)
    raw = client.images.with_raw_response.generate(model="gpt-image-1.5", prompt="An otter", quality="low")
    assert raw.headers["x-aipipe-cost"]
    assert raw.parse().data[0].b64_json == large["data"][0]["b64_json"]
    booked(server, alice, scenario)
