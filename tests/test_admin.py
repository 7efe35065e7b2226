"""`/admin/*`: who gets in, what it shows, what it changes."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import SECRET, MakeApp
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from aipipe import tokens
from aipipe.errors import LedgerUnavailable
from aipipe.ledger import Day, Ledger, open_ledger
from aipipe.money import NANO

APP = "https://alice.github.io"
DAY = date(2025, 4, 18)
TOTAL = {"email": "alice@example.com", "date": "2025-04-18", "cost": 1.23}
ROUTES: list[dict[str, Any]] = [
    {"method": "GET", "path": "/admin/usage"},
    {"method": "GET", "path": "/admin/usage?format=csv"},
    {"method": "GET", "path": "/admin/usage?email=alice@example.com"},
    {"method": "HEAD", "path": "/admin/usage"},
    {"method": "GET", "path": "/admin/token"},
    {"method": "GET", "path": "/admin/token?email=dana@example.com"},
    {"method": "POST", "path": "/admin/cost", "json": TOTAL},
]
Token = Callable[[str], str]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(AIPIPE_SALT={"charlie@example.org": "pepper"})


@pytest.fixture
def ledger(app: Flask) -> Ledger:
    return app.extensions["aipipe"].ledger  # type: ignore[no-any-return]


@pytest.fixture
def dana(app: Flask, token: Token) -> FlaskClient:
    """A client that acts for the admin."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token('dana@example.com')}"
    return client


def call(client: FlaskClient, route: dict[str, Any], **headers: str) -> Any:
    """As gunicorn hands it on: the path percent-decoded and otherwise as it came."""
    path, _, query = route["path"].partition("?")
    raw = {"RAW_URI": route["path"], "PATH_INFO": unquote(path, "latin-1"), "QUERY_STRING": query}
    return client.open(method=route["method"], json=route.get("json"), headers=headers, environ_overrides=raw)


def app_token(email: str) -> str:
    """One that `allow` puts in force."""
    return tokens.issue(email, secret=SECRET, now=DAY.toordinal(), days=10**6, app=APP, jti=email)


def allow(ledger: Ledger, email: str) -> None:
    ledger.apps.allow(email, APP, expires=tokens.LATEST)
    assert ledger.apps.add_token(email, APP, jti=email)


# Who gets in

CAST: dict[str, tuple[int, Callable[[Token], dict[str, str]]]] = {
    "alice, whose spending it is": (403, lambda token: {"Authorization": token("alice@example.com")}),
    "bob, a classmate": (403, lambda token: {"Authorization": f"Bearer {token('bob@example.com')}"}),
    "charlie, an outsider": (401, lambda token: {"Authorization": token("charlie@example.org")}),
    "dana, the admin": (200, lambda token: {"Authorization": f"Bearer {token('dana@example.com')}"}),
    "dana, in capitals": (200, lambda token: {"Authorization": token("DANA@Example.COM")}),
    "dana, as Gemini's clients do": (200, lambda token: {"x-goog-api-key": token("dana@example.com")}),
    "dana, as Anthropic's clients do": (200, lambda token: {"x-api-key": token("dana@example.com")}),
    "dana, through an app": (403, lambda token: {"Authorization": app_token("dana@example.com")}),
    "dana, through an app on its own site": (
        403,
        lambda token: {"Authorization": app_token("dana@example.com"), "Origin": "https://alice.github.io"},
    ),
    "alice, through an app": (403, lambda token: {"Authorization": app_token("alice@example.com")}),
    "a lookalike of dana": (403, lambda token: {"Authorization": token("dana@example.com.example.org")}),
    "nobody": (401, lambda token: {}),
    "somebody with a password": (401, lambda token: {"Authorization": "Basic ZGFuYTpkYW5h"}),
    "a native key": (401, lambda token: {"Authorization": "Bearer sk-alice"}),
    "a native key of Google's": (401, lambda token: {"x-goog-api-key": "AIzaAlice"}),
    "a forger": (401, lambda token: {"Authorization": token("dana@example.com")[:-4] + "AAAA"}),
    "a cookie": (401, lambda token: {"Cookie": f"session={token('dana@example.com')}"}),
}


@pytest.mark.parametrize("who", CAST)
def test_only_admins_get_in(app: Flask, ledger: Ledger, token: Token, who: str) -> None:
    status, credentials = CAST[who]
    headers = credentials(token)
    allow(ledger, "alice@example.com")
    allow(ledger, "dana@example.com")
    ledger.adjust("alice@example.com", DAY, 5)
    for route in ROUTES:
        answer = call(app.test_client(), route, **headers)
        assert (route, answer.status_code) == (route, status)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "no-store"
        if status != 200:
            assert answer.mimetype == "application/json"
            assert all(value not in answer.get_data(as_text=True) for value in headers.values())
    assert ledger.spent("alice@example.com", DAY) == (5 if status != 200 else 1_230_000_000)


