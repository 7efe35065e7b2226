"""`/token`: a Google credential for an AI Pipe token, through the app."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fake_google
import pytest
from conftest import SECRET, MakeApp
from fake_google import CLIENT_ID, credential
from fake_provider import FakeProvider
from flask.testing import FlaskClient

from aipipe import nonces
from aipipe.google import Certificates, Google

KEY = fake_google.key("today")
Ask = Callable[[FlaskClient, str], Any]

# Every way to hand a credential over.
WAYS: dict[str, Ask] = {
    "query": lambda client, it: client.get("/token", query_string={"credential": it}),
    "form": lambda client, it: client.post("/token", data={"credential": it, "g_csrf_token": "of Google's own page"}),
    "multipart": lambda client, it: client.post(
        "/token", data={"credential": it}, content_type="multipart/form-data; boundary=b"
    ),
    "json": lambda client, it: client.post("/token", json={"credential": it}),
}


@pytest.fixture
def client(make_app: MakeApp, provider: FakeProvider) -> FlaskClient:
    """Of an app that asks `provider` for Google's keys."""
    app = make_app(GOOGLE_CLIENT_ID=CLIENT_ID)
    google = Google(CLIENT_ID, Certificates(f"{provider.url}/certs"))
    app.extensions["aipipe"] = replace(app.extensions["aipipe"], google=google)
    return app.test_client()


@pytest.fixture
def published(provider: FakeProvider) -> None:
    provider.answers("GET", "/certs", json=fake_google.certificates(KEY), headers={"Cache-Control": "max-age=9"})


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("way", WAYS)
def test_a_credential_becomes_a_token_that_works(client: FlaskClient, way: str) -> None:
    answer = WAYS[way](client, credential(KEY))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    told = answer.get_json()
    assert {name: told[name] for name in ("email", "name", "sub")} == {
        "email": "alice@example.com",
        "name": "Alice Example",
        "sub": "110169484474386276334",
    }
    assert told.keys() == {"token", "email", "sub", "name", "given_name", "family_name", "picture"}
    usage = client.get("/usage", headers={"Authorization": told["token"]})
    assert usage.get_json()["email"] == "alice@example.com"


@pytest.mark.usefixtures("published")
def test_a_credential_of_our_own_sign_in_page_is_good_there_alone(client: FlaskClient) -> None:
    ours, theirs = nonces.make(SECRET), nonces.make("another secret of 32 characters!")
    assert client.post("/token", data={"credential": credential(KEY, nonce=ours)}).status_code == 401
    assert client.post("/token", data={"credential": credential(KEY, nonce=theirs)}).status_code == 200


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_says_nothing_of_the_credential(
    client: FlaskClient, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    stale = credential(KEY, exp=1)
    with caplog.at_level(logging.DEBUG):
        answer = WAYS[way](client, stale)
    assert answer.status_code == 401
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json()["error"]["type"] == "authentication_error"
    for part in stale.split("."):
        assert part not in answer.get_data(as_text=True)
        assert part not in "".join(record.getMessage() for record in caplog.records if record.name[:6] == "aipipe")


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "GET"},
        {"method": "GET", "query_string": "credential="},
        {"method": "GET", "query_string": "code=1&code_verifier=2"},
        {"method": "POST"},
        {"method": "POST", "query_string": {"credential": credential(KEY)}},
        {"method": "POST", "data": {"code": "1", "code_verifier": "2"}},
        {"method": "POST", "json": {}},
        {"method": "POST", "json": {"credential": None}},
        {"method": "POST", "json": {"credential": [credential(KEY)]}},
        {"method": "POST", "json": [credential(KEY)]},
        {"method": "POST", "data": b"{", "content_type": "application/json"},
        {"method": "POST", "data": b"\xff\xfe", "content_type": "application/json"},
        {"method": "POST", "data": credential(KEY), "content_type": "text/plain"},
        {"method": "POST", "data": b"--b", "content_type": "multipart/form-data; boundary=b"},
    ],
    ids=lambda request_: str(request_)[:60],
)
def test_without_a_credential_the_answer_says_what_to_send(client: FlaskClient, request_: dict[str, Any]) -> None:
    answer = client.open("/token", **request_)
    assert answer.status_code == 400
    assert "AI Pipe" in answer.get_json()["message"]


@pytest.mark.parametrize("way", WAYS)
def test_unreachable_keys_are_not_our_mistake(client: FlaskClient, provider: FakeProvider, way: str) -> None:
    provider.answers("GET", "/certs", status=500)
    answer = WAYS[way](client, credential(KEY))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "sign_in_unavailable")


@pytest.mark.parametrize("way", WAYS)
def test_without_a_client_id_sign_in_is_off(make_app: MakeApp, way: str) -> None:
    answer = WAYS[way](make_app().test_client(), credential(KEY))
    assert answer.status_code == 503
    assert "GOOGLE_CLIENT_ID" in answer.get_json()["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(client: FlaskClient, method: str) -> None:
    answer = client.open("/token", method=method)
    assert answer.status_code == 405
    assert {"GET", "POST"} <= set(answer.headers["Allow"].replace(" ", "").split(","))
