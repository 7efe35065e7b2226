"""HTTP to the byte: what passes, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fake_provider import DROP, Gate
from wire import head

from e2e.answers import CHAT, COST, USAGE, answer, end, piece, question
from e2e.calls import ask, calling, raw, written
from e2e.conftest import OPERATOR_KEY, Script
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e

# What goes up


@pytest.mark.parametrize(
    "target",
    [
        "/v1/files/a%2Fb%2f..%2E",
        "/v1/files/../../v1//models/",
        "/v1/files?x=%20&y=%E2%82%AC&y=&&z=a+b;c=[1]{2}|'\"^`<>\\~",
        "/v1/files?",
        "/v1/files?again=/openai/v1/files?x#",
    ],
)
def test_path_and_query_go_up_byte_for_byte(server: Server, provider: Script, native: Caller, target: str) -> None:
    provider.answers("GET", target.partition("?")[0], json={})
    assert raw(server, written(native, "GET", f"/openai{target}")).startswith(b"HTTP/1.1 200 ")
    assert provider.requests[0].target == target


def test_the_absolute_form_means_the_same(server: Server, provider: Script, native: Caller) -> None:
    provider.answers("GET", "/v1/files", json={})
    assert raw(server, written(native, "GET", "http://aipipe.example.com/openai/v1/files?x=http://y")).startswith(
        b"HTTP/1.1 200"
    )
    assert provider.requests[0].target == "/v1/files?x=http://y"


def test_headers_that_are_between_two_hops_or_name_the_caller_stay_behind(
    server: Server, provider: Script, native: Caller
) -> None:
    provider.answers("POST", "/v1/files", json={})
    private = [
        "Keep-Alive: timeout=5", "TE: trailers", "Upgrade: websocket", "Proxy-Authorization: Basic eA==",
        "X-Between: us", "Cookie: a=b", "Origin: https://x.example", "Referer: https://x.example/",
        "Accept-Encoding: br", "Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: x.example",
        "X-Real-IP: 192.0.2.1", "x-api-key: another", "x-goog-api-key: another",
    ]  # fmt: skip
    passing = ["X-Stainless-Lang: python", "OpenAI-Organization: org-mine", "X-Twice: 1", "X-Twice: 2", "X-Empty:"]
    message = written(native, "POST", "/openai/v1/files", *private, *passing, "Content-Length: 4", body=b"body")
    message = message.replace(b"Connection: close", b"Connection: close\r\nConnection: X-Between")
    assert raw(server, message).startswith(b"HTTP/1.1 200 ")
    received = provider.requests[0]
    assert received.body == b"body"
    names = {name.lower() for name, _ in received.headers}
    assert not names & ({line.partition(":")[0].lower() for line in private} - {"accept-encoding"})
    assert received.header("Authorization") == f"Bearer {native.token}"
    assert received.header("Accept-Encoding") == "identity"
    assert received.header("Host") == provider.url.removeprefix("http://")
    assert received.header("X-Stainless-Lang") == "python"
    assert received.header("OpenAI-Organization") == "org-mine"
    assert received.header("X-Twice") == "1,2"
    assert received.header("X-Empty") == ""


@pytest.mark.parametrize("line", ["Authorization: {key}", "authorization: bearer {key}", "x-api-key: {key}"])
def test_a_key_goes_up_where_its_provider_reads_it(server: Server, provider: Script, native: Caller, line: str) -> None:
    provider.answers("GET", "/v1/files", json={})
    message = (
        f"GET /openai/v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line.format(key=native.token)}\r\n\r\n"
    )
    assert raw(server, message.encode()).startswith(b"HTTP/1.1 200 ")
    assert provider.requests[0].header("Authorization") == f"Bearer {native.token}"


def test_a_shared_key_replaces_the_token(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer())
    mine = {
        "OpenAI-Organization": "org-mine",
        "OpenAI-Project": "mine",
        "X-Stainless-Lang": "js",
        "Accept-Encoding": "gzip",
    }
    assert ask(server, f"/openai{CHAT}", alice, question(), headers=mine).status == 200
    received = provider.requests[0]
    assert received.header("Authorization") == f"Bearer {OPERATOR_KEY}"
    assert alice.token not in str(received)
    assert (received.header("OpenAI-Organization"), received.header("OpenAI-Project")) == (None, None)
    assert received.header("X-Stainless-Lang") == "js"
    assert received.header("Accept-Encoding") == "identity"


def test_a_body_in_chunks_arrives_whole(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer())
    body = json.dumps(question()).encode()

    def pieces() -> Iterator[bytes]:
        yield body[:7]
        yield body[7:]

    assert ask(server, f"/openai{CHAT}", alice, body=pieces()).status == 200
    assert provider.requests[0].json()["messages"] == question()["messages"]


def test_who_expects_to_be_told_to_continue_is_told(server: Server, provider: Script, native: Caller) -> None:
    provider.answers("POST", "/v1/files", json={})
    message = written(native, "POST", "/openai/v1/files", "Expect: 100-continue", "Content-Length: 4", body=b"body")
    received = raw(server, message)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert provider.requests[0].header("Expect") is None


def test_requests_that_are_sent_ahead_are_answered_in_turn(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("first"), Gate("sent ahead"), *end()])
    provider.answers("POST", CHAT, json=answer("second"))
    first, second = (json.dumps(question(stream=stream)).encode() for stream in (True, False))
    start = f"POST /openai{CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n".encode()
    message = start + b"Content-Length: %d\r\n\r\n%b" % (len(first), first)
    message += start + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(second), second)
    with calling(server, "/healthz") as call:
        assert call.received().status == 200
        call.socket.sendall(message)
        provider.reached("sent ahead")
        provider.release("sent ahead")
        received = b"".join(iter(lambda: call.socket.recv(65_536), b""))
    assert received.index(b"first") < received.index(b"data: [DONE]") < received.index(b"second")
    assert [entry.cost for entry in server.ledger.entries(alice.email)] == [COST, COST]


# What comes back


def test_head_has_the_head_alone(server: Server, provider: Script, native: Caller) -> None:
    provider.answers("HEAD", "/v1/files/1", steps=[head(200, {"Content-Length": "1234", "ETag": '"x"'})])
    received = raw(server, written(native, "HEAD", "/openai/v1/files/1"))
    start, _, rest = received.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200 ")
    assert b'etag: "x"' in start.lower()
    assert rest == b""


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_has_none(server: Server, provider: Script, native: Caller, status: int) -> None:
    provider.answers("GET", "/v1/files/1", steps=[head(status, {"ETag": '"x"'})])
    provider.answers("GET", "/v1/files/2", json={"after": "it"})
    with calling(server, "/openai/v1/files/1", native) as call:
        received = call.received()
        assert (received.status, received.body, received.headers["etag"]) == (status, b"", '"x"')
        assert "transfer-encoding" not in received.headers
        call.socket.sendall(written(native, "GET", "/openai/v1/files/2"))  # on the same connection
        assert b'{"after": "it"}' in b"".join(iter(lambda: call.socket.recv(65_536), b""))


def test_headers_of_an_answer_that_are_between_two_hops_stay_there(
    server: Server, provider: Script, native: Caller
) -> None:
    lines = [
        "HTTP/1.1 200 OK", "Connection: keep-alive, X-Between", "X-Between: us", "Keep-Alive: timeout=9",
        "Proxy-Authenticate: Basic", "Trailer: X-Late", "Upgrade: h2c", "Server: theirs", "Alt-Svc: h3",
        "Strict-Transport-Security: max-age=1", "Transfer-Encoding: chunked", "X-Passes: 1", "", "",
    ]  # fmt: skip
    provider.answers("GET", "/v1/files/1", steps=["\r\n".join(lines).encode(), b"2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n"])
    received = ask(server, "/openai/v1/files/1", native)
    assert (received.status, received.body, received.headers["x-passes"]) == (200, b"ok", "1")
    between = {"x-between", "keep-alive", "proxy-authenticate", "trailer", "upgrade", "alt-svc", "x-late"}
    assert not set(received.headers) & (between | {"strict-transport-security"})
    assert received.headers["server"] != "theirs"


def test_cookies_of_a_provider_pass_one_by_one_to_the_owner_of_the_key(
    server: Server, provider: Script, native: Caller
) -> None:
    start = b"HTTP/1.1 206 Partial Content\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nContent-Encoding: odd\r\n"
    start += b"Content-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\n"
    provider.answers("GET", "/v1/files/1", steps=[start, b"\x1f\x8b\x00\xff"])
    received = ask(server, "/openai/v1/files/1", native)
    assert [value for name, value in received.pairs if name == "Set-Cookie"] == ["a=1; Path=/", "b=2"]
    assert (received.status, received.body) == (206, b"\x1f\x8b\x00\xff")
    assert received.headers["content-encoding"] == "odd"
    assert received.headers["content-range"] == "bytes 0-3/9"


def test_an_answer_that_a_provider_cuts_short_does_not_look_whole(
    server: Server, provider: Script, native: Caller
) -> None:
    provider.answers("GET", "/v1/files/1", steps=[head(200, {"Transfer-Encoding": "chunked"}), b"4\r\nhalf\r\n", DROP])
    received = raw(server, written(native, "GET", "/openai/v1/files/1"))
    assert b"half" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_a_metered_answer_too_large_for_memory_passes_and_is_charged(
    server: Server, provider: Script, alice: Caller
) -> None:
    body = json.dumps({**answer("x" * 9_000_000), "usage": USAGE}).encode()
    provider.answers("POST", CHAT, headers={"Content-Type": "application/json"}, body=body)
    received = ask(server, f"/openai{CHAT}", alice, question())
    assert received.body == body
    assert received.headers["x-aipipe-cost"] == "0.00005"
    assert server.entry(alice).cost == COST


# Pages of other origins


@pytest.mark.parametrize("target", [f"/openai{CHAT}", "/usage", "/unheard-of/v1", "/"])
def test_a_preflight_lets_every_header_of_an_sdk_pass(server: Server, target: str) -> None:
    wanted = "authorization,x-stainless-os,anthropic-dangerous-direct-browser-access,x-goog-api-client,x-odd.header"
    asked = {
        "Origin": "https://alice.github.io",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
        "Access-Control-Request-Private-Network": "true",
    }
    received = ask(server, target, method="OPTIONS", headers=asked)
    assert (received.status, received.body) == (204, b"")
    assert received.headers["access-control-allow-origin"] == "*"
    assert received.headers["access-control-allow-headers"] == wanted
    assert "POST" in received.headers["access-control-allow-methods"]
    assert received.headers["access-control-max-age"] == "86400"
    assert "access-control-allow-credentials" not in received.headers


@pytest.mark.parametrize("path", ["/docs", "/login", "/proxy/http://example.com/"])
def test_a_host_that_can_not_be_read_is_a_bad_request(server: Server, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: xn--\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"AI Pipe can't read the host that this request is for." in answer
    server.check_log()
