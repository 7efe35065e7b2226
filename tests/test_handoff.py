"""Handing a token to an app: who is asked, what they see, what the app gets, and how it is taken back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import itsdangerous
import jwt
import pytest
from conftest import SECRET, MakeApp
from flask import Flask
from flask.testing import FlaskClient
from test_pages import signed_in
from werkzeug.test import TestResponse

from aipipe import redirects, tokens
from aipipe.ledger import Grant, Ledger, Purpose, Usages
from aipipe.views.handoff import MOST_VISITS

ALICE, BOB, CHARLIE, DANA = "alice@example.com", "bob@example.com", "charlie@example.org", "dana@example.com"
APP, EVIL = "https://alice.github.io", "https://evil.example"
OURS = {"Sec-Fetch-Site": "same-origin"}
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # of RFC 7636, appendix B
PKCE = "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
DAY = 86_400


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(dev=True)


@pytest.fixture
def ledger(app: Flask) -> Ledger:
    return app.extensions["aipipe"].ledger  # type: ignore[no-any-return]


@pytest.fixture
def alice(app: Flask) -> FlaskClient:
    return signed_in(app, ALICE)


def ask(client: FlaskClient, redirect: str = f"{APP}/", *, pkce: bool = False, **headers: str) -> TestResponse:
    """Opens the page that an app sends its user to."""
    return client.get(
        f"/login?{PKCE + '&' if pkce else ''}redirect={redirect}", headers={"Accept": "text/html"} | headers
    )


def ticket(page: TestResponse) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert found, page.text
    return unescape(found[1])


def allow(client: FlaskClient, page: TestResponse, cap: str = "", **headers: str) -> TestResponse:
    return client.post("/login/allow", data={"ticket": ticket(page), "cap": cap}, headers={**OURS, **headers})


def given(answer: TestResponse) -> dict[str, str]:
    """What the app finds in its address."""
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def app_token(client: FlaskClient, redirect: str = f"{APP}/", cap: str = "") -> str:
    return given(allow(client, ask(client, redirect), cap))["aipipe_token"]


def usage(app: Flask, token: str, **headers: str) -> TestResponse:
    return app.test_client().get("/usage", headers={"Authorization": f"Bearer {token}", **headers})


def refused(answer: TestResponse, status: int = 403) -> bool:
    return answer.status_code == status and "Location" not in answer.headers


# The question


def test_a_stranger_signs_in_first_and_is_then_asked(app: Flask, ledger: Ledger) -> None:
    client = app.test_client()
    page = ask(client, f"{APP}/quiz?a=1&b=2")
    assert page.status_code == 200
    assert f"to go on to <strong>{APP}</strong>" in page.text
    found = re.search(r'name="next" value="([^"]+)"', page.text)
    assert found
    answer = client.post("/login", data={"email": ALICE, "next": unescape(found[1])}, headers=OURS)
    assert answer.headers["Location"].startswith("/login?redirect=")
    page = client.get(answer.headers["Location"])
    assert ticket(page)
    assert ledger.apps.find(ALICE, APP) is None


def test_the_question_says_who_asks_what_it_may_spend_and_until_when(make_app: MakeApp) -> None:
    app = make_app(dev=True, AIPIPE_APP_TOKEN_DAYS=30)
    app.extensions["aipipe"].ledger.adjust(ALICE, datetime.now(UTC).date(), 30_000_000)
    page = ask(signed_in(app, ALICE), f"{APP}:8443/quiz?x")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.text))
    assert "https://alice.github.io:8443 wants to use your AI Pipe" in text
    assert f"Signed in as {ALICE}" in text
    assert "now $0.07 of $0.10 in 7 days" in text
    ends = time.gmtime(time.time() + 30 * DAY)
    assert f"{ends.tm_mday} {time.strftime('%B %Y', ends)}, or until you revoke it" in text
    assert page.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert f"form-action 'self' {APP}:8443;" in page.headers["Content-Security-Policy"]
    assert '<a role="button" class="plain" href="/">Cancel</a>' in page.text


@pytest.mark.parametrize(
    ("redirect", "warning"),
    [
        ("https://xn--lice-53d.github.io/", "letters beyond a to z"),
        ("http://localhost:5500/", "a page on your own machine"),
        ("http://[::1]:5500/", "a page on your own machine"),
    ],
)
def test_the_question_warns_of(alice: FlaskClient, redirect: str, warning: str) -> None:
    assert warning in ask(alice, redirect).text
    assert warning not in ask(alice).text


def test_hostile_text_in_the_address_stays_text(alice: FlaskClient) -> None:
    page = ask(alice, quote(f'{APP}/"><script>alert(1)</script>?\'"', safe=""))
    assert page.status_code == 200
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("who", ["signed in", "a stranger"])
@pytest.mark.parametrize(
    "redirect",
    [
        "javascript:alert(1)",
        "//evil.example",
        "http://evil.example/",
        "https://alice.github.io@evil.example/",
        "/\\evil",
    ],
)
def test_where_nobody_is_sent_a_page_says_so(app: Flask, who: str, redirect: str) -> None:
    answer = ask(signed_in(app, ALICE) if who == "signed in" else app.test_client(), redirect)
    assert refused(answer, 400)
    assert answer.mimetype == "text/html"
    assert "doesn&#39;t send you to the address" in answer.text


@pytest.mark.parametrize(
    ("redirect", "place"),
    [
        ("/usage?days=7&x", "/usage?days=7&x"),
        ("https://aipipe.example.com/apps", "/apps"),
        ("%2Fplayground", "/playground"),
    ],
)
def test_on_this_site_one_goes_on_without_a_question_and_without_a_token(
    alice: FlaskClient, redirect: str, place: str
) -> None:
    assert ask(alice, redirect).headers["Location"] == place


def test_a_nested_redirect_is_asked_about_in_the_name_of_the_innermost(alice: FlaskClient) -> None:
    answer = ask(alice, f"/login?redirect={EVIL}/")
    assert answer.headers["Location"] == f"/login?redirect={EVIL}/"
    assert "evil.example" in alice.get(answer.headers["Location"]).text
    page = ask(alice, f"{APP}/?redirect={EVIL}/")
    assert APP in page.text
    assert given(allow(alice, page))["redirect"] == f"{EVIL}/"


# The answer


def test_the_app_gets_a_token_that_is_good_from_its_origin_alone(app: Flask, alice: FlaskClient) -> None:
    answer = allow(alice, ask(alice, f"{APP}/quiz?a=1&b=%20#top".replace("#", "%23")))
    assert answer.headers["Location"].startswith(f"{APP}/quiz?a=1&b=%20%23top&aipipe_token=")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.data == b""
    found = given(answer)
    assert found["aipipe_email"] == ALICE
    token = found["aipipe_token"]
    assert usage(app, token).json["email"] == ALICE
    assert usage(app, token, Origin=APP).status_code == 200
    for origin in (EVIL, "https://alice.github.io:8443", "http://alice.github.io", "null", f"{APP}.evil.example"):
        stolen = usage(app, token, Origin=origin)
        assert stolen.status_code == 403
        assert token not in stolen.text


def test_an_encoded_hash_stays_the_apps_hash(alice: FlaskClient) -> None:
    answer = allow(alice, ask(alice, quote(f"{APP}/?a#/route?b", safe="")))
    before, _, fragment = answer.headers["Location"].partition("#")
    assert before.startswith(f"{APP}/?a&aipipe_token=")
    assert fragment == "/route?b"


def test_an_allowed_app_is_remembered_and_for_this_person_alone(app: Flask, alice: FlaskClient) -> None:
    first = app_token(alice)
    again = given(ask(alice, f"{APP}/another?page"))
    assert again["aipipe_token"] != first
    assert ticket(ask(alice, f"{EVIL}/"))
    assert ticket(ask(signed_in(app, BOB)))
    assert ticket(ask(signed_in(app, CHARLIE)))


def test_no_page_makes_tokens_of_an_app_without_end(app: Flask, alice: FlaskClient) -> None:
    first = app_token(alice)
    answers = [ask(alice).status_code for _ in range(60)]
    assert answers == [303] * (MOST_VISITS - 1) + [429] * (61 - MOST_VISITS)
    assert usage(app, first).status_code == 200


def test_what_is_fetched_before_it_is_wanted_gets_no_token(alice: FlaskClient) -> None:
    app_token(alice)
    assert ticket(ask(alice, **{"Sec-Purpose": "prefetch;prerender"}))


def test_tokens_end_when_the_apps_time_does(make_app: MakeApp) -> None:
    app = make_app(dev=True, AIPIPE_APP_TOKEN_DAYS=3)
    client, parts = signed_in(app, ALICE), app.extensions["aipipe"]
    token = app_token(client)
    claims = claims_of(token)
    assert claims["app"] == APP
    assert abs(claims["exp"] - time.time() - 3 * DAY) < 60
    assert claims["exp"] == parts.ledger.apps.find(ALICE, APP).expires
    parts.ledger.apps.allow(ALICE, APP, time.time() - 1)
    assert ticket(ask(client))


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"])
    return claims


def test_apps_that_the_operator_trusts_are_not_asked_about(make_app: MakeApp) -> None:
    app = make_app(dev=True, AIPIPE_TRUSTED_APPS=["https://*.github.io", "http://[::1]:5500"])
    client = signed_in(app, ALICE)
    assert "aipipe_token" in given(ask(client))
    assert "aipipe_token" in given(ask(client, "http://[::1]:5500/"))
    assert APP in client.get("/apps").text
    for untrusted in ("https://github.io/", "https://alice.github.io.evil.example/", "https://alice.github.io:8443/"):
        assert ticket(ask(client, untrusted))


def test_what_a_person_revoked_is_asked_about_though_the_operator_trusts_it(make_app: MakeApp) -> None:
    client = signed_in(make_app(dev=True, AIPIPE_TRUSTED_APPS=[APP]), ALICE)
    token = given(ask(client))["aipipe_token"]
    client.post("/apps/revoke", data={"app": APP}, headers=OURS)
    assert usage(client.application, token).status_code == 401
    assert "aipipe_token" in given(allow(client, ask(client)))


# Who else would like to answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://aipipe.example.com"},
    ],
)
def test_no_other_site_answers_for_the_user(alice: FlaskClient, ledger: Ledger, headers: dict[str, str]) -> None:
    assert refused(allow(alice, ask(alice), **headers))
    assert ledger.apps.find(ALICE, APP) is None


def test_an_answer_counts_once(alice: FlaskClient, ledger: Ledger) -> None:
    page = ask(alice)
    assert given(allow(alice, page))
    ledger.apps.revoke(ALICE, APP)
    assert refused(allow(alice, page))
    assert ledger.apps.allowed(ALICE) == []


def signer(age: float = 0) -> Any:
    class Then(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - age)

    return itsdangerous.URLSafeTimedSerializer(SECRET, salt="aipipe consent", signer=Then)


TICKETS: dict[str, Callable[[str], str]] = {
    "none": lambda good: "",
    "made up": lambda good: "made-up",
    "changed": lambda good: good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1],
    "of another secret": lambda good: itsdangerous.URLSafeTimedSerializer("x" * 32, salt="aipipe consent").dumps(
        [ALICE, f"/login?redirect={EVIL}/", "word"]
    ),
    "shown to somebody else": lambda good: signer().dumps([BOB, f"/login?redirect={APP}/", "word"]),
    "eleven minutes old": lambda good: signer(660).dumps([ALICE, f"/login?redirect={APP}/", "word"]),
}


@pytest.mark.parametrize("kind", TICKETS)
def test_only_the_page_that_this_person_saw_lately_can_be_answered(
    alice: FlaskClient, ledger: Ledger, kind: str
) -> None:
    bad = TICKETS[kind](ticket(ask(alice)))
    assert refused(alice.post("/login/allow", data={"ticket": bad}, headers=OURS))
    assert ledger.apps.allowed(ALICE) == []


def test_whoever_signed_out_answers_nothing(alice: FlaskClient, ledger: Ledger) -> None:
    page = ask(alice)
    alice.post("/logout", headers=OURS)
    assert refused(allow(alice, page), 401)
    assert ledger.apps.allowed(ALICE) == []


@pytest.mark.parametrize("place", ["iframe", "frame", "object", "embed", "empty", "script", "image"])
def test_nothing_is_handed_over_in_a_frame_or_by_a_script(alice: FlaskClient, place: str) -> None:
    app_token(alice)
    assert refused(ask(alice, **{"Sec-Fetch-Dest": place}))
    assert given(ask(alice, **{"Sec-Fetch-Dest": "document"}))


def test_no_get_and_no_other_field_allows_anything(alice: FlaskClient, ledger: Ledger) -> None:
    assert alice.get("/login/allow").status_code == 405
    page = ask(alice)
    form = {"ticket": ticket(page), "redirect": f"{EVIL}/", "email": BOB, "app": EVIL}
    answer = alice.post(f"/login/allow?redirect={EVIL}/", data=form, headers=OURS)
    assert answer.headers["Location"].startswith(f"{APP}/?")
    assert [app.origin for app in ledger.apps.allowed(ALICE)] == [APP]
    assert ledger.apps.allowed(BOB) == []


# A cap of the user's own


@pytest.mark.parametrize(("text", "cap"), [("", None), ("0.05", 50_000_000), (" 1 ", 10**9), ("1e-3", 10**6)])
def test_the_user_may_set_a_cap(alice: FlaskClient, ledger: Ledger, text: str, cap: int | None) -> None:
    app_token(alice, cap=text)
    assert ledger.apps.allowed(ALICE)[0].cap == cap


@pytest.mark.parametrize("text", ["0.0000001", "0", "-1", "five", "nan", "inf", "1e30", "0,05"])
def test_a_cap_that_is_none_is_refused_and_may_be_corrected(alice: FlaskClient, ledger: Ledger, text: str) -> None:
    page = ask(alice)
    assert refused(allow(alice, page, cap=text), 400)
    assert ledger.apps.allowed(ALICE) == []
    assert given(allow(alice, page, cap="0.05"))


# PKCE


def code(client: FlaskClient, redirect: str = f"{APP}/?a#b".replace("#", "%23")) -> str:
    page = ask(client, redirect, pkce=True)
    found = given(page if page.status_code == 303 else allow(client, page))
    assert "aipipe_token" not in found
    return found["code"]


def trade(app: Flask, **fields: str | None) -> TestResponse:
    form = {name: value for name, value in fields.items() if value is not None and name != "origin"}
    headers = {"Origin": fields.get("origin", APP)} if fields.get("origin", APP) else {}
    return app.test_client().post("/token", data=form, headers=headers)


@pytest.mark.parametrize("origin", [APP, None])
def test_a_code_is_traded_for_a_token_by_whoever_has_the_verifier(
    app: Flask, alice: FlaskClient, origin: str | None
) -> None:
    answer = trade(app, code=code(alice), code_verifier=VERIFIER, origin=origin)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "no-store"
    assert {**answer.json, "token": ""}.keys() == {"token", "email", "app", "expires"}
    assert (answer.json["email"], answer.json["app"]) == (ALICE, APP)
    assert usage(app, answer.json["token"], Origin=APP).status_code == 200
    assert usage(app, answer.json["token"], Origin=EVIL).status_code == 403


def test_a_code_is_traded_as_json_too(app: Flask, alice: FlaskClient) -> None:
    fields = {"code": code(alice), "code_verifier": VERIFIER}
    assert app.test_client().post("/token", json=fields).status_code == 200


WRONG = {
    "no verifier": ({"code_verifier": None}, 400),
    "an empty verifier": ({"code_verifier": ""}, 400),
    "the challenge as verifier": ({"code_verifier": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, 401),
    "another verifier": ({"code_verifier": "a" * 43}, 401),
    "another origin": ({"origin": EVIL}, 401),
    "a sandbox": ({"origin": "null"}, 401),
    "another code": ({"code": "b" * 43}, 401),
    "no code": ({"code": ""}, 401),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_code_is_worth_nothing_with(app: Flask, alice: FlaskClient, ledger: Ledger, kind: str) -> None:
    changes, status = WRONG[kind]
    good: dict[str, str | None] = {"code": code(alice), "code_verifier": VERIFIER}
    answer = trade(app, **{**good, **changes})
    assert answer.status_code == status
    assert ledger.apps.tokens(ALICE) == []
    assert trade(app, **good).status_code == 200  # nobody else's failure uses it up


def test_a_second_trade_is_refused_and_voids_what_the_first_got(app: Flask, alice: FlaskClient) -> None:
    mine = code(alice)
    token = trade(app, code=mine, code_verifier=VERIFIER).json["token"]
    assert trade(app, code=mine, code_verifier="a" * 43).status_code == 401
    assert usage(app, token).status_code == 200  # who has no verifier, has no say
    assert trade(app, code=mine, code_verifier=VERIFIER).status_code == 401
    assert usage(app, token).status_code == 401


def test_a_code_dies_with_what_it_was_made_for(app: Flask, alice: FlaskClient, ledger: Ledger) -> None:
    mine = code(alice)
    ledger.apps.revoke(ALICE, APP)
    assert trade(app, code=mine, code_verifier=VERIFIER).status_code == 401


@pytest.mark.parametrize("how", ["plain", "none"])
def test_a_weaker_challenge_is_refused_rather_than_ignored(alice: FlaskClient, how: str) -> None:
    method = "&code_challenge_method=plain" if how == "plain" else ""
    answer = alice.get(f"/login?code_challenge={VERIFIER}{method}&redirect={APP}/", headers={"Accept": "text/html"})
    assert refused(answer, 400)


@pytest.mark.parametrize("who", ["signed in", "a stranger"])
def test_the_operator_may_do_without_tokens_in_addresses(make_app: MakeApp, who: str) -> None:
    app = make_app(dev=True, AIPIPE_TOKEN_IN_URL=False)
    client = signed_in(app, ALICE) if who == "signed in" else app.test_client()
    answer = ask(client)
    assert refused(answer)
    assert "signIn()" in answer.text
    assert ask(client, "/playground").status_code in (200, 303)
    if who == "signed in":
        assert code(client)


# Taking it back


def test_the_page_shows_what_one_allowed(app: Flask, alice: FlaskClient, ledger: Ledger) -> None:
    assert "None yet" in alice.get("/apps").text
    app_token(alice, cap="0.05")
    app_token(alice, f"{EVIL}/")
    spend(ledger, ALICE, APP, 3_500_000)
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", alice.get("/apps").text))
    assert re.search(r"https://alice\.github\.io Spent \$0\.0035 of \$0\.05 Last used 20", page)
    assert re.search(r"https://evil\.example Spent \$0\.00 Last used not yet", page)
    assert "tokens" not in page
    ask(alice)
    assert "2 tokens" in re.sub(r"<[^>]+>", "", alice.get("/apps").text)
    assert "None yet" in signed_in(app, BOB).get("/apps").text


def spend(ledger: Ledger, email: str, app: str, cost: int) -> None:
    hold = ledger.admit(
        Purpose(email, app, "openai", "small", "v1/chat/completions"),
        lambda funds: Grant(cost, cost, Usages()),
        limit=10**9,
        since=date(2026, 1, 1),
        expires=time.time() + 60,
    )
    assert ledger.settle(hold, cost=cost, usages=Usages(), status=200, ended="complete")  # type: ignore[arg-type]


def test_a_stranger_signs_in_to_see_their_apps(app: Flask) -> None:
    assert app.test_client().get("/apps").headers["Location"] == "/login?next=%2Fapps"
    assert app.test_client().post("/apps/revoke", data={"app": APP}, headers=OURS).status_code == 401
    assert "/apps" not in app.test_client().get("/login").text
    assert 'href="/apps"' in signed_in(app, ALICE).get("/login").text


def test_a_revoked_app_has_nothing_any_more_on_any_worker(make_app: MakeApp, app: Flask, alice: FlaskClient) -> None:
    worker = make_app(dev=True)
    both = [app_token(alice), given(ask(alice))["aipipe_token"]]
    other = app_token(alice, f"{EVIL}/")
    assert [usage(each, token).status_code for each in (app, worker) for token in both] == [200] * 4
    assert alice.post("/apps/revoke", data={"app": APP}, headers=OURS).headers["Location"] == "/apps"
    assert [usage(each, token).status_code for each in (app, worker) for token in both] == [401] * 4
    assert "was revoked" in usage(app, both[0]).json["message"]
    assert usage(worker, other).status_code == 200
    assert APP not in alice.get("/apps").text
    assert ticket(ask(alice))


def test_one_token_is_revoked_alone(app: Flask, alice: FlaskClient, ledger: Ledger) -> None:
    first, second = app_token(alice), given(ask(alice))["aipipe_token"]
    alice.post("/apps/revoke", data={"jti": claims_of(first)["jti"]}, headers=OURS)
    assert (usage(app, first).status_code, usage(app, second).status_code) == (401, 200)
    assert given(ask(alice))


def test_a_reset_ends_apps_too(app: Flask, alice: FlaskClient) -> None:
    token = app_token(alice)
    of_bob = app_token(signed_in(app, BOB))
    alice.post("/login/reset", headers=OURS)
    assert (usage(app, token).status_code, usage(app, of_bob).status_code) == (401, 200)
    assert ticket(ask(alice))


@pytest.mark.parametrize("who", [BOB, CHARLIE, DANA])
def test_nobody_takes_back_what_somebody_else_allowed(app: Flask, alice: FlaskClient, who: str) -> None:
    token = app_token(alice)
    other = signed_in(app, who)
    for form in ({"app": APP}, {"jti": claims_of(token)["jti"]}):
        assert other.post("/apps/revoke", data=form, headers=OURS).status_code == 303
    assert APP not in other.get("/apps").text
    assert usage(app, token).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])
def test_no_other_site_takes_anything_back(app: Flask, alice: FlaskClient, headers: dict[str, str]) -> None:
    token = app_token(alice)
    assert alice.post("/apps/revoke", data={"app": APP}, headers=headers).status_code == 403
    assert usage(app, token).status_code == 200


def test_an_app_of_an_admin_is_no_admin(app: Flask) -> None:
    token = app_token(signed_in(app, DANA))
    for path in ("/admin/usage", "/admin/token?email=bob@example.com"):
        assert app.test_client().get(path, headers={"Authorization": token, "Origin": APP}).status_code == 403


def test_a_token_that_was_never_given_out_is_none(app: Flask, alice: FlaskClient) -> None:
    app_token(alice)
    for jti in (None, "made-up"):
        forged = tokens.issue(ALICE, secret=SECRET, now=time.time(), days=1, app=APP, jti=jti)
        assert usage(app, forged).status_code == 401
    real = claims_of(app_token(signed_in(app, BOB)))["jti"]
    assert usage(app, tokens.issue(ALICE, secret=SECRET, now=time.time(), days=1, app=APP, jti=real)).status_code == 401


def test_the_challenge_is_that_of_the_standard() -> None:
    assert redirects.challenge_of(VERIFIER) in PKCE
    assert redirects.challenge_of("a" * 42) is None
    assert redirects.challenge_of("a" * 129) is None
    assert redirects.challenge_of("a" * 42 + "ä") is None