def test_somebody_refused_is_told_why(app: Flask, token: Token) -> None:
    answer = call(app.test_client(), ROUTES[0], Authorization=token("bob@example.com"))
    assert answer.get_json()["error"]["type"] == "permission_error"
    assert "admin" in answer.get_json()["message"]


def test_a_reset_shuts_an_admins_old_token_out(app: Flask, ledger: Ledger) -> None:
    old = tokens.issue("dana@example.com", secret=SECRET, now=time.time() - 1, days=1)
    ledger.reset_tokens("dana@example.com")
    assert call(app.test_client(), ROUTES[0], Authorization=old).status_code == 401


SPELLINGS = [
    "/admin/usage/",
    "/admin//usage",
    "//admin/usage",
    "/./admin/usage",
    "/admin/./usage",
    "/admin/../admin/usage",
    "/usage/../admin/usage",
    "/openai/../admin/usage",
    "/openai/..%2fadmin/usage",
    "/openai/%2e%2e/admin/usage",
    "/%2e/admin/usage",
    "/%61dmin/usage",
    "/admin%2fusage",
    "/admin%2Fusage",
    "/admin/%75sage",
    "/Admin/usage",
    "/ADMIN/USAGE",
    "/admin/Usage",
    "/admin/usage;a=1",
    "/admin/usage%00",
    "/admin/usage%20",
    "/admin/usage.json",
    "/admin\\usage",
    "/admin/usage?/../../usage",
    "/admin/token/?email=dana@example.com",
    "/admin//token?email=dana@example.com",
    "/%61dmin/token?email=dana@example.com",
    "/ADMIN/token?email=dana@example.com",
]


@pytest.mark.parametrize("who", ["bob@example.com", "app"])
def test_no_spelling_of_the_path_is_a_way_in(app: Flask, ledger: Ledger, token: Token, who: str) -> None:
    ledger.adjust("alice@example.com", DAY, 5)
    allow(ledger, "dana@example.com")
    credential = app_token("dana@example.com") if who == "app" else token(who)
    for path in SPELLINGS:
        answer = call(app.test_client(), {"method": "GET", "path": path}, Authorization=credential)
        assert (path, answer.status_code) in [(path, 403), (path, 404)]
        assert "alice" not in answer.get_data(as_text=True)
        assert "eyJ" not in answer.get_data(as_text=True)


def test_no_spelling_of_the_path_changes_a_cost(app: Flask, ledger: Ledger, token: Token) -> None:
    for path in SPELLINGS:
        route = {"method": "POST", "path": path.replace("usage", "cost"), "json": TOTAL}
        answer = call(app.test_client(), route, Authorization=token("bob@example.com"))
        assert (path, answer.status_code) in [(path, 403), (path, 404), (path, 405)]
    assert ledger.entries("alice@example.com") == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/admin/usage", {"GET", "HEAD"}), ("/admin/token", {"GET", "HEAD"}), ("/admin/cost", {"POST"})],
)
def test_other_methods_are_refused(dana: FlaskClient, path: str, allowed: set[str]) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - allowed:
        answer = dana.open(path, method=method, json=TOTAL)
        assert (method, answer.status_code) == (method, 405)
        assert set(answer.headers["Allow"].replace(" ", "").split(",")) == allowed | {"OPTIONS"}


@pytest.mark.parametrize("path", ["/admin/usage", "/admin/token", "/admin/cost"])
def test_a_browser_may_ask_whether_it_may_ask(app: Flask, path: str) -> None:
    headers = {"Origin": "https://alice.github.io", "Access-Control-Request-Method": "POST"}
    answer = app.test_client().options(path, headers=headers)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


# What was spent


@pytest.fixture
def spent(ledger: Ledger) -> None:
    for email, day, cost in (
        ("bob@example.com", 18, 25_500_000_000),
        ("alice@example.com", 18, 137_000),
        ("alice@example.com", 17, 1),
        ("charlie@example.org", 20, 0),
        ("charlie@example.org", 20, 12_345_678_901_234_567),
    ):
        ledger.adjust(email, date(2025, 4, day), cost)


