"""Rate limits: counted by all workers together, in the ledger's database or in a real Redis."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeApp
from fake_provider import FakeProvider
from ledgers import Clock, open_at

from aipipe import throttle
from aipipe.errors import ConfigError, LedgerUnavailable, RateLimited
from aipipe.ledger import Ledger
from aipipe.ledger.visits import TIDY_EVERY
from aipipe.throttle import REDIS_PAUSE, Throttle, client

REDIS = "redis://127.0.0.1:6379"
WHAT = "requests of yours"
ALICE, BOB = "alice@example.com", "bob@example.com"
PATIENCE = 10.0
CHAT = {"model": "gpt-4.1-nano", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}

Worker = Callable[[], Throttle]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledgers(store: str, clock: Clock) -> Iterator[Callable[[], Ledger]]:
    """Opens the same database again and again, as workers do."""
    opened: list[Ledger] = []

    def another() -> Ledger:
        opened.append(open_at(store, clock))
        return opened[-1]

    yield another
    for ledger in opened:
        ledger.close()


@pytest.fixture
def make(ledgers: Callable[[], Ledger]) -> Iterator[Callable[..., Throttle]]:
    made: list[Throttle] = []

    def another(**options: Any) -> Throttle:
        made.append(Throttle(ledgers().visits, **options))
        return made[-1]

    yield another
    for one in made:
        one.close()


@pytest.fixture
def worker(make: Callable[..., Throttle], clock: Clock) -> Worker:
    """Makes throttles that count in the ledger."""
    return lambda: make(clock=clock)


@pytest.fixture
def redis_worker(make: Callable[..., Throttle], monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Makes throttles that count in Redis, under names of this test's own, which are gone afterwards."""
    with closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", 6379)):
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"There is no Redis at {REDIS}.")
    monkeypatch.setattr(throttle, "PREFIX", f"aipipe-test-{time.time_ns()}")
    yield lambda: make(redis=REDIS)
    left = throttle.connect(REDIS)
    left.reset()
    left.storage.close()


@pytest.fixture(params=["worker", "redis_worker"])
def anywhere(request: pytest.FixtureRequest, store: str) -> Worker:
    """Makes throttles of one kind or the other."""
    made: Worker = request.getfixturevalue(request.param)
    return made


def passes(limited: Throttle, who: str = ALICE, most: int = 3) -> bool:
    try:
        limited.count(WHAT, who, most)
    except RateLimited:
        return False
    return True


def test_so_many_pass_in_a_minute_whichever_worker_they_come_to(anywhere: Worker) -> None:
    first, second = anywhere(), anywhere()
    assert [passes(one) for one in (first, second, first, second, first)] == [True] * 3 + [False] * 2
    assert passes(second, BOB)


def test_a_crowd_that_comes_at_once_passes_to_the_number(anywhere: Worker) -> None:
    workers = [anywhere() for _ in range(3)]
    with ThreadPoolExecutor(9) as threads:
        found = list(threads.map(lambda number: passes(workers[number % 3], most=20), range(60)))
    assert sum(found) == 20


def test_a_refusal_says_who_how_many_and_when_again(anywhere: Worker) -> None:
    limited = anywhere()
    assert passes(limited, most=1)
    with pytest.raises(RateLimited, match=r"AI Pipe allows 1 requests of yours a minute. Try again in \d+ s\.") as told:
        limited.count(WHAT, ALICE, 1)
    assert 1 <= int(told.value.headers["Retry-After"]) <= 60


def test_a_minute_slides_and_refusals_do_not_count(worker: Worker, clock: Clock) -> None:
    limited, other = worker(), worker()
    for seconds, expected in ((0, True), (30, True), (0, True), (0, False), (29, False), (1, True), (0, False)):
        clock.now += seconds
        assert passes(limited) is passes(other, BOB) is expected
    with pytest.raises(RateLimited) as told:
        other.count(WHAT, ALICE, 3)
    assert told.value.headers["Retry-After"] == "30"


