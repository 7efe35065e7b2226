"""A ledger that can't be written for a while: nothing is spent that it doesn't know of, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import apsw
import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import ask, calling
from e2e.conftest import Script
from e2e.server import Caller, Server

pytestmark = pytest.mark.e2e


@contextmanager
def locked(server: Server) -> Iterator[None]:
    """Somebody else writes to the ledger's file, and takes all the time in the world."""
    server.ledger.ping()  # opens it, which would write
    with closing(apsw.Connection(str(server.folder / "aipipe.db"))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_ledger_refuses_new_requests_and_books_the_old_ones_later(
    server: Server, provider: Script, alice: Caller
) -> None:
    bob = server.caller("bob@example.com")
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("locked"), *end()])
    with calling(server, f"/openai{CHAT}", alice, question(stream=True)) as call:
        provider.reached("locked")
        with locked(server):
            provider.release("locked")
            refused = ask(server, f"/openai{CHAT}", bob, question())
            assert (refused.status, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert refused.headers["retry-after"]
            body = call.received().body
            assert body.endswith(b"data: [DONE]\n\n")
            assert b": aipipe cost=" not in body
            assert [hold.purpose.email for hold in server.ledger.holds()] == [alice.email]
    assert len(provider.requests) == 1
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)
    provider.answers("POST", CHAT, json=answer())
    assert ask(server, f"/openai{CHAT}", bob, question()).json() == answer()
