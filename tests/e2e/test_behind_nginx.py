"""Two servers behind the nginx of docs/operations.md, as it stands there: nothing is buffered, forged or sticky."""

from __future__ import annotations

import getpass
import http.client
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import databases
import pytest
from documented import ROOT, code
from fake_provider import Gate

from e2e.answers import CHAT, COST, answer, end, piece, question
from e2e.calls import Received, ask, calling
from e2e.conftest import Script, Site, beside, running
from e2e.server import HOST, PATIENCE, Caller, Server, eventually, free_port
from e2e.test_access_log import line

pytestmark = pytest.mark.e2e

TARGET = f"/openai{CHAT}"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
FRAME = """
daemon off;
worker_processes 1;
user {user};
pid {folder}/nginx.pid;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


@dataclass(frozen=True)
class Balancer:
    """nginx, for whoever calls a server."""

    port: int
    log: Path


@pytest.fixture(scope="module")
def session_site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    databases.empty(postgres)
    settings = {"AIPIPE_DATABASE_URL": postgres, "AIPIPE_TRUSTED_PROXIES": "1", "WEB_CONCURRENCY": "1"}
    with running(tmp_path_factory.mktemp("here"), **settings) as site:
        yield site


@pytest.fixture(scope="module")
def other(session_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with beside(session_site, tmp_path_factory.mktemp("there")) as server:
        yield server


@pytest.fixture(scope="module")
def balancer(session_site: Site, other: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    if NGINX is None:
        reason = "There is no nginx: install nginx-light."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("nginx")
    found = Balancer(free_port(), folder / "access.log")
    config = folder / "nginx.conf"
    site = here(found, session_site.server, other)
    config.write_text(FRAME.format(folder=folder, user=getpass.getuser(), site=site))
    process = subprocess.Popen([NGINX, "-e", folder / "error.log", "-p", folder, "-c", config])
    try:
        eventually(lambda: answers(found) or process.poll() is not None, "nginx answers")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


def here(balancer: Balancer, one: Server, two: Server) -> str:
    """The configuration that the document shows, with the addresses of this test, and without its certificate."""
    (text,) = [text for text in code(ROOT / "docs" / "operations.md", "nginx") if "upstream" in text]
    places = {
        "10.0.0.11:8787": f"{HOST}:{one.port}",
        "10.0.0.12:8787": f"{HOST}:{two.port}",
        "listen 443 ssl;": f"listen {HOST}:{balancer.port};",
        "/var/log/nginx/aipipe.log": str(balancer.log),
    }
    for there, place in places.items():
        assert text.count(there) == 1, there
        text = text.replace(there, place)
    return re.sub(r"ssl_certificate.*;\n", "", text)


def answers(balancer: Balancer) -> bool:
    try:
        return get(balancer, "/healthz").status == 200
    except OSError:
        return False


def get(place: Any, target: str, caller: Caller | None = None, **headers: str) -> Received:
    return ask(place, target, caller, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_stream_arrives_as_it_is_made(balancer: Balancer, server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("first"), Gate("later"), *end()])
    with calling(balancer, TARGET, alice, question(stream=True)) as call:
        assert b"first" in call.line()
        provider.reached("later")
        provider.release("later")
        assert b"data: [DONE]" in call.received().body
    assert server.entry(alice).cost == COST


def test_who_leaves_is_noticed(balancer: Balancer, server: Server, provider: Script, alice: Caller) -> None:
    provider.answers("POST", CHAT, sse=[piece("first"), Gate("later"), *end()])
    with calling(balancer, TARGET, alice, question(stream=True)) as call:
        assert b"first" in call.line()
        call.leave()
    provider.closed.wait()
    assert server.entry(alice).ended == "partial"


def test_both_servers_get_their_share_under_the_callers_own_request_ids(
    balancer: Balancer, server: Server, other: Server, alice: Caller
) -> None:
    serials = itertools.count(1)

    def both() -> bool:
        name = f"turn-{next(serials)}"
        assert get(balancer, "/usage", alice, X_Request_Id=name).headers["x-request-id"] == name
        return "turn-" in server.log() and "turn-" in other.log()

    eventually(both, "both servers were asked")
    eventually(lambda: "turn-1 " in balancer.log.read_text(), "nginx logs the ids too")


def test_the_callers_address_comes_through_and_cannot_be_forged(
    balancer: Balancer, server: Server, other: Server
) -> None:
    connection = http.client.HTTPConnection(HOST, balancer.port, timeout=PATIENCE, source_address=("127.0.0.9", 0))
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "X-Request-Id": "forged"}
    connection.request("GET", "/healthz", headers={**forged, "Connection": "close"})
    assert connection.getresponse().read()
    connection.close()
    eventually(lambda: "forged" in server.log() + other.log(), "it is logged")
    answered = server if "forged" in server.log() else other
    assert line(answered, "forged")["client"] == "127.0.0.9"


def test_what_one_server_signed_the_other_takes_and_forgets_with_it(
    balancer: Balancer, server: Server, other: Server, alice: Caller
) -> None:
    cookie = server.signed_in(alice)
    page = get(server, "/login", Cookie=cookie).body.decode()
    found = re.search(r'value="(eyJ[\w.-]+)"', page)
    assert found
    token = Caller(alice.email, found[1])
    server.secrets.add(token.token)
    other.secrets.add(token.token)
    assert [get(place, "/usage", token).status for place in (other, balancer, balancer)] == [200] * 3

    reset = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    assert ask(other, "/login/reset", method="POST", body=b"", headers=reset).status == 303
    assert [get(place, "/usage", token).status for place in (server, balancer, balancer)] == [401] * 3


def test_one_server_that_is_down_is_not_missed(
    balancer: Balancer, server: Server, other: Server, provider: Script, alice: Caller
) -> None:
    other.kill()
    try:
        # A POST on a kept connection whose end nginx hasn't seen is a 502: it may have been sent. A GET is tried again.
        assert [get(balancer, "/healthz").status for _ in range(2)] == [200, 200]
        provider.answers("POST", CHAT, json=answer(), times=4)
        assert [ask(balancer, TARGET, alice, question()).status for _ in range(4)] == [200] * 4
    finally:
        other.start()
    assert [entry.cost for entry in server.ledger.entries(alice.email)] == [COST] * 4
