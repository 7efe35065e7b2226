"""What nobody should send: it is refused, nothing of it goes up, and the server goes on."""

from __future__ import annotations

import json

import pytest

from e2e.answers import CHAT, question
from e2e.calls import ask, raw, written
from e2e.conftest import BODY_LIMIT, Script
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e


def test_a_body_over_the_limit_is_refused(server: Server, alice: Caller) -> None:
    refused = ask(server, f"/openai{CHAT}", alice, question(padding="x" * BODY_LIMIT))
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
    received = raw(server, written(native, "POST", "/openai/v1/files", length, body=body), half_close=True)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert provider.requests == []


AMBIGUOUS = {
    "two lengths of a body": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "two different lengths": ["Content-Length: 4", "Content-Length: 5"],
    "a negative length": ["Content-Length: -1"],
    "a length that is no number": ["Content-Length: 4_0"],
    "chunks within another coding": ["Transfer-Encoding: chunked, gzip"],
    "two hosts": ["Host: y"],
    "the same host twice": ["Host: x"],
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
    received = raw(server, written(native, "POST", "/openai/v1/files", *lines, body=b"0\r\n\r\n"), half_close=True)
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert received.count(b"HTTP/1.1 ") == 1
    check_shape(received)


def check_shape(received: bytes) -> None:
    """Refusals are alike, whether or not the request ever got to the app."""
    start, _, body = received.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert found["message"] == found["error"]["message"]
    assert found["message"].endswith(".")
    assert found["error"]["type"] == "invalid_request_error"
    assert b"access-control-allow-origin: *" in start.lower()
    assert b"application/json" in start


HEADS = {
    400: b"GET / nonsense\r\n\r\n",
    414: b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
    417: b"GET / HTTP/1.1\r\nHost: x\r\nExpect: hidden\r\n\r\n",
    431: b"GET / HTTP/1.1\r\nHost: x\r\nX-Odd: " + b"a" * 9_000 + b"\r\n\r\n",
    501: b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: hidden\r\n\r\n",
}


@pytest.mark.parametrize("status", HEADS)
def test_a_head_that_cannot_be_read_is_refused_as_everything_is(server: Server, status: int) -> None:
    received = raw(server, HEADS[status], half_close=True)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"hidden" not in received
    assert b"nonsense" not in received
    check_shape(received)


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
    "an odd host": b"GET /docs HTTP/1.1\r\nHost: \xff:[x]/@\r\n\r\n",
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
    eventually(lambda: server.log().count(f'"path":"/openai{CHAT}","status":400') >= 2, "the log is written")
    server.check_log()
