"""Callers who take their time, or all the memory they can get: none of them holds a worker."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from fake_provider import Gate
from wire import chunk, head

from aipipe.pacing import PIECE
from e2e.answers import CHAT, piece, question
from e2e.calls import ask, calling, written
from e2e.conftest import NATIVE_KEY, Site, running
from e2e.server import HOST, PATIENCE, Caller, Server

pytestmark = pytest.mark.e2e

MEGABYTE = 2**20
PAUSE = 0.02
NATIVE = Caller("", NATIVE_KEY)


@pytest.fixture(scope="module")
def strict_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One worker that waits a second for heads, bodies and readers."""
    with running(
        tmp_path_factory.mktemp("strict"),
        WEB_CONCURRENCY="1",
        AIPIPE_CLIENT_TIMEOUT="1",
        AIPIPE_BUDGET={"*": {"limit": 10}},
        GUNICORN_CMD_ARGS="--keep-alive 1",
    ) as site:
        site.server.secrets.add(NATIVE_KEY)
        yield site


@pytest.fixture
def strict(strict_site: Site) -> Iterator[Site]:
    yield strict_site
    strict_site.check()


@contextmanager
def dripping(server: Server, start: bytes, drop: bytes) -> Iterator[socket.socket]:
    """A connection that sends `start`, and then `drop` again and again until the server hangs up."""
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as connection:
        ended = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                while not ended.wait(PAUSE):
                    connection.sendall(drop)

        connection.sendall(start)
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield connection
        finally:
            ended.set()
            thread.join()


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    found = b""
    with suppress(ConnectionError):
        while more := connection.recv(65_536):
            found += more
    return found


HEADS = {
    "a line": (b"GET /", b"a"),
    "headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
    "empty lines": (b"\r\n", b"\r\n"),
    "nothing": (b"", b""),
}


def test_heads_that_drip_are_given_up(strict: Site) -> None:
    with ExitStack() as stack:
        drips = {name: stack.enter_context(dripping(strict.server, *sent)) for name, sent in HEADS.items()}
        for name, connection in drips.items():
            assert b"HTTP/1.1 2" not in rest(connection), name


def post(target: str, *headers: str, caller: Caller = NATIVE) -> bytes:
    return written(caller, "POST", target, *headers)


FORM = "Content-Type: multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
BODIES: dict[str, tuple[str, list[str], bytes, bytes]] = {
    "with a length": ("/openai/v1/files", ["Content-Length: 1000000"], b"", b"x"),
    "in chunks": ("/openai/v1/files", ["Transfer-Encoding: chunked"], b"", b"1\r\nx\r\n"),
    "a chunk's size": ("/openai/v1/files", ["Transfer-Encoding: chunked"], b"", b"0"),
    "a form": ("/openai/v1/audio/transcriptions", [FORM, "Content-Length: 1000000"], PART, b"x"),
    "for the proxy": ("/proxy/http://example.com/", ["Content-Length: 1000000"], b"", b"x"),
    "for a sign-in": ("/token", ["Content-Type: application/json", "Content-Length: 1000"], b"", b" "),
    "nothing": ("/openai/v1/files", ["Content-Length: 4"], b"", b""),
}


def test_bodies_that_drip_are_refused_and_go_nowhere(strict: Site) -> None:
    alice = strict.server.caller()
    with ExitStack() as stack:
        drips = {}
        for name, (target, headers, start, drop) in BODIES.items():
            sent = post(target, *headers, caller=alice if "audio" in target else NATIVE) + start
            drips[name] = stack.enter_context(dripping(strict.server, sent, drop))
        for name, connection in drips.items():
            answer = rest(connection)
            assert answer.startswith(b"HTTP/1.1 408 "), (name, answer)
            error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_slow"), name
    assert strict.provider.requests == []


def test_a_body_at_a_fair_pace_may_take_longer(strict: Site) -> None:
    """Each piece gives it time for the next."""
    strict.provider.answers("POST", "/v1/files", json={})
    pace = threading.Event()

    def pieces() -> Iterator[bytes]:
        for _ in range(12):
            pace.wait(0.1)
            yield b"x" * PIECE

    assert ask(strict.server, "/openai/v1/files", NATIVE, body=pieces()).status == 200
    assert len(strict.provider.requests[0].body) == 12 * PIECE


def unread(server: Server, target: str, caller: Caller, asked: Any = None) -> ExitStack:
    """A call whose answer nobody reads, with little room on the way."""
    stack = ExitStack()
    call = stack.enter_context(calling(server, target, caller, asked))
    call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return stack


