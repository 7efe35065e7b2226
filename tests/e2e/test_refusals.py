"""Who gets nothing, why, and that the SDK understands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from e2e.answers import CHAT, COST, answer, question
from e2e.calls import ask, sdk
from e2e.conftest import Script
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e

DIME = 100_000_000  # nanodollars


class Counter(openai.DefaultHttpxClient):
    """Counts what the SDK sends."""

    def __init__(self) -> None:
        self.sent = 0
        super().__init__(event_hooks={"request": [self._count]})

    def _count(self, request: Any) -> None:
        self.sent += 1


def spend(server: Server, caller: Caller, nano: int) -> None:
    """Books an adjustment that makes the caller's spending of today so much."""
    server.ledger.adjust(caller.email, datetime.now(UTC).date(), nano)


def left_to_cost(server: Server, caller: Caller) -> int:
    """What the caller's requests have cost, without adjustments."""
    return sum(entry.cost for entry in server.ledger.entries(caller.email) if entry.ended != "adjusted")


@pytest.mark.parametrize(
    "mend",
    [
        lambda token: token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: "nonsense",
        lambda token: token + "x" * 5_000,
    ],
    ids=["another signature", "no signature", "no token", "longer than any token"],
)
def test_a_wrong_token_is_refused_without_being_repeated(server: Server, alice: Caller, mend: Any) -> None:
    wrong = Caller(alice.email, mend(alice.token))
    server.secrets.add(wrong.token)
    with sdk(server, wrong, "openai") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**question())
    assert "is not valid" in caught.value.message
    assert wrong.token not in str(caught.value.body)


def test_an_expired_token_is_refused(server: Server) -> None:
    late = server.caller(age=3, days=2)
    with sdk(server, late, "openai") as client, pytest.raises(openai.AuthenticationError, match="has expired"):
        client.chat.completions.create(**question())


def test_without_a_token_the_answer_says_how_to_get_one(server: Server) -> None:
    refused = ask(server, f"/openai{CHAT}", None, question())
    assert refused.status == 401
    assert refused.json()["error"]["type"] == "authentication_error"
    assert "/login" in refused.json()["message"]
    assert refused.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_a_budget_of_zero_stops_everything_and_no_sdk_tries_again(server: Server, path: str) -> None:
    charlie = server.caller("charlie@example.org")
    counter = Counter()
    with sdk(server, charlie, "openai", http_client=counter) as client, pytest.raises(openai.RateLimitError) as caught:
        client.models.list() if path == "/v1/models" else client.chat.completions.create(**question())
    assert caught.value.type == "budget_exceeded"
    assert counter.sent == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_exhausted_budget_is_final_and_no_sdk_tries_again(server: Server, alice: Caller, stream: bool) -> None:
    spend(server, alice, DIME)
    counter = Counter()
    with sdk(server, alice, "openai", http_client=counter) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**question(stream=stream))
    assert caught.value.type == "budget_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "$0.00 is left" in caught.value.message
    assert counter.sent == 1


def test_an_exhausted_budget_stops_nothing_that_is_free(server: Server, provider: Script, alice: Caller) -> None:
    spend(server, alice, DIME)
    provider.answers("GET", "/v1/models", json={"object": "list", "data": []})
    with sdk(server, alice, "openai") as client:
        assert list(client.models.list()) == []


def test_the_last_of_a_budget_buys_a_shorter_answer_and_says_so(
    server: Server, provider: Script, alice: Caller
) -> None:
    asked = question(max_tokens=5_000)
    spend(server, alice, DIME - 500_000)  # half a mill buys 250 tokens less the question
    provider.answers("POST", CHAT, json=answer())
    received = ask(server, f"/openai{CHAT}", alice, asked)
    granted = int(received.headers["x-aipipe-capped"])
    assert 16 <= granted < 250
    assert provider.requests[0].json()["max_tokens"] == granted
    assert left_to_cost(server, alice) == COST
    assert float(received.headers["x-aipipe-remaining"]) == (500_000 - COST) / 1e9


def test_an_answer_as_long_as_asked_for_is_not_called_capped(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer())
    received = ask(server, f"/openai{CHAT}", alice, question(max_tokens=100))
    assert "x-aipipe-capped" not in received.headers
    assert provider.requests[0].json()["max_tokens"] == 100


def test_a_model_without_a_price_is_refused_before_anything_is_sent(server: Server, alice: Caller) -> None:
    refused = ask(server, f"/openai{CHAT}", alice, question(model="unheard-of"))
    assert (refused.status, refused.json()["message"]) == (400, "Model unheard-of pricing unknown")


def test_the_operators_key_is_not_for_what_belongs_to_others(server: Server, alice: Caller) -> None:
    with sdk(server, alice, "openai") as client, pytest.raises(openai.PermissionDeniedError, match="shared openai key"):
        client.files.list()


def test_a_providers_own_refusal_passes_through_and_costs_nothing(
    server: Server, provider: Script, alice: Caller
) -> None:
    error = {"error": {"message": "No such model", "type": "invalid_request_error", "param": "model", "code": "gone"}}
    provider.answers("POST", CHAT, status=404, json=error)
    with sdk(server, alice, "openai") as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**question())
    assert caught.value.code == "gone"
    assert server.ledger.entries(alice.email) == []


def test_a_temporary_refusal_is_tried_again_by_the_sdk(server: Server, provider: Script, alice: Caller) -> None:
    limited = {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    provider.answers("POST", CHAT, status=429, headers={"Retry-After-Ms": "1"}, json=limited)
    provider.answers("POST", CHAT, json=answer())
    with sdk(server, alice, "openai") as client:
        assert client.chat.completions.create(**question()).choices[0].message.content == "Hello."
    assert left_to_cost(server, alice) == COST


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_outside_of_development_nobody_signs_in_by_typing_an_email(server: Server, accept: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    refused = ask(server, "/login", body=b"email=alice%40example.com", headers={**form, "Accept": accept})
    assert refused.status == 404
    assert "set-cookie" not in refused.headers
