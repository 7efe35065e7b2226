"""A ledger whose disk is full, or whose file is gone, and back again: nothing is spent that it doesn't know of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import answering, ask, calling
from e2e.conftest import Script, Site, running
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e

Fault = Callable[[Path], "contextmanager[None]"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own, of a megabyte."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Only root can make a disk to fill: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[Site]:
    settings = {"AIPIPE_DATABASE_URL": f"sqlite:///{disk / 'aipipe.db'}"}
    with running(tmp_path_factory.mktemp("gone"), **settings) as site:
        yield site


@contextmanager
def full(database: Path) -> Iterator[None]:
    """Nothing more fits on its disk."""
    filler = database.with_name("filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass
    yield
    filler.unlink()


@contextmanager
def moved_away(database: Path) -> Iterator[None]:
    aside = database.with_name("aside")
    database.rename(aside)
    yield
    aside.rename(database)


@contextmanager
def replaced(database: Path) -> Iterator[None]:
    """Another file stands where it was."""
    with moved_away(database):
        database.write_bytes(b"")
        yield


FAULTS = {"disk full": full, "file moved away": moved_away, "file replaced": replaced}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_without_its_ledger_nothing_is_spent_and_what_was_under_way_is_booked_later(
    server: Server, provider: Script, alice: Caller, disk: Path, fault: Fault
) -> None:
    bob = server.caller("bob@example.com")
    server.ledger.ping()
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("fault"), *end()])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True)) as call:
        provider.reached("fault")
        with fault(disk / "aipipe.db"):
            provider.release("fault")
            refused = ask(server, f"/openai{CHAT}", bob, question())
            assert (refused.status, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
            body = call.received().body
            assert body.endswith(b"data: [DONE]\n\n")
            assert b": aipipe cost=" not in body
    assert len(provider.requests) == 1
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)
    provider.answers("POST", CHAT, json=answer())
    assert ask(server, f"/openai{CHAT}", bob, question()).json() == answer()


def test_a_worker_that_dies_with_what_it_could_not_book_is_replaced_and_its_estimate_is_booked_later(
    server: Server, provider: Script, alice: Caller, disk: Path
) -> None:
    server.ledger.ping()
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("full"), *end()])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True)) as call:
        provider.reached("full")
        with full(disk / "aipipe.db"):
            provider.release("full")
            assert call.received().body.endswith(b"data: [DONE]\n\n")
            (hold,) = server.ledger.holds()
            before = server.workers()
            server.kill_worker(call.socket)
            eventually(lambda: answering(server) not in before, "a new worker has taken its place")
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("partial", hold.grant.estimate)