ROWS = [
    {"email": "charlie@example.org", "date": "2025-04-20", "cost": 12_345_678.901234567},
    {"email": "alice@example.com", "date": "2025-04-18", "cost": 0.000137},
    {"email": "bob@example.com", "date": "2025-04-18", "cost": 25.5},
    {"email": "alice@example.com", "date": "2025-04-17", "cost": 1e-9},
]


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("from=2025-04-18", [0, 1, 2]),
        ("to=2025-04-18", [1, 2, 3]),
        ("from=2025-04-18&to=2025-04-18", [1, 2]),
        ("from=2025-04-19&to=2025-04-19", []),
        ("from=0001-01-01&to=9999-12-31", [0, 1, 2, 3]),
        ("email=ALICE@example.com", [1, 3]),
        ("email=alice@example.com&from=2025-04-18", [1]),
        ("email=nobody@example.com", []),
        ("email=&from=&to=&format=", [0, 1, 2, 3]),
        ("format=json", [0, 1, 2, 3]),
    ],
)
def test_usage_is_by_person_and_day_newest_first(dana: FlaskClient, query: str, rows: list[int]) -> None:
    answer = dana.get(f"/admin/usage?{query}")
    assert answer.mimetype == "application/json"
    assert answer.get_json() == {"data": [ROWS[row] for row in rows]}


@pytest.mark.usefixtures("spent")
def test_usage_as_csv_has_exact_dollars_and_the_same_rows(dana: FlaskClient) -> None:
    answer = dana.get("/admin/usage?format=csv&from=2025-04-18")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.get_data(as_text=True).splitlines() == [
        "email,date,cost",
        "charlie@example.org,2025-04-20,12345678.901234567",
        "alice@example.com,2025-04-18,0.000137",
        "bob@example.com,2025-04-18,25.5",
    ]


@pytest.mark.parametrize(
    ("email", "cell"),
    [
        (
            '=hyperlink("https://example.org","alice")@example.com',
            '\'=hyperlink("https://example.org","alice")@example.com',
        ),
        ("+1-555@example.com", "'+1-555@example.com"),
        ("-alice@example.com", "'-alice@example.com"),
        ("alice,2030-01-01,0@example.com", "alice,2030-01-01,0@example.com"),
        ('"alice"@example.com', '"alice"@example.com'),
        ("al=ice+bob@example.com", "al=ice+bob@example.com"),
    ],
)
def test_an_email_is_no_formula_in_a_spreadsheet(dana: FlaskClient, ledger: Ledger, email: str, cell: str) -> None:
    ledger.adjust(email, DAY, 1)
    table = list(csv.reader(io.StringIO(dana.get("/admin/usage?format=csv").get_data(as_text=True))))
    assert table == [["email", "date", "cost"], [cell, "2025-04-18", "0.000000001"]]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("from=yesterday", "`from`"),
        ("from=2025-02-29", "`from`"),
        ("to=2025-4-18", "`to`"),
        ("to=20250418", "`to`"),
        ("to=2025-W16-5", "`to`"),
        ("to=2025-04-18T00:00", "`to`"),
        ("to=٢٠٢٥-04-18", "`to`"),
        ("from=2025-04-19&to=2025-04-18", "`from`"),
        ("email=alice", "`email`"),
        ("email=@example.com", "`email`"),
        ("format=xml", "`format`"),
    ],
)
def test_what_cannot_be_asked_for_is_named(dana: FlaskClient, query: str, names: str) -> None:
    answer = dana.get(f"/admin/usage?{query}")
    assert answer.status_code == 400
    assert names in answer.get_json()["message"]


@pytest.mark.parametrize(("format", "ends"), [("json", "]}"), ("csv", ",0.000000001\n")])
def test_a_long_usage_goes_out_in_pieces(dana: FlaskClient, ledger: Ledger, format: str, ends: str) -> None:
    ledger.top_up([Day(f"student{number:05d}@example.com", "2025-04-18", 1) for number in range(2500)])
    answer = dana.get(f"/admin/usage?format={format}")
    pieces = [piece for piece in answer.iter_encoded() if piece]
    assert len(pieces) >= 3
    assert max(len(piece) for piece in pieces) < sum(len(piece) for piece in pieces) / 2
    assert pieces[-1].decode().endswith(ends)
    assert b"".join(pieces).count(b"2025-04-18") == 2500


def test_a_ledger_that_does_not_answer_is_told_by_a_status(
    dana: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages(*_: object) -> Any:
        raise LedgerUnavailable
        yield

    monkeypatch.setattr(ledger, "pages", pages)
    assert dana.get("/admin/usage").status_code == 503


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 6), st.integers(0, 10**12)), unique_by=lambda row: row[:2]
    ),
    st.integers(1, 8),
    st.integers(0, 6),
    st.integers(-1, 6),
    st.sampled_from([None, "a@example.com"]),
)
def test_pages_of_any_size_are_the_whole(
    rows: list[tuple[str, int, int]], size: int, first: int, length: int, email: str | None
) -> None:
    ledger = open_ledger("sqlite:///:memory:")
    try:
        ledger.top_up([Day(f"{name}@example.com", str(DAY + timedelta(days=day)), cost) for name, day, cost in rows])
        begin, end = DAY + timedelta(days=first), DAY + timedelta(days=first + length)
        pages = list(ledger.pages(email, begin, end, size))
        assert [day for page in pages for day in page] == ledger.daily(email, begin, end)
        assert all(0 < len(page) <= size for page in pages)
    finally:
        ledger.close()


