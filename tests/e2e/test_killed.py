"""kill -9, of a worker or of everything, at any step of a request: nobody's money is lost, and none comes for free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fake_provider import Gate
from wire import head

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import Call, ask, calling
from e2e.conftest import Script, Site, running
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("killed")) as site:
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
    body = json.dumps(answer()).encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    provider.answers("POST", CHAT, steps=[Gate("before the head"), head(200, told), body])
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


@pytest.mark.parametrize("step", [before_the_head, in_mid_stream])
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


def test_a_server_that_is_asked_to_end_lets_streams_end_first(server: Server, provider: Script, alice: Caller) -> None:
    with in_mid_stream(server, provider, alice) as call:
        with server.ending():
            provider.release("in mid-stream")
            assert call.received().body.endswith(b"data: [DONE]\n\n")
            call.leave()  # or the server would wait a little for another request
        assert charged(server, alice) == ("complete", COST)
        server.start()
