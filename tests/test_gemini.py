"""Gemini's bounds: what a request may cost at most, read from what it holds. Costs are in scenarios/gemini-*.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeApp
from fake_provider import FakeProvider

from aipipe.admission import Ask, Share, share
from aipipe.errors import AppError, InvalidRequest, NotAllowed
from aipipe.formats import Context, Embed, GeminiChat, Generate
from aipipe.formats.gemini import RECORDED_BYTES, consistent
from aipipe.models import TILES, limits
from aipipe.pricing import Prices

FLASH, NANO = "gemini-2.5-flash", "gemini-2.5-flash-image"
MEBIBYTE = "A" * 2**20


def ask(body: dict[str, Any], model: str = FLASH) -> Ask:
    return Generate().ask(body, Context(limits(model), len(json.dumps(body)), lambda _: None))


def said(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [*parts]}], **more}


def inline(kind: str, data: str = MEBIBYTE) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": data}}


def test_a_picture_counts_at_its_maximum_and_not_its_bytes() -> None:
    found = ask(said({"text": "What is it?"}, inline("image/png"), inline("IMAGE/JPEG")))
    assert found.input_bytes < 1_000
    assert (found.input_tokens, found.modalities >= {"image"}, found.guessed) == (2 * TILES, True, False)


@pytest.mark.parametrize(
    ("kind", "modalities"),
    [("audio/mp3", {"audio"}), ("video/mp4", {"video", "audio"}), ("application/pdf", {"image"})],
)
def test_a_recording_or_document_is_a_guess_that_runs_alone(kind: str, modalities: set[str]) -> None:
    found = ask(said(inline(kind)))
    assert found.input_tokens == 2**20 // RECORDED_BYTES
    assert found.guessed
    assert modalities <= found.modalities


def test_a_guess_gets_all_the_money_and_waits_until_it_has_it() -> None:
    rate = Prices({}).find("geminiv1beta", "google", FLASH)
    assert rate
    found = ask(said(inline("audio/mp3"), generationConfig={"maxOutputTokens": 500}))
    card = rate.card(found.bound, modalities=found.modalities)
    assert share(found, card, 10**8, alone=False) is None
    assert share(found, card, 10**8, alone=True) == Share(10**8, 500)
    assert share(found, card, 10**6, alone=True) is None


def test_a_text_file_counts_as_its_bytes() -> None:
    found = ask(said(inline("text/csv")))
    assert found.input_bytes > 2**20
    assert (found.input_tokens, found.guessed) == (0, False)


@pytest.mark.parametrize(
    ("config", "model", "bounds"),
    [
        ({}, FLASH, (None, 65_536, 1, 1_024)),
        ({"maxOutputTokens": 100, "candidateCount": 3}, FLASH, (100, 65_536, 3, 1_024)),
        ({"max_output_tokens": 100, "candidate_count": 3}, FLASH, (100, 65_536, 3, 1_024)),
        ({}, "gemini-2.0-flash", (None, 8_192, 1, 16)),
        ({}, NANO, (None, 32_768, 1, 2_048)),
        ({}, "gemini-2.5-flash-preview-tts", (None, 16_384, 1, 16)),
        ({}, "gemini-4-argon", (None, 65_536, 1, 1_024)),
    ],
)
def test_the_answer_is_bounded_by_the_caller_or_the_model(
    config: dict[str, Any], model: str, bounds: tuple[int | None, int, int, int]
) -> None:
    found = ask(said({"text": "Hi"}, generationConfig=config), model)
    assert (found.cap, found.most, found.choices, found.least) == bounds


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, {"image", "video"}),
        ([], {"image", "video"}),
        (["TEXT"], {"text"}),
        (["text", "Audio"], {"text", "audio"}),
    ],
)
def test_the_answer_is_made_of_what_was_asked_for_or_of_what_the_model_likes(asked: Any, found: set[str]) -> None:
    assert ask(said({"text": "Hi"}, generationConfig={"responseModalities": asked})).modalities == found


@pytest.mark.parametrize(
    ("body", "capped"),
    [
        ({}, {"generationConfig": {"maxOutputTokens": 5}}),
        ({"generationConfig": None}, {"generationConfig": {"maxOutputTokens": 5}}),
        ({"generationConfig": {"topK": 1}}, {"generationConfig": {"topK": 1, "maxOutputTokens": 5}}),
        ({"generationConfig": {"max_output_tokens": 9}}, {"generationConfig": {"max_output_tokens": 5}}),
        ({"generation_config": {"maxOutputTokens": 9}}, {"generation_config": {"maxOutputTokens": 5}}),
    ],
)
def test_the_cap_goes_where_the_caller_put_it(body: dict[str, Any], capped: dict[str, Any]) -> None:
    Generate().cap(body, 5)
    assert body == capped


REFUSED: list[tuple[dict[str, Any], type[AppError]]] = [
    (said({"toolCall": {"id": "x"}}), NotAllowed),
    (said({"executableCode": {"code": "1"}}), NotAllowed),
    (said({"inlineData": {"mimeType": "image/png", "data": ""}, "mediaResolution": {"numTokens": 10**6}}), NotAllowed),
    (said({"inlineData": {"mimeType": "image/png"}}), InvalidRequest),
    (said({"inlineData": [{"mimeType": "image/png", "data": ""}]}), InvalidRequest),
    (said({"inlineData": {}, "inline_data": {}}), InvalidRequest),
    (said({"text": "Hi"}, tools=[{"mcpServers": [{"name": "x"}]}]), NotAllowed),
    (said({"text": "Hi"}, store=True), NotAllowed),
    (said({"text": "Hi"}, systemInstruction="Be brief"), InvalidRequest),
]


@pytest.mark.parametrize(("body", "error"), REFUSED)
def test_what_has_no_price_or_makes_no_sense_is_refused(body: dict[str, Any], error: type[AppError]) -> None:
    with pytest.raises(error):
        ask(body)


@pytest.mark.parametrize("field", ["store", "cachedContent", "serviceTier", "service_tier"])
def test_what_is_off_is_as_good_as_missing(field: str) -> None:
    off = {"store": False, "cachedContent": ""}.get(field, "standard")
    assert ask(said({"text": "Hi"}, **{field: off}))


def test_embeddings_of_recordings_are_guesses_too_and_nothing_is_written() -> None:
    body = {"requests": [{"content": {"parts": [inline("audio/mp3")]}}, {"content": {"parts": {"text": "Hi"}}}]}
    found = Embed().ask(body, Context(limits("gemini-embedding-2"), 2**20 + 200, lambda _: None))
    assert (found.guessed, found.want) == (True, 0)


def test_sound_in_openais_form_is_a_guess_too() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": MEBIBYTE, "format": "mp3"}}
    body = {"model": FLASH, "messages": [{"role": "user", "content": [sound]}]}
    found = GeminiChat().ask(body, Context(limits(FLASH), 2**20 + 200, lambda _: None))
    assert found.guessed
    assert found.bound < 2**18


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"input_tokens": 5, "output_tokens": 7}, {"input_tokens": 5, "output_tokens": 7}),
        ({"input_tokens": 5, "input_audio_tokens": 9}, {"input_tokens": 9, "input_audio_tokens": 9}),
        (
            {"output_tokens": 10, "output_image_tokens": 10, "output_reasoning_tokens": 3},
            {"output_tokens": 13, "output_image_tokens": 10, "output_reasoning_tokens": 3},
        ),
        (
            {"input_tokens": 10, "input_audio_tokens": 6, "cache_read_tokens": 7},
            {"input_tokens": 10, "input_audio_tokens": 6, "cache_read_tokens": 7, "cache_audio_read_tokens": 3},
        ),
    ],
)
def test_counts_add_up(told: dict[str, int], found: dict[str, int]) -> None:
    assert consistent(told) == found


def test_headers_that_choose_a_part_of_the_answer_or_another_method_stay_here(
    provider: FakeProvider, make_app: MakeApp, token: Callable[[str], str]
) -> None:
    provider.answers("POST", f"/v1beta/models/{FLASH}:generateContent", json={"usageMetadata": {"promptTokenCount": 1}})
    headers = {
        "Authorization": token("alice@example.com"),
        "X-Goog-FieldMask": "candidates",
        "X-Goog-User-Project": "somebodys",
        "X-HTTP-Method-Override": "DELETE",
        "X-Goog-Api-Client": "gl-python/3.11",
    }
    path = f"/geminiv1beta/models/{FLASH}:generateContent"
    answer = (
        make_app()
        .test_client()
        .post(path, json=said({"text": "Hi"}), headers=headers, environ_overrides={"RAW_URI": path})
    )
    assert answer.status_code == 200
    [request] = provider.requests
    names = {name.lower() for name, _ in request.headers}
    assert "x-goog-api-client" in names
    assert not names & {"x-goog-fieldmask", "x-goog-user-project", "x-http-method-override"}


def test_beside_a_large_picture_the_usage_is_read(
    provider: FakeProvider, make_app: MakeApp, token: Callable[[str], str]
) -> None:
    usage = {
        "promptTokenCount": 7,
        "candidatesTokenCount": 1290,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    picture = {"candidates": [{"content": {"parts": [inline("image/png", "A" * 9 * 2**20)]}}], "usageMetadata": usage}
    provider.answers("POST", f"/v1beta/models/{NANO}:generateContent", json={**picture, "responseId": "r-large"})
    app, path = make_app(), f"/geminiv1beta/models/{NANO}:generateContent"
    body, headers = said({"text": "Draw"}), {"Authorization": token("alice@example.com")}
    given = {"RAW_URI": path}
    with app.test_client().post(path, json=body, headers=headers, environ_overrides=given) as answer:
        assert len(answer.data) > 9 * 2**20
    [entry] = app.extensions["aipipe"].ledger.entries("alice@example.com")
    assert (entry.cost, entry.answer_id) == (7 * 300 + 1_290 * 30_000, "r-large")
