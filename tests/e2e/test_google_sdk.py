"""Google's own SDK through AI Pipe: https://googleapis.github.io/python-genai/

Its `base_url` is this AI Pipe's origin, and `geminiv1beta` the version of its API: the SDK puts one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fake_provider import DROP, Gate
from google import genai
from google.genai import errors, types

from e2e.calls import calling
from e2e.conftest import Script, Site, running
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e

KEY = "AIza-operators-own"
FLASH = "/v1beta/models/gemini-2.5-flash"
CONFIG = types.GenerateContentConfig(max_output_tokens=300, system_instruction="Be brief")


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    script = Script()
    providers = {"geminiv1beta": {"base": f"{script.url}/v1beta"}}
    folder = tmp_path_factory.mktemp("gemini")
    with running(folder, script, AIPIPE_PROVIDERS=providers, GEMINI_API_KEY=KEY) as site:
        yield site


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    yield module_site
    module_site.check()


@pytest.fixture
def gemini(server: Server, alice: Caller) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=server.url, api_version="geminiv1beta")
    with closing(genai.Client(api_key=alice.token, http_options=options)) as client:
        yield client


def piece(text: str, written: int, **more: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}],
        "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": written, "totalTokenCount": 8 + written},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r-1",
    }


def test_an_answer_in_one_piece(gemini: genai.Client, provider: Script, server: Server, alice: Caller) -> None:
    provider.answers("POST", f"{FLASH}:generateContent", json=piece("Hello!", 3, finishReason="STOP"))
    answer = gemini.models.generate_content(model="gemini-2.5-flash", contents="Hi", config=CONFIG)
    assert answer.text == "Hello!"
    [request] = provider.requests
    assert request.header("x-goog-api-key") == KEY
    assert request.all("Authorization") == []
    entry = server.entry(alice)
    assert (entry.cost, entry.ended, entry.answer_id) == (8 * 300 + 3 * 2_500, "complete", "r-1")


def test_a_stream_as_it_arrives(gemini: genai.Client, provider: Script, server: Server, alice: Caller) -> None:
    provider.answers(
        "POST",
        f"{FLASH}:streamGenerateContent",
        sse=[piece("Hel", 1), Gate("half"), piece("lo", 2), piece("!", 3, finishReason="STOP")],
    )
    stream = gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi", config=CONFIG)
    assert next(stream).text == "Hel"
    provider.release("half")
    rest = [*stream]
    assert "".join(str(each.text) for each in rest) == "lo!"
    assert rest[-1].usage_metadata and rest[-1].usage_metadata.candidates_token_count == 3
    assert provider.requests[0].target == f"{FLASH}:streamGenerateContent?alt=sse"
    assert server.entry(alice).cost == 8 * 300 + 3 * 2_500


def test_what_may_be_the_end_waits_until_it_is_paid(
    gemini: genai.Client, provider: Script, server: Server, alice: Caller
) -> None:
    """Nothing in Gemini's streams marks the last event: it leaves when the stream has ended, and is charged."""
    provider.answers(
        "POST",
        f"{FLASH}:streamGenerateContent",
        sse=[piece("Hel", 1), piece("lo", 2, finishReason="STOP"), Gate("end")],
    )
    stream = gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi", config=CONFIG)
    assert next(stream).text == "Hel"
    provider.reached("end")
    assert server.ledger.entries(alice.email) == []
    provider.release("end")
    assert next(stream).text == "lo"
    assert server.entry(alice).cost == 8 * 300 + 2 * 2_500
    assert [*stream] == []