ENDLESS = [chunk(b"x" * 60_000)] * 400


def test_who_reads_nothing_is_hung_up_on_and_so_is_the_provider(strict: Site) -> None:
    steps = [head(200, {"Transfer-Encoding": "chunked"}), *ENDLESS, Gate("never")]
    strict.provider.answers("GET", "/v1/files/1", steps=steps)
    with unread(strict.server, "/openai/v1/files/1", NATIVE):
        strict.provider.closed.wait()


def test_who_reads_nothing_of_a_metered_stream_pays_for_what_was_sent(strict: Site) -> None:
    alice = strict.server.caller()
    strict.provider.answers("POST", CHAT, sse=[*[piece("x" * 30_000)] * 400, Gate("never")])
    with unread(strict.server, f"/openai{CHAT}", alice, question(stream=True)):
        strict.provider.closed.wait()
        assert strict.server.entry(alice).ended == "partial"


def test_hundreds_of_slow_callers_do_not_keep_the_next_one_waiting(strict: Site) -> None:
    with ExitStack() as stack:
        for start in itertools.islice(itertools.cycle([b"GET /", post("/openai/v1/files", "Content-Length: 9")]), 300):
            connection = stack.enter_context(socket.create_connection((HOST, strict.server.port), timeout=PATIENCE))
            connection.sendall(start)
        assert ask(strict.server, "/healthz").status == 200


# At the end


def test_a_server_that_is_asked_to_end_does_not_wait_for_idle_connections(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It would for twice as long as the test has patience."""
    server = Server(
        tmp_path_factory.mktemp("idle"), WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS=f"--keep-alive {int(2 * PATIENCE)}"
    )
    server.start()
    with ExitStack() as stack:
        calls = [stack.enter_context(calling(server, "/healthz")) for _ in range(4)]
        assert [call.received().status for call in calls] == [200] * 4
        try:
            with server.ending():
                pass
        except BaseException:
            server.kill()
            raise
    server.check_log()


# Memory


class Watched:
    """A body that is sent piece by piece, and how large the server's worker was meanwhile at most."""

    def __init__(self, server: Server, pieces: Iterable[bytes]) -> None:
        self._worker = server.workers()[0]
        self._pieces = pieces
        self.before = self.most = self._worker.memory_info().rss

    def __iter__(self) -> Iterator[bytes]:
        for one in self._pieces:
            yield one
            self.most = max(self.most, self._worker.memory_info().rss)

    @property
    def grown(self) -> int:
        return self.most - self.before


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(100 * MEGABYTE)}], ids=["in chunks", "with a length"])
def test_a_body_over_the_limit_takes_no_more_memory_than_the_limit(strict: Site, headers: dict[str, str]) -> None:
    body = Watched(strict.server, (b"x" * MEGABYTE for _ in range(100)))
    with socket.create_connection((HOST, strict.server.port), timeout=PATIENCE) as connection:
        told = [f"{name}: {value}" for name, value in headers.items()] or ["Transfer-Encoding: chunked"]
        connection.sendall(post("/openai/v1/files", *told))
        with suppress(ConnectionError):  # the server has had enough
            for one in body:
                connection.sendall(one if headers else b"%x\r\n%b\r\n" % (len(one), one))
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer  # the reset may have overtaken it
    assert body.grown < 80 * MEGABYTE
    assert strict.provider.requests == []


def test_a_body_of_24_megabytes_takes_a_few_times_its_size(strict: Site) -> None:
    strict.provider.answers("POST", "/v1/files", json={})
    body = Watched(strict.server, (b"x" * MEGABYTE for _ in range(24)))
    assert ask(strict.server, "/openai/v1/files", NATIVE, body=body).status == 200
    assert body.grown < 80 * MEGABYTE


def test_a_form_of_24_megabytes_is_never_in_memory(strict: Site) -> None:
    strict.provider.answers("POST", "/v1/audio/transcriptions", status=400, json={"error": {"message": "no"}})
    fields = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % pair
        for pair in ((b"model", b"whisper-1"), (b"response_format", b"verbose_json"))
    )
    body = Watched(strict.server, [fields + PART, *[b"x" * MEGABYTE] * 24, b"\r\n--x--\r\n"])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    alice = strict.server.caller()
    answer = ask(strict.server, "/openai/v1/audio/transcriptions", alice, body=body, headers=headers)
    assert answer.json() == {"error": {"message": "no"}}
    assert len(strict.provider.requests[0].body) > 24 * MEGABYTE
    assert body.grown < 12 * MEGABYTE
