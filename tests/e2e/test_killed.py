"""kill -9, of a worker or of everything, at any step of a request: nobody's money is lost, and none comes for free."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException

import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import Call, ask, calling
from e2e.conftest import Script, Site, running
from e2e.server import PATIENCE, Caller, Server, eventually
from e2e.willing import Willing, whole

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"


CROWD = 16


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("killed"), Willing()) as site:
        yield site


@pytest.fixture(autouse=True)
def afterwards(site: Site) -> Iterator[None]:
    """Whatever happened, the next request is served."""
    yield
    bob = site.server.caller("bob@example.com")
    site.provider.answers("POST", CHAT, json=answer())
    assert ask(site.server, TARGET, bob, question()).json() == answer()
    assert site.server.entry(bob).cost == COST


@contextmanager
def before_the_head(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    """A request that the provider has, and hasn't begun to answer; for all the money that the caller has."""
    provider.answers("POST", CHAT, steps=[Gate("before the head"), *whole(answer())])
    with calling(server, TARGET, caller, question(max_tokens=60_000)) as call:
        provider.reached("before the head")
        yield call


@contextmanager
def in_mid_stream(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("in mid-stream"), *end()])
    with calling(server, TARGET, caller, question(stream=True)) as call:
        assert b"Hello" in call.line()
        provider.reached("in mid-stream")
        yield call


