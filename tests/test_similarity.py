"""/similarity: the seed's own examples, what is sent for them, what they cost, and what is refused."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import OPERATOR_KEYS, MakeApp
from fake_provider import FakeProvider
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from aipipe import cosines
from aipipe.errors import InvalidRequest

PATH = "/v1/embeddings"
FOX, CANINE, LAZY = (
    "The quick brown fox jumps over the lazy dog",
    "A fast orange fox leaps over a sleepy canine",
    "The lazy dog sleeps while the fox jumps",
)
JUMPING, SLEEPING = "fox jumping", "dog sleeping"
VECTORS = {
    FOX: [1.0, 0.0, 0.0, 0.0],
    CANINE: [0.6, 0.8, 0.0, 0.0],
    LAZY: [0.0, 3.0, 0.0, 4.0],
    JUMPING: [2.0, 2.0, 0.0, 0.0],
    SLEEPING: [0.0, -1.0, 0.0, 0.0],
    "nothing": [0.0, 0.0, 0.0, 0.0],
}
# text-embedding-3-small: $0.02 for a million tokens, https://openai.com/api/pricing
NANO_PER_TOKEN = 20

Ask = Callable[..., TestResponse]


def base64_of(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embeddings(texts: list[str], tokens: int, *, plain: bool = False) -> dict[str, Any]:
    """An answer as https://platform.openai.com/docs/api-reference/embeddings documents it."""
    data = [
        {"object": "embedding", "index": index, "embedding": VECTORS[text] if plain else base64_of(VECTORS[text])}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def ask(app: Flask, token: Callable[[str], str]) -> Ask:
    """Posts a body to /similarity, as Alice unless a credential is given."""

    def post(body: Any, credential: str | None = None) -> TestResponse:
        headers = {"Authorization": f"Bearer {credential or token('alice@example.com')}"}
        return app.test_client().post("/similarity", json=body, headers=headers)

    return post


def entries(app: Flask) -> list[tuple[int, int]]:
    """Tokens and nanodollars of what was booked, oldest first."""
    ledger = app.extensions["aipipe"].ledger
    assert ledger.holds() == [] and ledger.balanced()
    return [(entry.input_tokens, entry.cost) for entry in reversed(ledger.entries("alice@example.com"))]


SEED = {
    "documents and topics": (
        {
            "docs": [FOX, CANINE],
            "topics": [JUMPING, SLEEPING],
            "model": "text-embedding-3-small",
            "precision": 5,
        },
        [FOX, CANINE, JUMPING, SLEEPING],
        [[0.70711, 0.0], [0.98995, -0.8]],
    ),
    "documents with each other": (
        {"docs": [FOX, CANINE, LAZY], "model": "text-embedding-3-small"},
        [FOX, CANINE, LAZY],
        [[1.0, 0.6, 0.0], [0.6, 1.0, 0.48], [0.0, 0.48, 1.0]],
    ),
    "structured input": (
        {
            "docs": [{"type": "text", "value": FOX}, {"type": "text", "value": CANINE}],
            "topics": [{"type": "text", "value": JUMPING}, {"type": "text", "value": SLEEPING}],
        },
        [FOX, CANINE, JUMPING, SLEEPING],
        [[0.70711, 0.0], [0.98995, -0.8]],
    ),
}


@pytest.mark.parametrize(("body", "sent", "expected"), SEED.values(), ids=SEED)
def test_an_example_of_the_seed_is_answered_and_charged(
    ask: Ask, app: Flask, provider: FakeProvider, body: Any, sent: list[str], expected: Any
) -> None:
    provider.answers("POST", PATH, json=embeddings(sent, 42))
    answer = ask(body)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == {
        "model": "text-embedding-3-small",
        "similarity": expected,
        "tokens": 42,
        "usage": {"prompt_tokens": 42},
    }
    [request] = provider.requests
    assert request.json() == {"model": "text-embedding-3-small", "input": sent, "encoding_format": "base64"}
    assert request.header("Authorization") == f"Bearer {OPERATOR_KEYS['openai']}"
    assert entries(app) == [(42, 42 * NANO_PER_TOKEN)]
    assert answer.headers["X-AIPipe-Cost"] == "0.00000084"
    assert answer.headers["X-AIPipe-Remaining"] == "0.09999916"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_equal_texts_are_embedded_once_and_are_alike_by_exactly_one(ask: Ask, provider: FakeProvider) -> None:
    provider.answers("POST", PATH, json=embeddings([CANINE, FOX], 10))
    answer = ask({"docs": [CANINE, FOX, CANINE], "topics": [FOX, CANINE], "precision": 15})
    assert provider.requests[0].json()["input"] == [CANINE, FOX]
    assert answer.json is not None
    similarity = answer.json["similarity"]
    assert [row[1] for row in similarity] == [1.0, pytest.approx(0.6), 1.0]
    assert similarity[0] == similarity[2]


def test_a_text_without_direction_is_alike_nothing_but_itself(ask: Ask, provider: FakeProvider) -> None:
    provider.answers("POST", PATH, json=embeddings(["nothing", FOX], 10))
    answer = ask({"docs": ["nothing", FOX]})
    assert answer.json is not None
    assert answer.json["similarity"] == [[1.0, 0.0], [0.0, 1.0]]
    assert b"-0" not in answer.data


@pytest.mark.parametrize("precision", [0, 1, 5, 6, 15, None])
def test_precision_is_the_number_of_decimals(ask: Ask, provider: FakeProvider, precision: int | None) -> None:
    provider.answers("POST", PATH, json=embeddings([JUMPING, CANINE, LAZY], 10))
    answer = ask({"docs": [JUMPING], "topics": [CANINE, LAZY], "precision": precision})
    exact = np.array([1.4, 0.6]) / np.sqrt(2)
    assert answer.json is not None
    assert answer.json["similarity"][0] == pytest.approx(
        np.round(exact, 5 if precision is None else precision), abs=1e-7
    )
    decimals = max(len(repr(value).partition(".")[2]) for value in answer.json["similarity"][0])
    assert decimals <= max(1, 5 if precision is None else precision)


def test_a_provider_that_knows_no_base64_may_send_numbers_in_any_order(ask: Ask, provider: FakeProvider) -> None:
    told = embeddings([FOX, CANINE, LAZY], 9, plain=True)
    told["data"].reverse()
    provider.answers("POST", PATH, json=told)
    answer = ask({"docs": [FOX, CANINE, LAZY]})
    assert answer.json is not None
    assert answer.json["similarity"][0] == [1.0, 0.6, 0.0]


def test_more_texts_than_a_call_takes_are_embedded_and_charged_in_batches(
    ask: Ask, app: Flask, provider: FakeProvider
) -> None:
    docs = [f"document {number}" for number in range(2_049)]
    data = [{"index": number, "embedding": base64_of([1, number])} for number in range(2_048)]
    provider.answers("POST", PATH, json={"data": data, "usage": {"prompt_tokens": 5_000}})
    last = [{"index": 0, "embedding": base64_of([0, 2])}, {"index": 1, "embedding": base64_of([0, 1])}]
    provider.answers("POST", PATH, json={"data": last, "usage": {"prompt_tokens": 7}})
    answer = ask({"docs": docs, "topics": ["a topic"]})
    assert [len(request.json()["input"]) for request in provider.requests] == [2_048, 2]
    assert provider.requests[1].json()["input"] == [docs[2_048], "a topic"]
    assert answer.json is not None
    assert answer.json["tokens"] == 5_007
    assert answer.json["similarity"][:2] + answer.json["similarity"][-1:] == [[0.0], [0.70711], [1.0]]
    assert entries(app) == [(5_000, 100_000), (7, 140)]
    assert answer.headers["X-AIPipe-Cost"] == "0.00010014"
    assert answer.headers["X-AIPipe-Remaining"] == "0.09989986"


def test_a_later_batch_that_fails_leaves_the_earlier_ones_paid(ask: Ask, app: Flask, provider: FakeProvider) -> None:
    data = [{"index": number, "embedding": base64_of([1, number])} for number in range(2_048)]
    provider.answers("POST", PATH, json={"data": data, "usage": {"prompt_tokens": 5_000}})
    refusal = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
    provider.answers("POST", PATH, status=429, headers={"Retry-After": "3"}, json=refusal)
    answer = ask({"docs": [f"document {number}" for number in range(2_050)]})
    assert (answer.status_code, answer.json) == (429, refusal)
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["X-AIPipe-Cost"] == "0.0001"
    assert entries(app) == [(5_000, 100_000)]


UNREADABLE = {
    "a page": {"headers": {"Content-Type": "text/html"}, "body": b"<h1>Welcome</h1>"},
    "no data": {"json": {"usage": {"prompt_tokens": 3}}},
    "one too few": {"json": embeddings([FOX], 3)},
    "one twice": {"json": {"data": [{"index": 0, "embedding": base64_of([1])}] * 2}},
    "one that is no number of a text": {"json": {"data": [{"index": n, "embedding": base64_of([1])} for n in (0, 2)]}},
    "different lengths": {"json": {"data": [{"embedding": base64_of([1] * n)} for n in (2, 1)]}},
    "nothing in them": {"json": {"data": [{"embedding": ""}] * 2}},
    "no base64": {"json": {"data": [{"embedding": "****"}] * 2}},
    "no floats": {"json": {"data": [{"embedding": "AAAA"}] * 2}},
    "no numbers": {"json": {"data": [{"embedding": base64_of([float("nan")])}] * 2}},
    "texts": {"json": {"data": [{"embedding": ["one"]}] * 2}},
    "null": {"json": {"data": [None, None]}},
}


@pytest.mark.parametrize("told", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_not_embeddings_is_said_to_be_the_providers_fault(
    ask: Ask, app: Flask, provider: FakeProvider, told: dict[str, Any]
) -> None:
    provider.answers("POST", PATH, **told)
    answer = ask({"docs": [FOX, CANINE]})
    assert answer.status_code == 502
    assert answer.json is not None
    assert answer.json["message"] == "openai sent embeddings that AI Pipe can't read."
    assert len(entries(app)) == 1


BAD = {
    "no JSON": ("docs", "AI Pipe expected a JSON object"),
    "a list": ([FOX], "AI Pipe expected a JSON object"),
    "no docs": ({}, "docs must be a list"),
    "docs null": ({"docs": None}, "docs must be a list"),
    "docs empty": ({"docs": []}, "docs must be a list of at least one text"),
    "docs a text": ({"docs": FOX}, "docs must be a list"),
    "topics empty": ({"docs": [FOX], "topics": []}, "topics must be a list of at least one text"),
    "topics false": ({"docs": [FOX], "topics": False}, "topics must be a list"),
    "a number": ({"docs": [FOX, FOX, FOX, 3]}, "docs[3] must be a text"),
    "null": ({"docs": [FOX], "topics": [JUMPING, None]}, "topics[1] must be a text"),
    "an empty text": ({"docs": [FOX, ""]}, "docs[1] is empty"),
    "an empty value": ({"docs": [{"type": "text", "value": ""}]}, "docs[0].value is empty"),
    "an image": ({"docs": [{"type": "image", "value": "x"}]}, 'docs[0] must have the type "text"'),
    "no type": ({"docs": [{"value": "x"}]}, 'docs[0] must have the type "text"'),
    "no value": ({"docs": [{"type": "text"}]}, "docs[0].value must be a text"),
    "precision above": ({"docs": [FOX], "precision": 16}, "precision must be a whole number from 0 to 15"),
    "precision below": ({"docs": [FOX], "precision": -1}, "precision must be"),
    "precision a text": ({"docs": [FOX], "precision": "5"}, "precision must be"),
    "precision true": ({"docs": [FOX], "precision": True}, "precision must be"),
    "model a number": ({"docs": [FOX], "model": 3}, "model must be the name"),
    "model unknown": ({"docs": [FOX], "model": "no-such-model"}, "Model no-such-model pricing unknown"),
    "too many texts": ({"docs": [str(n) for n in range(10_001)], "topics": ["a"]}, "at most 10,000 different texts"),
    "too many pairs": ({"docs": ["a"] * 5_001}, "at most 25,000,000 pairs at once, not 5,001 x 5,001"),
}


@pytest.mark.parametrize(("body", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_with_a_sentence_that_names_it(ask: Ask, app: Flask, body: Any, sentence: str) -> None:
    answer = ask(body)
    assert answer.status_code == 400
    assert answer.json is not None
    assert sentence in answer.json["message"]
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert entries(app) == []


def test_a_native_key_pays_for_itself(ask: Ask, app: Flask, provider: FakeProvider) -> None:
    provider.answers("POST", PATH, json=embeddings([FOX, CANINE], 20))
    answer = ask({"docs": [FOX, CANINE], "model": "a-model-of-tomorrow"}, credential="sk-of-alice")
    assert answer.json is not None
    assert answer.json["similarity"] == [[1.0, 0.6], [0.6, 1.0]]
    assert answer.json["model"] == "a-model-of-tomorrow"
    [request] = provider.requests
    assert request.header("Authorization") == "Bearer sk-of-alice"
    assert "X-AIPipe-Cost" not in answer.headers
    assert entries(app) == []


def test_a_native_key_that_the_provider_refuses_gets_the_providers_answer(ask: Ask, provider: FakeProvider) -> None:
    refusal = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
    provider.answers("POST", PATH, status=401, json=refusal)
    answer = ask({"docs": [FOX]}, credential="sk-of-nobody")
    assert (answer.status_code, answer.json) == (401, refusal)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no money": ({"AIPIPE_BUDGET": {"*": {"limit": 0.0000001, "days": 1}}}, 429, "needs at least"),
    "no budget": ({"AIPIPE_BUDGET": {"*": {"limit": 0, "days": 1}}}, 429, "no budget for you"),
    "another model": ({"AIPIPE_BUDGET": {"*": {"limit": 1, "models": ["gpt-*"]}}}, 403, "only gpt-*"),
    "no key": ({"OPENAI_API_KEY": None}, 503, "OPENAI_API_KEY"),
    "no provider": ({"AIPIPE_EMBEDDING_PROVIDER": "nobody"}, 503, "EMBEDDING_PROVIDER"),
}


@pytest.mark.parametrize(("settings", "status", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_the_operator_does_not_allow_is_not_sent(
    make_app: MakeApp, token: Callable[[str], str], settings: dict[str, Any], status: int, sentence: str
) -> None:
    client = make_app(**settings).test_client()
    headers = {"Authorization": f"Bearer {token('alice@example.com')}"}
    answer = client.post("/similarity", json={"docs": [FOX, CANINE]}, headers=headers)
    assert answer.status_code == status
    assert answer.json is not None
    assert sentence in answer.json["message"]


@pytest.mark.parametrize(("method", "status"), [("POST", 401), ("GET", 405)])
def test_without_a_token_nothing_is_read(app: Flask, method: str, status: int) -> None:
    answer = app.test_client().open("/similarity", method=method, json={"docs": [FOX]})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=120), st.sampled_from(["a", "é", "語"]))
def test_batches_keep_the_order_and_the_limits_of_a_call(lengths: list[int], letter: str) -> None:
    texts = [letter * length for length in lengths]
    found = list(cosines.batches(texts))
    assert [text for _, batch in found for text in batch] == texts
    assert [start for start, _ in found] == [sum(len(batch) for _, batch in found[:n]) for n in range(len(found))]
    assert all(sum(min(8_192, len(text.encode())) for text in batch) <= 300_000 for _, batch in found)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 15), st.booleans(), st.randoms(use_true_random=False))
def test_a_table_is_what_64_bit_floats_give(
    texts: int, size: int, precision: int, each_other: bool, random: Any
) -> None:
    matrix = np.random.default_rng(random.getrandbits(32)).standard_normal((texts, size)).astype("<f4")
    names = [f"text {number}" for number in range(texts)]
    body = {"docs": names, "precision": precision} | ({} if each_other else {"topics": names[: texts // 2 + 1]})
    question = cosines.read(json.dumps(body).encode())
    vectors = cosines.Vectors(texts)
    vectors.take(0, texts, {"data": [{"embedding": base64.b64encode(row.tobytes()).decode()} for row in matrix]})
    table = cosines.compare(question, vectors.unit(precision))

    exact = matrix.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    expected = (exact @ exact.T)[:, : table.shape[1]]
    assert np.abs(table - expected).max() <= 0.51 * 10.0**-precision + (1e-6 if precision <= 5 else 1e-14)
    assert (np.diagonal(table) == 1).all() and (np.abs(table) <= 1).all()
    assert not each_other or (table == table.T).all()
    told = json.loads(b"".join(cosines.written(question, table, 7)))
    assert np.array_equal(np.array(told["similarity"]).astype(table.dtype), table)
    assert (told["tokens"], told["usage"]) == (7, {"prompt_tokens": 7})


def test_a_large_answer_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "PIECE", 6)
    question = cosines.read(json.dumps({"docs": ["a", "b", "c", "d", "e"], "topics": ["x", "y"]}).encode())
    pieces = list(cosines.written(question, np.arange(10.0).reshape(5, 2), 1))
    assert len(pieces) == 4
    assert json.loads(b"".join(pieces))["similarity"] == np.arange(10.0).reshape(5, 2).tolist()


def test_a_text_that_is_not_unicode_is_no_json() -> None:
    with pytest.raises(InvalidRequest):
        cosines.read(b'{"docs": ["\\ud800"]}')
