"""Pages for people: who may see them, what they show, and what they never let run."""

from __future__ import annotations

import gzip
import hashlib
import re
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from urllib.parse import urljoin

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient

from aipipe import addresses, assets
from aipipe.ledger import Grant, Purpose, Usages

ALICE = "alice@example.com"
HOSTILE = "<script>alert(1)</script>"
OURS = {"Sec-Fetch-Site": "same-origin"}
PAGE = {"Accept": "text/html"}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(dev=True, AIPIPE_PUBLIC_URL=None)


@pytest.fixture
def alice(app: Flask) -> FlaskClient:
    return signed_in(app, ALICE)


def signed_in(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/login", data={"email": email}, headers=OURS).status_code == 303
    return client


def spend(app: Flask, email: str, cost: int, *, model: str = "gpt-4.1-nano", from_app: str = "") -> None:
    ledger = app.extensions["aipipe"].ledger
    budget = app.extensions["aipipe"].budgets.find(email)
    purpose = Purpose(email, from_app, "openai", model, "v1/chat/completions")
    hold = ledger.admit(
        purpose,
        lambda funds: Grant(cost, cost, Usages()),
        limit=budget.limit,
        since=date(2026, 1, 1),
        expires=time.time() + 60,
    )
    ledger.settle(hold, cost=cost, usages=Usages(100, 20, 0), status=200, ended="complete")


def test_the_account_page_has_a_token_that_works_and_what_is_left(app: Flask, alice: FlaskClient) -> None:
    spend(app, ALICE, 30_000_000)
    page = alice.get("/login").text
    found = re.search(r'value="(eyJ[\w.-]+)"', page)
    assert found
    assert app.test_client().get("/usage", headers={"Authorization": f"Bearer {found[1]}"}).json["email"] == ALICE
    assert "$0.07" in page
    assert "$0.10" in page


def test_a_reset_voids_every_token_and_the_page_shows_a_new_one(
    app: Flask, alice: FlaskClient, token: Callable[[str], str]
) -> None:
    old = {"Authorization": token(ALICE)}
    assert app.test_client().get("/usage", headers=old).status_code == 200
    answer = alice.post("/login/reset", headers=OURS)
    assert "Every token you had is void." in alice.get(answer.headers["Location"]).text
    assert "is void" not in alice.get("/login").text
    assert app.test_client().get("/usage", headers=old).status_code == 401
    found = re.search(r'value="(eyJ[\w.-]+)"', alice.get("/login").text)
    assert found
    assert app.test_client().get("/usage", headers={"Authorization": found[1]}).status_code == 200


def test_a_reset_is_asked_about_once(app: Flask, alice: FlaskClient, token: Callable[[str], str]) -> None:
    assert 'href="/login/reset"' in alice.get("/login").text
    question = alice.get("/login/reset", headers=PAGE).text
    assert "Every token you have stops working" in question
    assert '<form method="post" action="/login/reset"' in question
    assert '<button class="danger">Reset my token</button>' in question
    assert app.test_client().get("/usage", headers={"Authorization": token(ALICE)}).status_code == 200
    assert app.test_client().get("/login/reset").headers["Location"] == "/login?next=%2Flogin%2Freset"


def test_only_the_account_page_has_a_token_others_ask_for_one_when_it_is_copied(make_app: MakeApp) -> None:
    keys = {"OPENAI_API_KEY": None, "OPENROUTER_API_KEY": None, "ANTHROPIC_API_KEY": None, "GEMINI_API_KEY": None}
    app = make_app(dev=True, AIPIPE_PUBLIC_URL=None, **keys)
    alice = signed_in(app, ALICE)
    for path in ("/", "/playground", "/usage", "/apps", "/docs", "/models"):
        assert not re.search(r"eyJ[\w-]+\.", alice.get(path, headers=PAGE).text)
    answer = alice.post("/login/token", headers=OURS)
    assert answer.headers["Cache-Control"] == "no-store"
    usage = app.test_client().get("/usage", headers={"Authorization": answer.json["token"]})
    assert usage.json["email"] == ALICE
    assert app.test_client().post("/login/token", headers=OURS).status_code == 401


def test_signing_out_ends_the_session(alice: FlaskClient) -> None:
    alice.post("/logout", headers=OURS)
    assert "Your token" not in alice.get("/login").text


@pytest.mark.parametrize("path", ["/login", "/logout", "/login/reset", "/login/token"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example.com"}],
)
def test_no_other_site_can_send_our_forms(alice: FlaskClient, path: str, headers: dict[str, str]) -> None:
    assert alice.post(path, data={"email": "bob@example.com"}, headers=headers).status_code == 403
    assert ALICE in alice.get("/login").text


@pytest.mark.parametrize(
    ("next", "goes_to"),
    [
        ("/usage?days=7", "/usage?days=7"),
        ("https://evil.example.com", "/login"),
        ("//evil.example.com", "/login"),
        ("/\\evil.example.com", "/login"),
        ("/%09/evil.example.com\t", "/login"),
        ("javascript:alert(1)", "/login"),
        ("", "/login"),
    ],
)
def test_after_signing_in_one_stays_on_this_site(app: Flask, next: str, goes_to: str) -> None:
    answer = app.test_client().post("/login", data={"email": ALICE, "next": next}, headers=OURS)
    assert answer.headers["Location"] == goes_to


@pytest.mark.parametrize("host", ["evil.example.com", "127.0.0.1.example.com", "localhost.example.com"])
def test_developer_sign_in_knows_this_machine_by_its_own_names_only(app: Flask, host: str) -> None:
    answer = app.test_client().post("/login", base_url=f"http://{host}", data={"email": ALICE}, headers=OURS)
    assert answer.status_code == 403


def test_in_production_there_is_no_developer_sign_in(make_app: MakeApp) -> None:
    answer = make_app().test_client().post("/login", data={"email": ALICE}, headers=OURS)
    assert answer.status_code == 404
    assert not answer.headers.getlist("Set-Cookie")


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(app: Flask) -> None:
    plain = app.test_client().post("/login", data={"email": ALICE}, headers=OURS).headers["Set-Cookie"]
    assert plain.startswith("aipipe=")
    assert {"HttpOnly", "SameSite=Lax"} <= set(plain.split("; "))
    secure = app.test_client().post("/login", base_url="https://localhost", data={"email": ALICE}, headers=OURS)
    assert secure.headers["Set-Cookie"].startswith("__Host-aipipe=")
    assert "Secure" in secure.headers["Set-Cookie"]


def test_the_usage_page_adds_up_and_is_for_its_owner_alone(app: Flask, alice: FlaskClient) -> None:
    spend(app, ALICE, 12_000_000)
    spend(app, ALICE, 3_500_000, model="gpt-4o-mini", from_app="https://quiz.example.com")
    spend(app, "bob@example.com", 7_000_000, model="gpt-4o")
    page = alice.get("/usage?days=7", headers=PAGE).text
    for text in ("$0.0155", "$0.012", "openai/gpt-4o-mini", "https://quiz.example.com", "100 / 20"):
        assert text in page
    assert "gpt-4o<" not in page
    sheet = alice.get("/usage.csv?days=7").text.splitlines()
    assert sheet[0] == "date,provider,model,app,cost,requests,input_tokens,output_tokens"
    assert [line.split(",")[1:5] for line in sheet[1:]] == [
        ["openai", "gpt-4.1-nano", "", "0.012"],
        ["openai", "gpt-4o-mini", "https://quiz.example.com", "0.0035"],
    ]


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_back(app: Flask) -> None:
    answer = app.test_client().get("/usage?days=7", headers=PAGE)
    assert answer.headers["Location"] == "/login?next=%2Fusage%3Fdays%3D7"
    assert app.test_client().get("/usage").status_code == 401


def test_a_token_gets_json_whatever_the_caller_would_rather_have(app: Flask, token: Callable[[str], str]) -> None:
    answer = app.test_client().get("/usage", headers={**PAGE, "Authorization": token(ALICE)})
    assert answer.json["email"] == ALICE
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_session_is_no_token_and_a_token_no_session(
    app: Flask, alice: FlaskClient, token: Callable[[str], str]
) -> None:
    assert alice.get("/openai/v1/models").status_code == 401
    assert "Your token" not in app.test_client().get("/login", headers={"Authorization": token(ALICE)}).text


@pytest.mark.parametrize("path", ["/login", "/usage", "/nothing/here"])
def test_pages_run_their_own_scripts_only_and_are_not_for_other_origins(alice: FlaskClient, path: str) -> None:
    answer = alice.get(path, headers=PAGE)
    policy = answer.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'(;|$)", policy)  # and no 'self', which /proxy would be, too
    assert nonce
    assert "frame-ancestors 'none'" in policy
    assert all(f'nonce="{nonce[1]}"' in script for script in re.findall(r"<script[^>]*>", answer.text))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.status_code >= 400 or "Access-Control-Allow-Origin" not in answer.headers


def test_hostile_names_are_text(app: Flask) -> None:
    spend(app, ALICE, 1000, model=HOSTILE, from_app=HOSTILE)
    alice = signed_in(app, ALICE)
    for path in ("/usage", f"/{HOSTILE}/x", f"/login?next={HOSTILE}"):
        assert HOSTILE not in alice.get(path, headers=PAGE).text


def test_assets_have_names_that_change_with_them(app: Flask) -> None:
    client = app.test_client()
    path = assets.hashed("app.css")
    answer = client.get(path)
    assert answer.mimetype == "text/css"
    assert "immutable" in answer.headers["Cache-Control"]
    for other in (path.replace("-", "-0"), "/assets/app.css", "/assets/../config.py", "/assets/%2e%2e/config-0.py"):
        assert client.get(other).status_code in (403, 404)
    answer.close()


@pytest.mark.parametrize(
    "path",
    ["../../../../../../dev/-0./zero", "..%2f..%2fdev/-0./zero", "%2fdev/-0./zero", "x%00-0.css", "-0.", "vendor-0."],
)
def test_no_file_is_opened_for_a_path_that_names_no_asset(
    app: Flask, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(assets, "fingerprint", opened.append)
    assert app.test_client().get(f"/assets/{path}").status_code == 404
    assert opened == []


def test_assets_are_packed_for_those_who_can_unpack_them(app: Flask) -> None:
    client = app.test_client()
    path = assets.hashed("vendor/pico-2.1.1/pico.min.css")
    plain = client.get(path)
    packed = client.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 4
    for answer in (plain, packed):
        assert answer.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in client.get(path, headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_vendored_assets_are_what_was_looked_at() -> None:
    folder = assets.STATIC / "vendor"
    lines = [line.split() for line in (folder / "CHECKSUMS").read_text().splitlines()]
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for _, name in lines} == {
        name: checksum for checksum, name in lines
    }
    licences = {file.relative_to(folder) for file in folder.glob("*/LICENSE")}
    vendored = {file.relative_to(folder) for file in folder.glob("*/*")} - licences
    assert vendored == {Path(name) for _, name in lines}
    assert {file.parent for file in vendored} == {file.parent for file in licences}


def test_documents_are_pages_that_name_this_instance_and_link_to_each_other(app: Flask) -> None:
    client = app.test_client()
    start = client.get("/docs", base_url="http://localhost:9999")
    assert start.status_code == 200
    assert "http://localhost:9999/usage" in start.text
    assert "localhost:8787" not in start.text
    seen, waiting = set(), {"/docs"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        text = client.get(path, base_url="http://localhost:9999").text
        document = text.partition('<div class="document">')[2]
        assert not re.search(r"<p>\s*\|", document), f"{path} has half a table"
        assert not re.search(r"<a [^>]*>[\w./-]+\.md</a>", document), f"{path} names a file"
        links = [urljoin(path, link) for link in re.findall(r'href="([^"]*)"', document)]
        for link in links:
            page, _, anchor = link.partition("#")
            if page.startswith(("http:", "https:")):
                continue
            with client.get(page) as answer:
                assert answer.status_code == 200, f"{path} leads to {link}"
                assert not anchor or f'id="{anchor}"' in answer.text, f"{path} leads to {link}"
            if page.startswith("/docs"):
                waiting |= {page} - seen
    assert {"/docs/api", "/docs/operations", "/docs/decisions/001-holds"} <= seen


@pytest.mark.parametrize("name", ["api", "decisions/001-holds"])
def test_a_documents_file_name_leads_to_its_page(app: Flask, name: str) -> None:
    assert app.test_client().get(f"/docs/{name}.md").headers["Location"] == f"/docs/{name}"


def test_answers_in_documents_are_not_for_copying_and_cells_know_their_column(app: Flask) -> None:
    page = app.test_client().get("/docs/api").text
    assert '<pre class="copyable"><code tabindex="0">curl ' in page
    assert '<pre><code tabindex="0">HTTP/1.1 200 OK' in page
    assert '<td data-lead="code"><code>model_price_unknown</code></td>' in page


@pytest.mark.parametrize("name", ["../README", "..%2FREADME", "openapi.json", "nothing", "decisions/../../README"])
def test_nothing_but_a_document_is_read(app: Flask, name: str) -> None:
    assert app.test_client().get(f"/docs/{name}").status_code == 404


def test_a_mistake_of_ours_is_logged_without_the_path(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(addresses, "read", lambda _url: 1 / 0)
    path = "/proxy/http://x/%0A{forged}/SECRET"
    answer = app.test_client().get(path, environ_overrides={"RAW_URI": path})
    assert answer.status_code == 500
    [record] = caplog.records
    assert record.getMessage().endswith(": GET of proxy.fetch failed")
