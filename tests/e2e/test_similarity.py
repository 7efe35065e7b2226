"""/similarity on the real server: with a real model as a newcomer asks it, and beside other people's streams."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

import pytest
import requests
from fake_provider import Gate
from wire import head

from e2e.calls import calling
from e2e.conftest import Script, Site
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e

FOX, CANINE, LAZY = (
    "The quick brown fox jumps over the lazy dog",
    "A fast orange fox leaps over a sleepy canine",
    "The lazy dog sleeps while the fox jumps",
)


@pytest.fixture
def dev(tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("similarity"), "dev", AIPIPE_PROVIDERS__local__base=model)
    server.start()
    yield server
    server.check_books()
    server.stop()


def ask(server: Server, caller: Caller, body: object) -> requests.Response:
    headers = {"Authorization": caller.token}
    return requests.post(f"{server.url}/similarity", json=body, headers=headers, timeout=60)


def test_the_embedded_model_tells_that_a_text_is_most_like_itself(dev: Server) -> None:
    caller = dev.caller()
    answer = ask(dev, caller, {"docs": [FOX, CANINE, LAZY], "model": "text-embedding-3-small"})
    found = answer.json()
    assert (answer.status_code, found["model"]) == (200, "text-embedding-3-small")
    table = found["similarity"]
    assert [table[row][row] for row in range(3)] == [1.0] * 3
    assert all(table[row][column] == table[column][row] < 1 for row in range(3) for column in range(row))
    entry = dev.entry(caller)
    assert (entry.input_tokens, entry.cost) == (found["tokens"], found["tokens"] * 20)


def test_many_documents_are_compared_in_two_batches_and_paid_to_the_token(site: Site, provider: Script) -> None:
    caller = site.server.caller()
    docs = [f"document {number}" for number in range(2_500)]
    for start, size, tokens in ((0, 2_048, 6_000), (2_048, 452, 1_500)):
        vectors = [struct.pack("<2f", 1, number) for number in range(start, start + size)]
        data = [{"index": n, "embedding": base64.b64encode(vector).decode()} for n, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        provider.answers("POST", "/v1/embeddings", json={"data": data, "usage": usage})
    answer = ask(site.server, caller, {"docs": docs, "model": "small"})
    found = answer.json()
    assert (len(found["similarity"]), len(found["similarity"][-1]), found["tokens"]) == (2_500, 2_500, 7_500)
    assert answer.headers["X-AIPipe-Cost"] == "0.0075"
    assert sorted(entry.cost for entry in site.server.ledger.entries(caller.email)) == [1_500_000, 6_000_000]


@pytest.mark.parametrize("at", ["head", "body"])
def test_who_leaves_with_a_native_key_ends_the_providers_work_at_once(
    server: Server, provider: Script, native: Caller, at: str
) -> None:
    told = [head(200, {"Content-Type": "application/json", "Content-Length": "1000"}), b'{"data": [']
    provider.answers("POST", "/v1/embeddings", steps=[*(told if at == "body" else []), Gate("silent")])
    with calling(server, "/similarity", native, {"docs": [FOX, CANINE]}) as call:
        provider.reached("silent")
        call.leave()
        provider.closed.wait()
