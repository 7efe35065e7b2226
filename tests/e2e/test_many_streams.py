"""A thousand streams at once, and a dashboard beside them."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fake_provider import Gate

from e2e.answers import CHAT, COST, question
from e2e.calls import ask, calling
from e2e.conftest import Site, running
from e2e.server import HOST, PATIENCE, Server, eventually
from e2e.willing import stream

pytestmark = pytest.mark.e2e

STREAMS = 1_000
PEOPLE = 20


@pytest.fixture
def many_files() -> Iterator[None]:
    """Each stream is two sockets of this process: the caller's, and the provider's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * STREAMS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"A process may open {hard} files here, and this takes {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def session_site(tmp_path_factory: pytest.TempPathFactory, many_files: None) -> Iterator[Site]:
    settings = {"ADMIN_EMAILS": "dana+1@example.com", "AIPIPE_BUDGET": {"*": {"limit": 1}}}
    with running(tmp_path_factory.mktemp("many"), **settings) as site:
        yield site


def open_stream(server: Server, token: str) -> socket.socket:
    """A request for a stream, whose answer isn't read yet."""
    body = json.dumps(question(stream=True, max_tokens=20)).encode()
    lines = [f"POST /openai{CHAT} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "Connection: close"]
    connection = socket.create_connection((HOST, server.port), timeout=PATIENCE)
    connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    return connection


def rest(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_while_a_thousand_streams_are_open_dashboards_load_and_then_all_of_them_end_well_and_are_charged(
    site: Site,
) -> None:
    server, provider = site.server, site.provider
    dana = server.caller("dana@example.com")
    callers = [server.caller() for _ in range(PEOPLE)]
    provider.answers("POST", CHAT, steps=stream(Gate("open")), times=STREAMS)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(open_stream(server, callers[number % PEOPLE].token)) for number in range(STREAMS)
        ]
        eventually(lambda: len(server.ledger.holds()) == STREAMS, "all streams are admitted")
        provider.reached("open", STREAMS)
        assert ask(server, "/usage", callers[0]).status == 200
        with calling(server, "/admin", headers={"Accept": "text/html", "Cookie": server.signed_in(dana)}) as page:
            received = page.received()
            assert (received.status, b"<h1" in received.body) == (200, True)
        provider.release("open")
        answers = [rest(connection) for connection in streams]
    assert [one for one in answers if b"HTTP/1.1 200 " not in one or b"data: [DONE]\n\n" not in one] == []
    assert ask(server, "/admin/usage", dana).json()["data"][0]["cost"] == STREAMS // PEOPLE * COST / 1e9