@contextmanager
def in_a_whole_answer(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    """A request whose answer is no stream, and has come by half."""
    told, body = whole(answer())
    provider.answers("POST", CHAT, steps=[told, body[:20], Gate("in a whole answer"), body[20:]])
    with calling(server, TARGET, caller, question()) as call:
        provider.reached("in a whole answer")
        yield call


@contextmanager
def in_a_large_answer(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    """A request whose answer is no stream, is too large for memory, and has all but come."""
    told, body = whole(answer("x" * 9_000_000))
    provider.answers("POST", CHAT, steps=[told, body[:-200], Gate("in a large answer"), body[-200:]])
    with calling(server, TARGET, caller, question()) as call:
        provider.reached("in a large answer")
        yield call


@contextmanager
def read_on_alone(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    """Another request to the same worker as one whose caller has left, while its provider goes on and bills it."""
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("read on alone"), *end()])
    with ExitStack() as stack:
        call = stack.enter_context(calling(server, f"/patient{CHAT}", caller, question(stream=True)))
        assert b"Hello" in call.line()
        provider.reached("read on alone")
        worker = server.worker_of(call.socket)
        call.leave(reset=True)
        while True:
            beside = stack.enter_context(calling(server, "/healthz"))
            assert beside.received().status == 200
            if server.worker_of(beside.socket) == worker:
                break
        yield beside


@contextmanager
def in_line(server: Server, caller: Caller) -> Iterator[Call]:
    """A request that waits for the money that another one holds."""
    held = len(server.ledger.holds())
    with calling(server, TARGET, caller, question(max_tokens=60_000)) as call:
        eventually(lambda: len(server.ledger.holds()) > held, "the request waits in line")
        yield call


@contextmanager
def after_the_end(server: Server, provider: Script, caller: Caller) -> Iterator[Call]:
    """A request whose caller has read all that matters."""
    provider.answers("POST", CHAT, sse=[piece("Hello"), *end(), Gate("after the end")])
    with calling(server, TARGET, caller, question(stream=True)) as call:
        while call.line() != b"data: [DONE]\n":
            pass
        yield call


def estimate(server: Server, caller: Caller) -> int:
    """What the ledger would charge if the caller's only request were never heard of again."""
    (found,) = [hold.grant.estimate for hold in server.ledger.holds() if hold.purpose.email == caller.email]
    return found


def charged(server: Server, caller: Caller) -> tuple[str, int]:
    """How the caller's only entry ended, and its cost: as it stands in the ledger now."""
    (entry,) = server.ledger.entries(caller.email)
    return entry.ended, entry.cost


@pytest.mark.parametrize("step", [before_the_head, in_mid_stream, in_a_whole_answer, in_a_large_answer, read_on_alone])
def test_a_worker_that_dies_with_a_request_leaves_its_estimate_charged(
    server: Server, provider: Script, alice: Caller, step: type
) -> None:
    with step(server, provider, alice) as call:
        expected = estimate(server, alice)
        server.kill_worker(call.socket)
        eventually(lambda: not server.ledger.holds(), "the hold is swept")
        provider.closed.wait()
    assert charged(server, alice) == ("partial", expected)
    assert expected > 0


@pytest.mark.parametrize("sent", [b"", b'{"model": "small", '], ids=["before the body", "in the body"])
def test_a_worker_that_dies_before_it_has_the_request_leaves_nothing(
    server: Server, provider: Script, alice: Caller, sent: bytes
) -> None:
    lines = [f"POST {TARGET} HTTP/1.1", "Host: x", f"Authorization: Bearer {alice.token}", "Content-Length: 100"]
    with calling(server, "/healthz") as call:
        assert call.received().status == 200
        call.socket.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        assert call.socket.recv(65_536).startswith(b"HTTP/1.1 100 Continue")  # it waits for the body now
        call.socket.sendall(sent)
        assert server.ledger.holds() == []
        server.kill_worker(call.socket)
    assert provider.requests == []
    assert server.ledger.entries(alice.email) == []


def test_a_worker_that_dies_with_a_place_in_line_leaves_it_free(
    server: Server, provider: Script, alice: Caller
) -> None:
    with before_the_head(server, provider, alice) as first, in_line_elsewhere(server, alice, first) as second:
        server.kill_worker(second.socket)
        eventually(lambda: len(server.ledger.holds()) == 1, "the place in line is free")
    provider.release("before the head")
    server.check_books()
    assert charged(server, alice) == ("complete", COST)


@contextmanager
def in_line_elsewhere(server: Server, caller: Caller, other: Call) -> Iterator[Call]:
    """A request that waits in line in another worker than the other call's."""
    while True:
        with in_line(server, caller) as call:
            if server.worker_of(call.socket) != server.worker_of(other.socket):
                yield call
                return
        eventually(lambda: len(server.ledger.holds()) == 1, "the place in line is free")


def test_a_worker_that_dies_after_the_end_of_a_stream_has_charged_it(
    server: Server, provider: Script, alice: Caller
) -> None:
    with after_the_end(server, provider, alice) as call:
        server.kill_worker(call.socket)
        assert charged(server, alice) == ("complete", COST)
        provider.closed.wait()


def test_a_worker_that_dies_after_an_answer_has_charged_it(server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, json=answer())
    with calling(server, TARGET, alice, question()) as call:
        assert call.received().json() == answer()
        server.kill_worker(call.socket)
        assert charged(server, alice) == ("complete", COST)


def test_who_has_read_the_end_of_a_stream_finds_its_cost_in_usage(
    server: Server, provider: Script, alice: Caller
) -> None:
    with after_the_end(server, provider, alice):
        assert ask(server, "/usage", alice).json()["cost"] == COST / 1e9
        provider.release("after the end")


def test_a_server_that_dies_with_everything_charges_it_when_it_starts_again(server: Server, provider: Script) -> None:
    early, middle, late = server.caller(), server.caller("bob@example.com"), server.caller("charlie@example.com")
    with (
        before_the_head(server, provider, early),
        in_line(server, early),
        in_mid_stream(server, provider, middle),
        after_the_end(server, provider, late),
    ):
        holds = server.ledger.holds()
        assert [hold.purpose.email for hold in holds] == [early.email, early.email, middle.email]
        server.kill()
        for _ in range(3):
            provider.closed.wait()
        server.start()
        # Whoever answers has swept before.
        assert server.ledger.holds() == []
    assert charged(server, early) == ("partial", holds[0].grant.estimate)
    assert charged(server, middle) == ("partial", holds[2].grant.estimate)
    assert charged(server, late) == ("complete", COST)


def test_a_server_that_dies_under_load_has_charged_every_answer_that_was_seen_and_no_other_twice(
    site: Site, server: Server, provider: Script
) -> None:
    callers = [server.caller() for _ in range(CROWD)]
    seen: Counter[str] = Counter()
    dead = threading.Event()

    def ask_on(caller: Caller) -> None:
        """Again and again, in a stream and whole."""
        while not dead.is_set():
            with suppress(OSError, HTTPException):
                received = ask(server, TARGET, caller, question(stream=seen[caller.email] % 2 == 0, max_tokens=20))
                if received.status == 200:
                    assert received.body.endswith((b"data: [DONE]\n\n", b"}"))
                    seen[caller.email] += 1

    with ThreadPoolExecutor(CROWD) as pool:
        under_way = [pool.submit(ask_on, caller) for caller in callers]
        eventually(lambda: min(seen[caller.email] for caller in callers) >= 5, "everybody has asked some times")
        server.kill()
        dead.set()
        for one in under_way:
            one.result(PATIENCE)
    server.start()
    site.balance()
    for caller in callers:
        complete = [entry for entry in server.ledger.entries(caller.email, 10_000) if entry.ended == "complete"]
        assert len(complete) >= seen[caller.email]


def test_a_server_that_is_asked_to_end_lets_streams_end_first(server: Server, provider: Script, alice: Caller) -> None:
    with in_mid_stream(server, provider, alice) as call:
        with server.ending():
            provider.release("in mid-stream")
            assert call.received().body.endswith(b"data: [DONE]\n\n")
            call.leave()  # or the server would wait a little for another request
        assert charged(server, alice) == ("complete", COST)
        server.start()
