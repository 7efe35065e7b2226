"""Two servers, as on two machines, on one PostgreSQL: a budget is a wall for both, and one outlives the other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import databases
import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import Received, answering, ask, calling
from e2e.conftest import Script, Site, beside, running
from e2e.server import PATIENCE, Caller, Server, eventually
from e2e.test_crowds import PRICES, TARGET, Greedy, kinds, whole

pytestmark = pytest.mark.e2e

CROWD = 400
LIMIT = 11_000_000  # nanodollars: five answers of a thousand tokens at 2,000, with their questions
BUDGETS = {"@example.com": {"limit": LIMIT / 1e9}, "@example.org": {"limit": 1}}


@pytest.fixture(scope="module")
def session_site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    databases.empty(postgres)
    settings = {"AIPIPE_DATABASE_URL": postgres, "AIPIPE_PRICES": PRICES, "AIPIPE_BUDGET": BUDGETS}
    with running(tmp_path_factory.mktemp("here"), Greedy(), **settings) as site:
        yield site


@pytest.fixture(scope="module")
def other(session_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with beside(session_site, tmp_path_factory.mktemp("there")) as server:
        yield server


def crowd(servers: list[Server], callers: list[Caller]) -> list[Received | None]:
    """Everybody's answers to requests sent at once, to one server and the next in turn. None: its server hung up."""
    barrier = threading.Barrier(len(callers), timeout=PATIENCE)

    def one(number: int) -> Received | None:
        barrier.wait()
        try:
            return ask(servers[number % len(servers)], TARGET, callers[number], question(max_tokens=1_000))
        except OSError:
            return None

    with ThreadPoolExecutor(len(callers)) as pool:
        return list(pool.map(one, range(len(callers))))


def test_four_hundred_requests_on_two_servers_never_pass_a_budget_that_fits_five(
    server: Server, other: Server, alice: Caller
) -> None:
    found = kinds([one for one in crowd([server, other], [alice] * CROWD) if one])
    assert set(found) <= {200, "budget_exceeded", "rate_limit_exceeded"}
    assert found.total() == CROWD
    entries = server.ledger.entries(alice.email, CROWD)
    assert found[200] == len(entries) >= 5
    assert LIMIT / 2 < sum(entry.cost for entry in entries) <= LIMIT


def test_a_server_that_is_killed_under_load_leaves_books_that_balance_and_no_money_held(
    server: Server, provider: Script, other: Server
) -> None:
    provider.answers("POST", CHAT, steps=[Gate("under way"), whole(answer())], times=40)
    callers = [server.caller("bob@example.org") for _ in range(40)]
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(crowd, [other, server], callers)
        provider.reached("under way", 40)
        other.kill()
        provider.release("under way")
        answers = under_way.result(PATIENCE)
    assert kinds([one for one in answers if one]) == {200: 20}
    eventually(lambda: server.ledger.sweep() or not server.ledger.holds(), "what the dead held is swept")
    server.check_books()
    entries = [entry for caller in callers for entry in server.ledger.entries(caller.email)]
    assert Counter(entry.ended for entry in entries) == {"complete": 20, "partial": 20}
    assert all(entry.cost > 0 for entry in entries)
    other.start()


def cut_off(url: str) -> None:
    """Ends everybody's connections, as a restart of the database does."""
    with databases.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_connections_that_end_under_way_cost_nobody_an_answer(
    server: Server, other: Server, provider: Script, postgres: str
) -> None:
    callers = [server.caller("bob@example.org") for _ in range(60)]
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(crowd, [server, other], callers)
        for already in (10, 20, 30, 40):
            eventually(lambda already=already: len(provider.requests) > already, "requests are under way")
            cut_off(postgres)
        assert kinds([one for one in under_way.result(PATIENCE) if one]) == {200: 60}
    assert [len(server.ledger.entries(caller.email)) for caller in callers] == [1] * 60


def test_while_the_database_is_gone_nothing_is_spent_and_what_was_under_way_is_booked_when_it_is_back(
    server: Server, provider: Script, alice: Caller, postgres: str
) -> None:
    bob = server.caller("bob@example.org")
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("gone"), *end()])
    with calling(server, TARGET, alice, question(stream=True)) as call, ThreadPoolExecutor(1) as pool:
        provider.reached("gone")
        with databases.gone(postgres):
            refused = pool.submit(ask, server, TARGET, bob, question())
            provider.release("gone")
            assert call.received().body.endswith(b"data: [DONE]\n\n")
            assert refused.result(PATIENCE).json()["error"]["code"] == "ledger_unavailable"
    assert len(provider.requests) == 1
    entry = server.entry(alice)
    assert (entry.ended, entry.cost) == ("complete", COST)
    provider.answers("POST", CHAT, json=answer())
    assert ask(server, TARGET, bob, question()).json() == answer()


def test_a_worker_that_dies_while_the_database_is_gone_is_replaced_when_that_is_back(
    server: Server, provider: Script, alice: Caller, postgres: str
) -> None:
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("gone"), *end()])
    with calling(server, TARGET, alice, question(stream=True)) as call:
        provider.reached("gone")
        busy = server.worker_of(call.socket)
        with databases.gone(postgres):
            for worker in set(server.workers()) - {busy}:
                worker.kill()
            eventually(lambda: "This worker goes on trying." in server.log(), "a new worker finds no database")
            provider.release("gone")
            assert call.received().body.endswith(b"data: [DONE]\n\n")
    eventually(lambda: answering(server) != busy, "the new worker answers")
    assert server.entry(alice).cost == COST