# Tokens


@pytest.mark.parametrize(
    ("query", "owner"),
    [
        ("", "dana@example.com"),
        ("?email=", "dana@example.com"),
        ("?email=Alice@Example.com", "alice@example.com"),
        ("?email=charlie@example.org", "charlie@example.org"),
        ("?email=dana@example.com", "dana@example.com"),
    ],
)
def test_an_admin_makes_a_token_that_works(
    app: Flask, dana: FlaskClient, query: str, owner: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = dana.get(f"/admin/token{query}")
    assert answer.get_json().keys() == {"token"}
    made = answer.get_json()["token"]
    assert app.test_client().get("/usage", headers={"Authorization": made}).get_json()["email"] == owner
    assert f"dana@example.com made a token for {owner}" in caplog.text
    assert made not in caplog.text


@pytest.mark.parametrize("email", ["alice", "@example.com", "alice%20@example.com", "a%0ab@example.com", "a" * 300])
def test_a_token_needs_an_email(dana: FlaskClient, email: str) -> None:
    answer = dana.get(f"/admin/token?email={email}")
    assert answer.status_code == 400
    assert "`email`" in answer.get_json()["message"]


# Corrections


@pytest.mark.parametrize(
    ("cost", "nano", "said"),
    [
        (1.23, 1_230_000_000, "1.23"),
        (0, 0, "0"),
        (0.0, 0, "0"),
        (25, 25 * NANO, "25"),
        (0.000012, 12_000, "0.000012"),
        (0.1, 100_000_000, "0.1"),
        (1e-10, 1, "0.000000001"),
        (10**9, 10**18, "1000000000"),
    ],
)
@pytest.mark.parametrize("before", [None, 137_000])
def test_a_cost_is_set(
    dana: FlaskClient, ledger: Ledger, cost: float, nano: int, said: str, before: int | None
) -> None:
    if before is not None:
        ledger.adjust("alice@example.com", DAY, before)
    ledger.adjust("alice@example.com", DAY - timedelta(days=1), 1)
    answer = dana.post("/admin/cost", json={**TOTAL, "cost": cost})
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"message": f"Cost for alice@example.com on 2025-04-18 set to {said}"},
    )
    assert ledger.spent("alice@example.com", DAY) == nano
    assert ledger.spent("alice@example.com", date.min) == nano + 1
    assert ledger.balanced()


def test_a_correction_is_an_entry_of_its_own(
    dana: FlaskClient, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    for cost in (1.23, 0.5, 0.5):
        dana.post("/admin/cost", json={**TOTAL, "email": "Alice@Example.com", "cost": cost})
    entries = ledger.entries("alice@example.com")
    assert [(entry.cost, entry.ended, entry.date) for entry in entries] == [
        (-730_000_000, "adjusted", "2025-04-18"),
        (1_230_000_000, "adjusted", "2025-04-18"),
    ]
    with caplog.at_level(logging.INFO):
        assert "dana@example.com set the cost of alice@example.com on 2025-04-18 to $0.5, by $-0.73" in caplog.text


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"cost": -1}, "`cost`"),
        ({"cost": -1e-12}, "`cost`"),
        ({"cost": "1.23"}, "`cost`"),
        ({"cost": True}, "`cost`"),
        ({"cost": None}, "`cost`"),
        ({"cost": [1]}, "`cost`"),
        ({"cost": 10**9 + 1}, "`cost`"),
        ({"cost": 1e300}, "`cost`"),
        ({"date": "2025-04-31"}, "`date`"),
        ({"date": "18/04/2025"}, "`date`"),
        ({"date": "2025-04-18\n"}, "`date`"),
        ({"date": 20250418}, "`date`"),
        ({"date": None}, "`date`"),
        ({"date": str(datetime.now(UTC).date() + timedelta(days=2))}, "is yet to come"),  # would count at once
        ({"email": "alice"}, "`email`"),
        ({"email": None}, "`email`"),
        ({"email": ["alice@example.com"]}, "`email`"),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_changes(
    dana: FlaskClient, ledger: Ledger, change: dict[str, Any], names: str
) -> None:
    answer = dana.post("/admin/cost", json={**TOTAL, **change})
    assert answer.status_code == 400
    assert names in answer.get_json()["message"]
    assert list(ledger.pages(None, date.min, date.max)) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"cost": NaN}', b'{"cost": 1e999}', b"\xff", b"[" * 9999])
def test_a_correction_is_a_json_object(dana: FlaskClient, body: bytes) -> None:
    assert dana.post("/admin/cost", data=body, content_type="application/json").status_code == 400
