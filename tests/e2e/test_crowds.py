"""Many requests at once on several workers: a budget is a wall, and whoever fits behind it gets through."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest
from fake_provider import Gate, Step
from wire import Received as Request
from wire import head

from e2e.answers import CHAT, USAGE, answer, question
from e2e.calls import Received, ask
from e2e.conftest import Script, Site, running
from e2e.server import PATIENCE, Caller, Server, eventually

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"
CROWD = 200
LIMIT = 7_000_000  # nanodollars: three answers of a thousand tokens at 2,000, with their questions
PRICES = {"openai/small": {"input_mtok": 1, "output_mtok": 2}, "openai/dear": {"input_mtok": 1, "output_mtok": 20}}
BUDGETS = {
    "@example.com": {"limit": LIMIT / 1e9},
    "@example.org": {"limit": 0.1},
    "@example.net": {"limit": 1, "rpm": 5},
}


class Greedy(Script):
    """Where nothing else is planned it writes as much as it may, to the very cap. What it reads is plain English."""

    rates = MappingProxyType({"small": (1_000, 2_000), "dear": (1_000, 20_000)})

    def _next(self, request: Request) -> list[Step]:
        if (request.method, request.path) in self._script:
            return super()._next(request)
        usage = {"prompt_tokens": len(request.body) // 4, "completion_tokens": request.json()["max_tokens"]}
        return [whole({**answer(), "usage": usage})]


def whole(body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    return head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))}) + content


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"WEB_CONCURRENCY": "4", "AIPIPE_PRICES": PRICES, "AIPIPE_BUDGET": BUDGETS}
    with running(tmp_path_factory.mktemp("crowds"), Greedy(), **settings) as site:
        yield site


def crowd(server: Server, callers: list[Caller], **asked: object) -> list[Received]:
    """Everybody's answers to requests that are sent all at once."""
    barrier = threading.Barrier(len(callers), timeout=PATIENCE)

    def one(caller: Caller) -> Received:
        barrier.wait()
        return ask(server, TARGET, caller, question(**asked))

    with ThreadPoolExecutor(len(callers)) as pool:
        return list(pool.map(one, callers))


def kinds(answers: list[Received]) -> Counter[int | str]:
    """How often there was which status, and which type of error."""
    return Counter(200 if one.status == 200 else one.json()["error"]["type"] for one in answers)


def spent(server: Server, caller: Caller) -> int:
    return sum(entry.cost for entry in server.ledger.entries(caller.email, limit=CROWD))


def test_two_hundred_requests_never_pass_a_budget_that_fits_three(server: Server, alice: Caller) -> None:
    answers = crowd(server, [alice] * CROWD, max_tokens=1_000)
    found = kinds(answers)
    assert set(found) <= {200, "budget_exceeded", "rate_limit_exceeded"}
    assert found[200] >= 3
    assert found[200] == len(server.ledger.entries(alice.email, limit=CROWD))
    assert LIMIT / 2 < spent(server, alice) <= LIMIT
    uncapped = [one for one in answers if one.status == 200 and "x-aipipe-capped" not in one.headers]
    assert len(uncapped) == 3
    assert all(one.headers["x-should-retry"] == "false" for one in answers if kinds([one])["budget_exceeded"])
    assert all("retry-after" in one.headers for one in answers if kinds([one])["rate_limit_exceeded"])


def test_one_persons_crowd_is_not_another_ones_trouble(server: Server, alice: Caller) -> None:
    bob = server.caller("bob@example.com")
    answers = crowd(server, [alice] * 60 + [bob] * 3, max_tokens=1_000)
    assert kinds(answers[60:]) == {200: 3}
    assert spent(server, alice) <= LIMIT
    assert spent(server, bob) <= LIMIT


def test_an_apps_crowd_never_passes_its_cap_and_leaves_the_rest_of_the_budget(server: Server) -> None:
    dana = server.caller("dana@example.org")
    app = server.app_of(dana, "https://quiz.example.com", cap=LIMIT)
    answers = crowd(server, [app] * 60 + [dana], max_tokens=1_000)
    assert kinds(answers[60:]) == {200: 1}
    found = kinds(answers[:60])
    assert set(found) <= {200, "budget_exceeded", "rate_limit_exceeded"}
    assert found[200] >= 3
    entries = server.ledger.entries(dana.email, limit=CROWD)
    of_the_app = sum(entry.cost for entry in entries if entry.app == "https://quiz.example.com")
    assert LIMIT / 2 < of_the_app <= LIMIT
    [allowed] = server.ledger.apps.allowed(dana.email)
    assert allowed.spent == of_the_app
    left = min(float(one.headers["x-aipipe-remaining"]) for one in answers[:60] if one.status == 200)
    assert left == (LIMIT - of_the_app) / 1e9


def test_of_a_crowd_so_many_pass_in_a_minute_as_the_budget_says_on_all_workers_together(server: Server) -> None:
    limited = server.caller("alice@example.net")
    answers = crowd(server, [limited] * 40, max_tokens=16)
    assert kinds(answers) == {200: 5, "rate_limit_exceeded": 35}
    assert {1 <= int(one.headers["retry-after"]) <= 60 for one in answers if one.status == 429} == {True}
    assert len(server.ledger.entries(limited.email)) == 5


def test_ten_parallel_calls_from_a_dime_all_get_a_whole_answer_in_line_if_need_be(
    server: Server, provider: Script
) -> None:
    charlie = server.caller("charlie@example.org")
    provider.answers("POST", CHAT, steps=[Gate("full"), whole(answer())], times=10)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(crowd, server, [charlie] * 10, model="dear")
        provider.reached("full", 4)
        eventually(lambda: len(server.ledger.holds()) == 10, "the others wait in line")
        assert len([hold for hold in server.ledger.holds() if hold.grant.amount]) == 4
        provider.release("full")
        answers = under_way.result(PATIENCE)
    assert kinds(answers) == {200: 10}
    assert all(request.json()["max_completion_tokens"] >= 1_024 for request in provider.requests)
    each = USAGE["prompt_tokens"] * 1_000 + USAGE["completion_tokens"] * 20_000
    assert [entry.cost for entry in server.ledger.entries(charlie.email)] == [each] * 10
