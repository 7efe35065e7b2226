"""The log has a line of JSON for every request: what an operator asks for first, and never a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_provider import Gate

from e2e.answers import CHAT, answer, end, piece, question
from e2e.calls import ask, calling, raw
from e2e.conftest import Script
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e


def line(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request, as soon as it is written."""

    def found() -> list[str]:
        return [one for one in server.log().splitlines() if f'"request_id":"{request_id}"' in one]

    eventually(found, "the request is logged")
    (text,) = found()
    return dict(json.loads(text))


def test_a_request_that_costs(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer(), headers={"x-request-id": "req_theirs"})
    headers = {"X-Request-Id": "costs", "X-Forwarded-For": "203.0.113.9"}
    received = ask(server, f"/openai{CHAT}?key=hidden", alice, question(), headers=headers)
    logged = line(server, "costs")

    cost = server.entry(alice).cost
    assert received.headers["x-aipipe-cost"] == f"{cost / 1e9:.9f}".rstrip("0")
    assert {name: logged[name] for name in logged if name not in ("time", "ms", "first_byte_ms")} == {
        "request_id": "costs",
        "method": "POST",
        "path": f"/openai{CHAT}",
        "status": 200,
        "bytes": len(received.body),
        "client": "127.0.0.1",
        "provider": "openai",
        "model": "small",
        "cost": cost / 1e9,
        "ended": "complete",
        "upstream_id": "req_theirs",
    }
    assert 0 <= logged["first_byte_ms"] <= logged["ms"]


def test_a_stream_whose_reader_leaves_tells_its_cost_all_the_same(
    server: Server, provider: Script, alice: Caller
) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("more"), *end()])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True), headers={"X-Request-Id": "leaves"}) as call:
        assert call.line().startswith(b"data: ")
        call.leave()
    provider.closed.wait()
    logged = line(server, "leaves")

    assert (logged["cost"], logged["ended"]) == (server.entry(alice).cost / 1e9, "partial")
    assert logged["first_token_ms"] >= 0


@pytest.mark.parametrize(
    ("name", "target", "error"),
    [("no-token", "/usage", "invalid_token"), ("no-route", "/nothing", "not_found_error")],
)
def test_a_refusal_names_its_kind(server: Server, name: str, target: str, error: str) -> None:
    ask(server, target, headers={"X-Request-Id": name})

    assert line(server, name)["error"] == error


SECRETIVE = {
    "query": ("/usage?token=SECRET", "/usage"),
    "encoded-query": ("/usage%3Ftoken=SECRET", "/usage"),
    "in-the-path": ("/openai/SECRET/x", "/openai/.../x"),
    "proxied-path": ("/proxy/https://api.example.com:0/SECRET?x=SECRET", "/proxy/https://api.example.com:0/..."),
    "proxied-user": ("/proxy/https://bob:SECRET@api.example.com/", "/proxy/..."),
    "proxied-encoded": ("/proxy/https%3A%2F%2Fapi.example.com%2FSECRET", "/proxy/..."),
    "absolute": ("http://a/proxy/https://api.example.com:0/SECRET", "/proxy/https://api.example.com:0/..."),
    "absolute-query": ("http://a?SECRET", "/"),
    "doubled": ("//proxy/https://api.example.com/SECRET", "/proxy/..."),
    "fragment": ("/usage#SECRET", "/usage"),
    "line-break": ("/x%0a%7B%22request_id%22:1", "/x%0a%7B%22request_id%22:1"),
    "quotes": ('/x"},{"y":"', '/x"},{"y":"'),
}


@pytest.mark.parametrize("name", SECRETIVE)
def test_no_secret_gets_in_and_a_line_stays_one(server: Server, alice: Caller, name: str) -> None:
    target, path = SECRETIVE[name]
    target = target.replace("SECRET", alice.token)
    raw(server, f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {name}\r\nConnection: close\r\n\r\n".encode())

    assert line(server, name)["path"] == path
    server.check_log()


def test_an_id_that_is_a_token_is_not_taken(server: Server, alice: Caller) -> None:
    received = ask(server, "/healthz", headers={"X-Request-Id": alice.token})

    assert line(server, received.headers["x-request-id"])["status"] == 200
    server.check_log()
