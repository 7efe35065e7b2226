"""`/metrics` is right with several workers, whoever of them dies, and its dollars are the ledger's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_provider import Gate
from prometheus_client.parser import text_string_to_metric_families

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import ask, calling
from e2e.conftest import Script, Site, running
from e2e.server import Caller, Server, eventually

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"
PASSWORD = "the-password-of-prometheus"
MINE = {"Authorization": f"Bearer {PASSWORD}"}
SMALL = {"provider": "openai", "model": "small"}


@pytest.fixture(scope="module")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"AIPIPE_METRICS_TOKEN": PASSWORD, "AIPIPE_LOG_EMAILS": "1"}
    with running(tmp_path_factory.mktemp("metrics"), **settings) as site:
        yield site


def counted(server: Server, name: str, **labels: str) -> float:
    """What `/metrics` says, summed over the labels that aren't given."""
    text = ask(server, "/metrics", headers=MINE).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def dollars(server: Server) -> float:
    """What the ledger's entries come to."""
    return sum(entry.cost for caller in EVERYONE for entry in server.ledger.entries(caller.email)) / 1e9


EVERYONE: list[Caller] = []


@pytest.fixture
def someone(alice: Caller) -> Caller:
    EVERYONE.append(alice)
    return alice


def test_only_its_password_opens_it(server: Server, alice: Caller) -> None:
    assert ask(server, "/metrics").status == 401
    assert ask(server, "/metrics", alice).status == 401
    assert ask(server, "/metrics", headers=MINE).status == 200


def test_what_all_workers_counted_adds_up(server: Server, provider: Script, someone: Caller) -> None:
    before = counted(server, "aipipe_requests_total", route="gateway", status="200")
    provider.answers("POST", CHAT, json=answer(), times=8)
    for other in server.workers():
        other.suspend()  # so that the next connections are all for one worker
        try:
            for _ in range(4):
                assert ask(server, TARGET, someone, question()).status == 200
        finally:
            other.resume()

    assert counted(server, "aipipe_requests_total", route="gateway", status="200") == before + 8
    assert counted(server, "aipipe_calls_total", provider="openai", ended="complete") == 8
    assert counted(server, "aipipe_tokens_total", direction="input", **SMALL) == 8 * 10
    assert counted(server, "aipipe_tokens_total", direction="output", **SMALL) == 8 * 20
    assert counted(server, "aipipe_first_byte_seconds_count", provider="openai") == 8
    assert counted(server, "aipipe_cost_dollars_total", **SMALL) == dollars(server) == 8 * COST / 1e9


def test_refusals_are_counted_by_kind(server: Server, provider: Script, someone: Caller) -> None:
    provider.answers("POST", CHAT, status=401, json={"error": {"message": "no such key"}})
    assert ask(server, "/usage").status == 401
    assert ask(server, TARGET, someone, question()).status == 401

    assert counted(server, "aipipe_errors_total", kind="invalid_token") >= 1
    assert counted(server, "aipipe_errors_total", kind="provider_error") == 1
    assert counted(server, "aipipe_provider_errors_total", provider="openai", status="401") == 1
    assert counted(server, "aipipe_calls_total", ended="released") == 1


def test_a_killed_worker_keeps_its_counts_and_leaves_no_stream_open(
    server: Server, provider: Script, someone: Caller
) -> None:
    requests = counted(server, "aipipe_requests_total")
    provider.answers("POST", CHAT, sse=[piece("Hello"), Gate("open"), *end()])
    with calling(server, TARGET, someone, question(stream=True)) as call:
        assert b"Hello" in call.line()
        provider.reached("open")
        assert counted(server, "aipipe_open_streams", provider="openai") == 1
        assert counted(server, "aipipe_holds") == 1
        assert counted(server, "aipipe_held_dollars") > 0
        server.kill_worker(call.socket)
        eventually(lambda: counted(server, "aipipe_open_streams") == 0, "nothing counts as open")
    provider.release("open")
    server.check_books()

    assert counted(server, "aipipe_holds") == 0
    assert counted(server, "aipipe_requests_total") > requests
    eventually(lambda: counted(server, "aipipe_cost_dollars_total", **SMALL) == dollars(server), "what is swept counts")


def test_counts_go_on_after_a_restart(server: Server) -> None:
    cost = counted(server, "aipipe_cost_dollars_total")
    server.kill()
    server.start()

    assert counted(server, "aipipe_cost_dollars_total") == cost > 0
    assert len(list((server.folder / "metrics").glob("*_past.db"))) == 2


def test_the_log_names_people_where_that_is_wanted(server: Server, alice: Caller) -> None:
    def lines() -> list[Any]:
        return [json.loads(line) for line in server.log().splitlines() if '"path":"/usage"' in line]

    assert ask(server, "/usage", alice).status == 200
    eventually(lambda: alice.email in [line.get("email") for line in lines()], "the line has the email")