def test_an_array_comes_piece_by_piece(provider: Script, server: Server, alice: Caller) -> None:
    """What older SDKs and curl get, which don't ask for events."""
    pieces = [b"[" + json.dumps(piece("Hel", 1)).encode(), b",\r\n" + json.dumps(piece("lo", 2)).encode(), b"\n]\n"]
    kind = {"Content-Type": "application/json; charset=UTF-8"}
    steps = [pieces[0], Gate("half"), pieces[1], pieces[2]]
    provider.answers("POST", f"{FLASH}:streamGenerateContent", headers=kind, sse=steps)
    path = "/geminiv1beta/models/gemini-2.5-flash:streamGenerateContent"
    with calling(server, path, alice, {"contents": [{"parts": [{"text": "Hi"}]}]}) as call:
        assert call.response.read(len(pieces[0])) == pieces[0]
        provider.release("half")
        assert call.response.read() == pieces[1] + pieces[2]
    assert server.entry(alice).cost == 8 * 300 + 2 * 2_500


@pytest.mark.parametrize(("base", "version"), [("", "geminiv1beta"), ("/geminiv1beta", "")])
def test_where_the_version_may_stand(base: str, version: str, provider: Script, server: Server, alice: Caller) -> None:
    provider.answers("POST", f"{FLASH}:generateContent", json=piece("Hello!", 3, finishReason="STOP"))
    options = types.HttpOptions(base_url=server.url + base, api_version=version)
    with closing(genai.Client(api_key=alice.token, http_options=options)) as client:
        assert client.models.generate_content(model="gemini-2.5-flash", contents="Hi").text == "Hello!"


def test_a_stream_that_breaks_off_is_an_error_to_the_sdk(gemini: genai.Client, provider: Script, alice: Caller) -> None:
    provider.answers("POST", f"{FLASH}:streamGenerateContent", sse=[piece("Hel", 1), DROP])
    stream = gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi", config=CONFIG)
    assert next(stream).text == "Hel"
    with pytest.raises(errors.APIError, match="broke off"):
        next(stream)


def test_what_nobody_waits_for_any_more_is_read_on_and_paid(provider: Script, server: Server, alice: Caller) -> None:
    """Google makes the rest of an answer, and bills it, whoever has left."""
    steps = [piece("Hel", 1), Gate("half"), piece("lo", 900, finishReason="STOP")]
    provider.answers("POST", f"{FLASH}:streamGenerateContent", sse=steps)
    path = "/geminiv1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    with calling(server, path, alice, {"contents": [{"parts": [{"text": "Hi"}]}]}) as call:
        assert call.line().startswith(b"data: ")
        call.leave()
    provider.release("half")
    entry = server.entry(alice)
    assert (entry.cost, entry.ended) == (8 * 300 + 900 * 2_500, "complete")


def test_embeddings(gemini: genai.Client, provider: Script, server: Server, alice: Caller) -> None:
    usage = {"promptTokenCount": 5, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 5}]}
    answer = {"embeddings": [{"values": [0.1, 0.2]}], "usageMetadata": usage}
    provider.answers("POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents", json=answer)
    found = gemini.models.embed_content(model="gemini-embedding-001", contents="Life?")
    assert found.embeddings and found.embeddings[0].values == [0.1, 0.2]
    assert server.entry(alice).cost == 5 * 150


def test_models_and_tokens_are_free(gemini: genai.Client, provider: Script, server: Server, alice: Caller) -> None:
    provider.answers("GET", "/v1beta/models", json={"models": [{"name": "models/gemini-2.5-flash"}]})
    provider.answers("GET", FLASH, json={"name": "models/gemini-2.5-flash"})
    provider.answers("POST", f"{FLASH}:countTokens", json={"totalTokens": 2})
    assert [model.name for model in gemini.models.list()] == ["models/gemini-2.5-flash"]
    assert gemini.models.get(model="gemini-2.5-flash").name == "models/gemini-2.5-flash"
    assert gemini.models.count_tokens(model="gemini-2.5-flash", contents="Hi").total_tokens == 2
    assert server.ledger.entries(alice.email) == []


def test_a_refusal_is_read_by_the_sdk(gemini: genai.Client, alice: Caller) -> None:
    searching = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    with pytest.raises(errors.ClientError, match="googleSearch") as refused:
        gemini.models.generate_content(model="gemini-2.5-flash", contents="Hi", config=searching)
    assert refused.value.code == 403
