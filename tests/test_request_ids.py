"""Every answer has an id, by which an operator finds it in the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import MakeApp
from fake_provider import FakeProvider
from flask import Flask

from aipipe.forwarding import stranger_answer_headers

SANE = ["7d0a1c1e-5b2f-4a3e-9c1a-000000000001", "req_1.a:b=c", "x", "x" * 64]
ODD = ["", "x" * 65, "a b", 'a"b', "a{b", "ä", "sk-somebodys-key", "AIzaSomebodysKey", "a\tb"]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.mark.parametrize("wanted", SANE)
def test_the_callers_own_id_comes_back(app: Flask, wanted: str) -> None:
    answer = app.test_client().get("/healthz", headers={"X-Request-Id": wanted})

    assert answer.headers.getlist("X-Request-Id") == [wanted]
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("wanted", ODD)
def test_an_odd_one_is_replaced(app: Flask, wanted: str) -> None:
    found = app.test_client().get("/healthz", headers={"X-Request-Id": wanted}).headers["X-Request-Id"]

    assert found.startswith("req_") and len(found) == 28


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/login", 200),
        ("GET", "/aipipe.js", 200),
        ("OPTIONS", "/usage", 204),
        ("GET", "/usage", 401),
        ("GET", "/nowhere", 404),
        ("GET", "/metrics", 404),  # off
        ("PUT", "/healthz", 405),
        ("GET", "/proxy/nonsense", 400),
    ],
)
def test_every_answer_has_one_of_its_own(app: Flask, method: str, path: str, status: int) -> None:
    client = app.test_client()
    answers = [client.open(path, method=method, environ_overrides={"RAW_URI": path}) for _ in range(2)]

    for answer in answers:
        answer.close()
    assert [answer.status_code for answer in answers] == [status, status]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 2


def test_the_providers_id_has_a_name_of_its_own(
    app: Flask, provider: FakeProvider, token: Callable[[str], str]
) -> None:
    provider.answers("GET", "/v1/models", json={}, headers={"x-request-id": "req_theirs"})
    headers = {"Authorization": f"Bearer {token('alice@example.com')}", "X-Request-Id": "mine"}
    answer = app.test_client().get(
        "/openai/v1/models", headers=headers, environ_overrides={"RAW_URI": "/openai/v1/models"}
    )

    answer.close()
    assert answer.headers.getlist("X-Request-Id") == ["mine"]
    assert answer.headers["X-Upstream-Request-Id"] == "req_theirs"
    assert provider.requests[0].header("X-Request-Id") == "mine"


def test_so_has_a_fetched_sites() -> None:
    assert stranger_answer_headers([("X-Request-ID", "theirs")]) == [("X-Upstream-Request-Id", "theirs")]


def test_a_mistake_of_ours_tells_it(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    def stumble() -> str:
        raise ZeroDivisionError

    app.add_url_rule("/stumble", view_func=stumble)
    answer = app.test_client().get("/stumble")

    assert answer.status_code == 500
    assert answer.json["message"].endswith(answer.headers["X-Request-Id"])
    assert answer.headers["X-Request-Id"] in caplog.text
