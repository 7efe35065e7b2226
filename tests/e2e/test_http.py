"""HTTP to the byte: what passes, what stays behind, and what no server should fall over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_provider import DROP, Gate
from wire import head

from e2e.answers import CHAT, COST, USAGE, answer, end, piece, question
from e2e.calls import ask, calling, raw
from e2e.conftest import OPERATOR_KEY, Script
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e

KEY = "sk-the-callers-own-key"
LIMIT = 100_000  # bytes of a body


@pytest.fixture
def native(server: Server) -> Caller:
    """Someone with a key of their own."""
    server.secrets.add(KEY)
    return Caller("", KEY)


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A request with a native key, as bytes, on a connection that ends after the answer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


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
    assert raw(server, request("GET", f"/openai{target}")).startswith(b"HTTP/1.1 200 ")
    assert provider.requests[0].target == target


def test_the_absolute_form_means_the_same(server: Server, provider: Script, native: Caller) -> None:
    provider.answers("GET", "/v1/files", json={})
    assert raw(server, request("GET", "http://aipipe.example.com/openai/v1/files?x=http://y")).startswith(
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
    message = request("POST", "/openai/v1/files", *private, *passing, "Content-Length: 4", body=b"body")
    message = message.replace(b"Connection: close", b"Connection: close\r\nConnection: X-Between")
    assert raw(server, message).startswith(b"HTTP/1.1 200 ")
    received = provider.requests[0]
    assert received.body == b"body"
    names = {name.lower() for name, _ in received.headers}
    assert not names & ({line.partition(":")[0].lower() for line in private} - {"accept-encoding"})
    assert received.header("Authorization") == f"Bearer {KEY}"
    assert received.header("Accept-Encoding") == "identity"
    assert received.header("Host") == provider.url.removeprefix("http://")
    assert received.header("X-Stainless-Lang") == "python"
    assert received.header("OpenAI-Organization") == "org-mine"
    assert received.header("X-Twice") == "1,2"
    assert received.header("X-Empty") == ""


@pytest.mark.parametrize("line", ["Authorization: {key}", "authorization: bearer {key}", "x-api-key: {key}"])
def test_a_key_goes_up_where_its_provider_reads_it(server: Server, provider: Script, line: str) -> None:
    server.secrets.add(KEY)
    provider.answers("GET", "/v1/files", json={})
    message = f"GET /openai/v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line.format(key=KEY)}\r\n\r\n"
    assert raw(server, message.encode()).startswith(b"HTTP/1.1 200 ")
    assert provider.requests[0].header("Authorization") == f"Bearer {KEY}"


def test_a_shared_key_replaces_the_token(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer())
    mine = {"OpenAI-Organization": "org-mine", "OpenAI-Project": "mine", "X-Stainless-Lang": "js"}
    assert ask(server, f"/openai{CHAT}", alice, question(), headers=mine).status == 200
    received = provider.requests[0]
    assert received.header("Authorization") == f"Bearer {OPERATOR_KEY}"
    assert alice.token not in str(received)
    assert (received.header("OpenAI-Organization"), received.header("OpenAI-Project")) == (None, None)
    assert received.header("X-Stainless-Lang") == "js"


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
    message = request("POST", "/openai/v1/files", "Expect: 100-continue", "Content-Length: 4", body=b"body")
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
    received = raw(server, request("HEAD", "/openai/v1/files/1"))
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
        call.socket.sendall(request("GET", "/openai/v1/files/2"))  # on the same connection
        assert b'{"after": "it"}' in b"".join(iter(lambda: call.socket.recv(65_536), b""))


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
    received = raw(server, request("GET", "/openai/v1/files/1"))
    assert b"half" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_a_metered_answer_too_large_to_be_held_back_passes_and_is_charged(
    server: Server, provider: Script, alice: Caller
) -> None:
    body = json.dumps({**answer("x" * 9_000_000), "usage": USAGE}).encode()
    provider.answers("POST", CHAT, headers={"Content-Type": "application/json"}, body=body)
    received = ask(server, f"/openai{CHAT}", alice, question())
    assert received.body == body
    assert "x-aipipe-cost" not in received.headers
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


# What nobody should send


def test_a_body_over_the_limit_is_refused(server: Server, alice: Caller) -> None:
    refused = ask(server, f"/openai{CHAT}", alice, question(padding="x" * LIMIT))
    assert (refused.status, refused.json()["error"]["code"]) == (413, "request_too_large")


def test_a_body_in_chunks_over_the_limit_is_refused(server: Server, provider: Script, native: Caller) -> None:
    pieces = (b"x" * 10_000 for _ in range(20))
    assert ask(server, "/openai/v1/files", native, body=pieces).status == 413
    assert provider.requests == []


@pytest.mark.parametrize(
    ("length", "body"),
    [
        ("Content-Length: 100", b"half"),
        ("Transfer-Encoding: chunked", b"ff\r\nhalf"),
        ("Transfer-Encoding: chunked", b"4\r\nbody\r\n"),
    ],
    ids=["half a body", "half a chunk", "no last chunk"],
)
def test_what_is_not_a_whole_body_never_goes_up_as_one(
    server: Server, provider: Script, native: Caller, length: str, body: bytes
) -> None:
    received = raw(server, request("POST", "/openai/v1/files", length, body=body), half_close=True)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert provider.requests == []


AMBIGUOUS = {
    "two lengths of a body": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "two different lengths": ["Content-Length: 4", "Content-Length: 5"],
    "a negative length": ["Content-Length: -1"],
    "a length that is no number": ["Content-Length: 4_0"],
    "chunks within another coding": ["Transfer-Encoding: chunked, gzip"],
    "two hosts": ["Host: y"],
    "a line end within a header": ["X-Odd: a\nX-Injected: b"],
    "a carriage return within a header": ["X-Odd: a\rX-Injected: b"],
    "a header in two lines": ["X-Odd: a\r\n b"],
    "a space before the colon": ["X-Odd : a"],
    "a header without a name": [": a"],
    "no colon": ["X-Odd"],
    "a null byte": ["X-Odd: \x00"],
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_servers_might_read_differently_is_refused(server: Server, native: Caller, lines: list[str]) -> None:
    received = raw(server, request("POST", "/openai/v1/files", *lines, body=b"0\r\n\r\n"), half_close=True)
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert received.count(b"HTTP/1.1 ") == 1


POST = f"POST /openai{CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n".encode()
GARBAGE = {
    "nothing": b"",
    "line ends": b"\r\n" * 100,
    "TLS": bytes.fromhex("16030100b8010000b40303") + bytes(range(173)),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": b"GET /openai/\xff\xfe\xc3\xa9?\xff HTTP/1.1\r\nHost: x\r\nAuthorization: sk-x\r\n\r\n",
    "a null byte in the target": b"GET /%00/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: sk-x\r\n\r\n",
    "an authority without a host": b"GET http://[::1/openai/v1/files HTTP/1.1\r\nHost: x\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "an odd method": b"BREW /openai/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: sk-x\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 20_000,
    "a header without end": b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000,
    "a thousand headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    "an odd host": b"GET / HTTP/1.1\r\nHost: \xff:[x]/@\r\n\r\n",
    "half a body": POST + b"Content-Length: 100\r\n\r\nhalf",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf",
    "no end of chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
    "a chunk of odd size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nbody\r\n0\r\n\r\n",
    "a chunk longer than its size": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nbody\r\n0\r\n\r\n",
    "an odd trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n: x\r\n\r\n",
    "an odd token": b"GET /usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "no form": b"POST /openai/v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100\r\n\r\n--x\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_line_is_no_trouble(server: Server, alice: Caller, garbage: bytes) -> None:
    workers = server.workers()
    received = raw(server, garbage.replace(b"TOKEN", alice.token.encode()), half_close=True)
    assert b"HTTP/1.1 5" not in received
    assert b"Traceback" not in received
    assert ask(server, "/healthz").json() == {"status": "ok"}
    assert server.workers() == workers


def test_secrets_in_the_wrong_places_do_not_get_into_the_log(server: Server, alice: Caller, native: Caller) -> None:
    for secret in (alice.token, native.token):
        ask(server, f"/usage?token={secret}", headers={"Referer": f"https://x.example/?{secret}", "X-Odd": secret})
        raw(server, f"GET /?{secret} HTTP/1.1\r\nAuthorization Bearer {secret}\r\n\r\n".encode())
        raw(server, f"GET / {secret} HTTP/1.1\r\n\r\n".encode())
        raw(server, f"{secret} / HTTP/1.1\r\n\r\n".encode())
        raw(server, f"GET / HTTP/1.1\r\nX{secret} : y\r\n\r\n".encode())
        ask(server, f"/openai{CHAT}", alice, {"model": secret, "messages": secret, secret: 1})
    eventually(lambda: server.log().count(f"POST /openai{CHAT} 400") >= 2, "the log is written")
    server.check_log()


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_outside_of_development_nobody_signs_in_by_typing_an_email(server: Server, accept: str) -> None:
    headers: dict[str, Any] = {"Accept": accept, "Content-Type": "application/x-www-form-urlencoded"}
    headers["Sec-Fetch-Site"] = "same-origin"
    refused = ask(server, "/login", body=b"email=alice%40example.com", headers=headers)
    assert refused.status == 404
    assert b"eyJ" not in refused.body