def test_a_flood_of_refusals_costs_the_store_nothing(
    ledgers: Callable[[], Ledger], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = ledgers().visits
    limited = Throttle(visits, clock=clock)
    assert [passes(limited, most=1) for _ in range(2)] == [True, False]
    monkeypatch.setattr(visits, "_database", None)
    assert [passes(limited, most=1) for _ in range(99)] == [False] * 99


def test_not_everybody_who_was_refused_is_remembered_for_ever(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST_REFUSED", 5)
    limited = worker()
    for number in range(12):
        assert [passes(limited, str(number), most=1) for _ in range(2)] == [True, False]
    assert len(limited._refused) <= 5


def test_nobody_is_told_to_wait_for_more_than_a_minute_however_long_the_look_took(
    ledgers: Callable[[], Ledger], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = ledgers().visits

    def somebody_else_came_first(key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        clock.now += 5
        visits.enter(key, limit, expiry, amount)
        return False

    monkeypatch.setattr(visits, "acquire_entry", somebody_else_came_first)
    with pytest.raises(RateLimited) as caught:
        Throttle(visits, clock=clock).count("requests", ALICE, 1)
    assert caught.value.headers["Retry-After"] == "60"


def test_visits_that_have_expired_are_thrown_away(ledgers: Callable[[], Ledger], clock: Clock) -> None:
    visits = ledgers().visits
    for number in range(4 * TIDY_EVERY):
        clock.now += 1
        visits.enter(str(number), 1, 60)
    assert 60 <= (visits.reset() or 0) <= 60 + TIDY_EVERY


def test_the_ledger_is_a_whole_storage_for_limits(ledgers: Callable[[], Ledger], clock: Clock) -> None:
    visits = ledgers().visits
    assert (visits.incr("key", 60), visits.incr("key", 30, 2), visits.get("key")) == (1, 3, 3)
    assert visits.get_expiry("key") == clock.now + 30
    assert visits.get_moving_window("key", 9, 60) == (clock.now - 30, 3)
    visits.clear("key")
    assert (visits.get("key"), visits.get_moving_window("key", 9, 60)[1], visits.check()) == (0, 0, True)


# At once


def test_so_many_are_there_at_once_on_all_workers_together(worker: Worker) -> None:
    first, second = worker(), worker()
    leave = first.enter(WHAT, ALICE, 2, 90)
    second.enter(WHAT, ALICE, 2, 90)
    for one in (first, second):
        with pytest.raises(RateLimited, match="AI Pipe allows 2 requests of yours at once"):
            one.enter(WHAT, ALICE, 2, 90)
    leave()
    leave()
    second.enter(WHAT, ALICE, 2, 90)
    with pytest.raises(RateLimited):
        first.enter(WHAT, ALICE, 2, 90)
    first.enter(WHAT, BOB, 2, 90)


def test_the_place_of_a_worker_that_died_is_free_when_its_lease_is_over(worker: Worker, clock: Clock) -> None:
    worker().enter(WHAT, ALICE, 1, 90)
    clock.now += 89
    with pytest.raises(RateLimited):
        worker().enter(WHAT, ALICE, 1, 90)
    clock.now += 1
    worker().enter(WHAT, ALICE, 1, 90)


def test_who_leaves_while_the_ledger_is_away_leaves_all_the_same(
    ledgers: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = ledgers().visits
    leave = Throttle(visits).enter(WHAT, ALICE, 1, 90)

    def away(number: int) -> None:
        raise LedgerUnavailable

    monkeypatch.setattr(visits, "leave", away)
    leave()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8.8", "8.8.8.9", False),
        ("2606:4700::1", "2606:4700::ffff:2", True),
        ("2606:4700::1", "2606:4700:0:1::1", False),
        ("", None, True),
    ],
)
def test_whose_an_address_is(one: str, other: str | None, same: bool) -> None:
    assert (client(one) == client(other)) is same


# Redis


def test_without_redis_the_ledger_counts_and_redis_is_asked_again_after_a_while(
    make: Callable[..., Throttle], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    limited = make(redis=f"redis://:hidden@127.0.0.1:{port}", clock=clock)
    assert [passes(limited) for _ in range(4)] == [True] * 3 + [False]
    assert caplog.text.count("Redis does not answer") == 1
    clock.now += REDIS_PAUSE
    assert passes(limited, BOB)
    assert caplog.text.count("Redis does not answer") == 2
    assert "hidden" not in caplog.text


def test_a_redis_that_is_silent_is_not_waited_for(
    make: Callable[..., Throttle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "REDIS_SECONDS", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        limited = make(redis=f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert passes(limited)


def test_without_its_package_redis_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"AIPIPE_REDIS_URL needs the package redis: pip install"):
        throttle.connect(REDIS)


# What is counted


def asking(app: Any, token: str, path: str = "/openai/v1/chat/completions") -> Any:
    client = app.test_client()
    headers = {"Authorization": f"Bearer {token}"}
    environ = {"RAW_URI": path}
    if path.endswith("/models"):
        return client.get(path, headers=headers, environ_overrides=environ, buffered=True)
    return client.post(path, json=CHAT, headers=headers, environ_overrides=environ, buffered=True)


def test_every_request_on_the_shared_key_counts_whatever_the_provider_says_and_whichever_worker(
    make_app: MakeApp, provider: FakeProvider, token: Callable[[str], str]
) -> None:
    provider.answers("POST", "/v1/chat/completions", status=400, json={"error": {"message": "no"}})
    provider.answers("POST", "/v1/chat/completions", status=503, json={})
    provider.answers("GET", "/v1/models", json={"data": []}, times=2)
    budget = {"*": {"limit": 1, "rpm": 3}, BOB: {"limit": 1}}
    first, second = (make_app(AIPIPE_BUDGET=budget) for _ in range(2))
    assert [asking(app, token(ALICE)).status_code for app in (first, second)] == [400, 503]
    assert asking(first, token(ALICE), "/openai/v1/models").status_code == 200
    for app in (first, second):
        refused = asking(app, token(ALICE))
        assert (refused.status_code, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert asking(second, token(BOB), "/openai/v1/models").status_code == 200


def test_who_has_no_rpm_costs_nothing(
    make_app: MakeApp, provider: FakeProvider, token: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answers("GET", "/v1/models", json={"data": []})
    app = make_app()
    monkeypatch.setattr(app.extensions["aipipe"].throttle, "count", None)
    assert asking(app, token(ALICE), "/openai/v1/models").status_code == 200


SIGN_INS: dict[str, dict[str, Any]] = {
    "/login": {"data": {"email": ALICE}, "headers": {"Sec-Fetch-Site": "same-origin"}, "base_url": "http://localhost"},
    "/login/google": {"data": {"credential": "made.up.x"}},
    "/token": {"json": {"credential": "made.up.x"}},
}


@pytest.mark.parametrize(("path", "asked"), SIGN_INS.items(), ids=SIGN_INS)
def test_from_one_address_one_signs_in_so_often(make_app: MakeApp, path: str, asked: dict[str, Any]) -> None:
    app = make_app(dev=True, GOOGLE_CLIENT_ID="client-id", AIPIPE_SIGN_INS_PER_MINUTE=2)
    found = [app.test_client().post(path, **asked) for _ in range(3)]
    assert found[0].status_code == found[1].status_code != 429
    assert found[2].status_code == 429
    assert "2 sign-ins from your address a minute" in found[2].text
    elsewhere = app.test_client().post(path, environ_overrides={"REMOTE_ADDR": "192.0.2.7"}, **asked)
    assert elsewhere.status_code == found[0].status_code


def test_the_credential_in_a_query_is_limited_too(make_app: MakeApp) -> None:
    app = make_app(GOOGLE_CLIENT_ID="client-id", AIPIPE_SIGN_INS_PER_MINUTE=1)
    found = [app.test_client().get("/token?credential=made.up.x").status_code for _ in range(2)]
    assert found == [401, 429]


def test_bad_tokens_are_refused_with_429_and_good_ones_from_the_same_address_pass(
    make_app: MakeApp, token: Callable[[str], str]
) -> None:
    app = make_app(AIPIPE_BAD_TOKENS_PER_MINUTE=2)

    def status(given: str) -> int:
        return int(app.test_client().get("/usage", headers={"Authorization": f"Bearer {given}"}).status_code)

    assert [status(f"guess-{number}") for number in range(4)] == [401, 401, 429, 429]
    assert status(token(ALICE)) == 200
