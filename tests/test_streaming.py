"""Streams at their edges, from a real connection to a real ledger: what is charged when not all of one was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from ledgers import ALICE, open_at
from raw_server import Server, answer, shared_pool
from test_relay import HI, USAGE, charge_at

from aipipe import relay, sse
from aipipe.client import Client
from aipipe.ledger import Ledger
from aipipe.streaming import Stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOLD = b"data: " + orjson.dumps({"id": "c", "choices": [], "usage": USAGE, "padding": "x" * 100}) + b"\n\n"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_at(tmp_path / "ledger.db")
    yield ledger
    assert ledger.balanced()
    ledger.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    shared_pool().close()
    server.close()


def begun(server: Server, ledger: Ledger, said: bytes) -> Stream:
    server.plays(answer(HEAD, said))
    charge = charge_at(server, ledger)
    body = relay.send(shared_pool(), charge, "POST", "/v1/x", [], b"{}", Client({})).body
    assert isinstance(body, Stream)
    return body


def test_the_usage_that_comes_as_the_caller_leaves_is_charged(server: Server, ledger: Ledger) -> None:
    stream = begun(server, ledger, TOLD)
    assert next(stream) == b""
    stream._left = True  # seen by the watch while the last chunk was on its way
    assert list(stream) == []
    assert [entry.cost for entry in ledger.entries(ALICE)] == [210]


def test_an_event_too_long_to_be_read_is_charged_as_if_all_of_it_were_text(
    server: Server, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 80)
    stream = begun(server, ledger, TOLD)
    assert TOLD in b"".join(stream)
    (entry,) = ledger.entries(ALICE)
    assert (entry.cost, entry.ended) == (HI + 10 * 80 // 4, "partial")
