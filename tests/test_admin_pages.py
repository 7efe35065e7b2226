"""The pages under `/admin`: who may see them, what they show, what they change. The API there is in test_admin.py."""

from __future__ import annotations

import csv
import html
import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask
from flask.testing import FlaskClient

from aipipe.budgets import Budget
from aipipe.ledger import Ledger, Total
from aipipe.ledger.entries import append
from aipipe.ledger.types import Entry
from aipipe.money import NANO, brief
from aipipe.people import ORDERS, Person

ALICE, BOB, CHARLIE, DANA = "alice@example.com", "bob@example.com", "charlie@example.org", "dana@example.com"
BUDGETS = {
    "*": {"limit": 0.1, "days": 7},
    "@example.org": {"limit": 0.05, "days": 1},
    BOB: {"limit": 1, "days": 60},
}
HOSTILE = "<script>alert(1)</script>"
OURS = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
PAGE = {"Accept": "text/html"}
JWT = re.compile(r"eyJ[\w-]+\.eyJ")
TODAY = datetime.now(UTC).date()
PAGES = ["/admin", f"/admin/people/{ALICE}"]
SHEETS = [*(f"/admin/{name}.csv" for name in ("people", "models", "apps", "days")), f"/admin/person.csv?email={ALICE}"]
DEEDS = ["/admin/adjust", "/admin/issue", "/admin/reset"]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(dev=True, AIPIPE_PUBLIC_URL=None, AIPIPE_BUDGET=BUDGETS)


@pytest.fixture
def ledger(app: Flask) -> Ledger:
    return app.extensions["aipipe"].ledger  # type: ignore[no-any-return]


@pytest.fixture
def dana(app: Flask) -> FlaskClient:
    return signed_in(app, DANA)


def signed_in(app: Flask, email: str) -> FlaskClient:
    client = app.test_client()
    assert client.post("/login", data={"email": email}, headers=OURS).status_code == 303
    return client


def spend(ledger: Ledger, email: str, dollars: float, *, ago: int = 0, times: int = 1, **changes: Any) -> None:
    """Requests of `dollars` in all, `ago` days ago."""
    day = TODAY - timedelta(days=ago)
    usual = {
        "time": time.time() - ago * 86_400, "date": day.isoformat(), "app": "", "provider": "openai",
        "model": "gpt-4.1-nano", "endpoint": "v1/chat/completions", "input_tokens": 100, "output_tokens": 20,
        "cached_tokens": 0, "status": 200, "ended": "complete", "answer_id": "", "duration": 900,
    }  # fmt: skip
    entry = Entry(**{**usual, "email": email, "cost": round(dollars * NANO / times), **changes})
    ledger._database.write(lambda execute: [append(execute, entry) for _ in range(times)])


def people(page: str) -> list[str]:
    """Whom the table lists, in its order."""
    table = page.partition('<table class="people">')[2].partition("</table>")[0]
    return [html.unescape(path) for path in re.findall(r'href="/admin/people/([^"?]+)', table)]


def figures(page: str) -> dict[str, str]:
    """The cards: what is counted, and how much it is."""
    cards = re.findall(r'<p class="card[^"]*"><span class="figure">(.*?)</span> (.*?)</p>', page)
    return {re.sub("<[^>]*>", "", name): re.sub("<[^>]*>", "", figure) for figure, name in cards}


def lines(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.text)))


def form(client: FlaskClient, path: str, **fields: str) -> Any:
    """Does it, as somebody who is sure."""
    return client.post(path, data=fields, headers=OURS)


def ask(client: FlaskClient, path: str, **fields: str) -> Any:
    """Looks at the question that comes before."""
    return client.get(path, query_string=fields, headers=PAGE)


# Who gets in


@pytest.mark.parametrize("email", [ALICE, BOB, CHARLIE, "dana@example.com.example.org"])
def test_whoever_is_no_admin_sees_nothing(app: Flask, ledger: Ledger, email: str) -> None:
    spend(ledger, ALICE, 0.01)
    client = signed_in(app, email)
    for path in (*PAGES, *SHEETS):
        answer = client.get(path, headers=PAGE)
        assert (path, answer.status_code) == (path, 403)
        assert "for the admins" in answer.text
        assert "gpt-4.1-nano" not in answer.text
    for path in DEEDS:
        assert form(client, path, email=ALICE, date=TODAY.isoformat(), cost="0").status_code == 403
    assert ledger.spent(ALICE, TODAY) == 10_000_000
    assert '<a href="/admin"' not in client.get("/usage", headers=PAGE).text


def test_admins_see_every_page_and_sheet_and_find_them_in_the_menu(dana: FlaskClient) -> None:
    for path in (*PAGES, *SHEETS):
        answer = dana.get(path, headers=PAGE)
        assert (path, answer.status_code) == (path, 200)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers or answer.mimetype != "text/html"
    assert '<a href="/admin"' in dana.get("/usage", headers=PAGE).text


def test_whoever_is_not_signed_in_signs_in_first(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/admin?days=7", headers=PAGE)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login?next=%2Fadmin%3Fdays%3D7")
    assert client.get("/admin").status_code == 401
    for path in DEEDS:
        assert form(client, path, email=ALICE).status_code == 401


def test_pages_read_no_token_and_the_api_no_session(app: Flask, dana: FlaskClient, token: Callable[[str], str]) -> None:
    bearer = {"Authorization": f"Bearer {token(DANA)}"}
    for path in (*PAGES, *SHEETS):
        assert app.test_client().get(path, headers=bearer).status_code == 401
    for path in ("/admin/usage", "/admin/token"):
        assert dana.get(path, headers=PAGE).status_code == 401
        assert app.test_client().get(path, headers=bearer).status_code == 200
    assert dana.post("/admin/cost", json={"email": ALICE, "date": "2026-01-01", "cost": 1}).status_code == 401


@pytest.mark.parametrize("path", DEEDS)
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.com"}])
def test_no_other_site_can_send_the_forms(
    dana: FlaskClient, ledger: Ledger, path: str, headers: dict[str, str]
) -> None:
    fields = {"email": ALICE, "date": TODAY.isoformat(), "cost": "1"}
    answer = dana.post(path, data=fields, headers=headers)
    assert answer.status_code == 403
    assert "eyJ" not in answer.text
    assert ledger.spent(ALICE, TODAY) == 0
    assert ledger.void_before(ALICE) is None


# Who spent what


def test_the_cards_add_up_for_the_days_that_are_shown(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.03, times=2)
    spend(ledger, BOB, 0.04, ago=10, times=3)
    spend(ledger, CHARLIE, 0.5, ago=40)
    assert figures(dana.get("/admin?days=7").text) == {
        "spent": "$0.03", "person made requests": "1", "requests": "2", "blocked now": "0",
    }  # fmt: skip
    assert figures(dana.get("/admin").text)["spent"] == "$0.07"
    assert figures(dana.get("/admin?days=90").text) == {
        "spent": "$0.57", "people made requests": "3", "requests": "6", "blocked now": "0",
    }  # fmt: skip


def test_blocked_is_who_spent_all_in_the_window_of_their_own_budget(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.1, ago=6)  # 7 days: the last one that counts
    spend(ledger, "amy@example.com", 5, ago=7)  # no longer
    spend(ledger, BOB, 1, ago=59)  # 60 days: further back than the page looks
    spend(ledger, CHARLIE, 0.05)  # a day
    spend(ledger, "chris@example.org", 0.05, ago=1)
    page = dana.get("/admin?blocked=1").text
    assert people(page) == [ALICE, CHARLIE, BOB]
    assert figures(page)["blocked now"] == "3"
    assert people(dana.get("/admin").text) == ["amy@example.com", ALICE, CHARLIE, "chris@example.org", BOB]
    assert page.count(">blocked</span>") == 3


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("cost", [BOB, ALICE, CHARLIE]),
        ("requests", [CHARLIE, ALICE, BOB]),
        ("email", [ALICE, BOB, CHARLIE]),
        ("share", [ALICE, CHARLIE, BOB]),
        ("nonsense", [BOB, ALICE, CHARLIE]),
    ],
)
def test_people_are_sorted_as_asked(dana: FlaskClient, ledger: Ledger, sort: str, order: list[str]) -> None:
    spend(ledger, ALICE, 0.09, times=2)  # 90 %
    spend(ledger, BOB, 0.2)  # 20 %
    spend(ledger, CHARLIE, 0.02, times=5)  # 40 %
    page = dana.get(f"/admin?sort={sort}").text
    assert people(page) == order
    assert page.count("aria-sort") == 1


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("@example.org", [CHARLIE]),
        ("ALICE", [ALICE]),
        ("%", ["50%_off@example.com"]),
        ("_", ["50%_off@example.com", "under_score@example.com"]),
        ("!", []),
        ("' OR 1=1 --", []),
        ("  bob ", [BOB]),
        ("", ["50%_off@example.com", ALICE, BOB, CHARLIE, "under_score@example.com"]),
    ],
)
def test_a_search_is_for_these_very_letters_and_narrows_the_whole_page(
    dana: FlaskClient, ledger: Ledger, search: str, found: list[str]
) -> None:
    for email in (ALICE, BOB, CHARLIE, "50%_off@example.com", "under_score@example.com"):
        spend(ledger, email, 0.01)
    asked = {"q": search, "sort": "email"}
    page = dana.get("/admin", query_string=asked).text
    assert [path.replace("%25", "%") for path in people(page)] == found
    assert figures(page)["spent"] == brief(len(found) * 10_000_000)
    assert [line["email"] for line in lines(dana.get("/admin/people.csv", query_string=asked))] == found
    for name in ("models", "apps", "days"):
        told = lines(dana.get(f"/admin/{name}.csv", query_string=asked))
        assert sum(int(line["requests"]) for line in told) == len(found)


def test_somebody_who_is_not_in_the_books_can_be_opened(dana: FlaskClient) -> None:
    assert 'href="/admin/people/erin@example.com"' in dana.get("/admin?q=erin@example.com").text
    assert "/admin/people/" not in dana.get("/admin?q=erin").text
    page = dana.get("/admin/people/erin@example.com").text
    assert "$0.10" in page
    assert "not spent anything" in page


def test_many_people_take_several_pages(dana: FlaskClient, ledger: Ledger) -> None:
    for number in range(120):
        spend(ledger, f"p{number:03}@example.com", 0.001)
    pages = [dana.get(f"/admin?sort=email&page={page}").text for page in (1, 2, 3)]
    assert [len(people(page)) for page in pages] == [50, 50, 20]
    assert people(pages[2])[-1] == "p119@example.com"
    assert "51–100 of 120" in pages[1]
    assert [('rel="prev"' in page, 'rel="next"' in page) for page in pages] == [(0, 1), (1, 1), (1, 0)]
    assert 'href="/admin?sort=email&amp;page=3#people"' in pages[1]
    for beyond in ("4", "999999"):
        assert people(dana.get(f"/admin?sort=email&page={beyond}").text) == people(pages[2])
    for nonsense in ("0", "-1", "x", "", "9" * 400, "²"):
        assert people(dana.get(f"/admin?sort=email&page={nonsense}").text) == people(pages[0])
    assert len(lines(dana.get("/admin/people.csv"))) == 120


def test_every_link_keeps_the_rest_of_the_view(dana: FlaskClient, ledger: Ledger) -> None:
    for number in range(60):
        spend(ledger, f"p{number}@example.com", 0.2)
    page = html.unescape(dana.get("/admin?days=7&q=p&sort=email&blocked=1").text)
    for link in (
        "/admin?q=p&sort=email&blocked=1",  # 30 days
        "/admin?days=7&q=p&blocked=1",  # by cost
        "/admin?days=7&q=p&sort=email",  # everybody
        "/admin?days=7&q=p&sort=email&blocked=1&page=2#people",
        "/admin/people.csv?days=7&q=p&sort=email&blocked=1",
    ):
        assert f'href="{link}"' in page
    hidden = dict(re.findall(r'<input type="hidden" form="search" name="(\w+)" value="(\w+)"', page))
    assert hidden == {"days": "7", "sort": "email", "blocked": "1"}


def test_models_and_apps_are_summed_over_everybody(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.02, model="gpt-4o", app="https://quiz.example.com")
    spend(ledger, BOB, 0.03, model="gpt-4o")
    spend(ledger, BOB, 0.01, provider="openrouter", model="google/gemini-2.5-flash")
    for line, cost in {"openai/gpt-4o": "0.05", "openrouter/google/gemini-2.5-flash": "0.01"}.items():
        assert re.search(rf"{line}</td>.*?\${cost}<", dana.get("/admin").text, re.DOTALL)
    assert lines(dana.get("/admin/models.csv"))[0] == {
        "provider": "openai", "model": "gpt-4o", "cost": "0.05", "requests": "2", "input_tokens": "200",
        "output_tokens": "40",
    }  # fmt: skip
    assert [(line["app"], line["cost"]) for line in lines(dana.get("/admin/apps.csv"))] == [
        ("", "0.04"),
        ("https://quiz.example.com", "0.02"),
    ]


def test_the_sheet_of_people_tells_their_budgets(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, CHARLIE, 0.06)
    spend(ledger, ALICE, 0.03, ago=8)
    assert lines(dana.get("/admin/people.csv")) == [
        {
            "email": CHARLIE, "budget_spent": "0.06", "budget_limit": "0.05", "budget_days": "1", "blocked": "yes",
            "cost": "0.06", "requests": "1", "input_tokens": "100", "output_tokens": "20",
        },
        {
            "email": ALICE, "budget_spent": "0", "budget_limit": "0.1", "budget_days": "7", "blocked": "no",
            "cost": "0.03", "requests": "1", "input_tokens": "100", "output_tokens": "20",
        },
    ]  # fmt: skip


def test_days_are_told_from_the_first_to_the_last(dana: FlaskClient, ledger: Ledger) -> None:
    for ago in (3, 0, 8):
        spend(ledger, ALICE, 0.01, ago=ago)
    told = [line["date"] for line in lines(dana.get("/admin/days.csv?days=7"))]
    assert told == [(TODAY - timedelta(days=ago)).isoformat() for ago in (3, 0)]


def test_providers_tell_what_is_missing_and_how_they_did(make_app: MakeApp) -> None:
    app = make_app(dev=True, AIPIPE_PUBLIC_URL=None, OPENROUTER_API_KEY=None)
    ledger = app.extensions["aipipe"].ledger
    for duration, first_token in ((100, None), (2500, 80), (90_000, 1400)):
        spend(ledger, ALICE, 0.001, duration=duration, first_token=first_token)
    spend(ledger, ALICE, 0.001, ended="partial", first_token=90)
    ledger.failures.note("openai", 429, "It wants AI Pipe to ask less.")
    now = datetime.now(UTC)
    page = signed_in(app, DANA).get("/admin").text
    assert "set OPENROUTER_API_KEY" in page
    assert "set OPENAI_API_KEY" not in page
    assert "4 requests · first token after 90 ms · whole answer after 2.5 s" in page
    assert f"Last error {now:%Y-%m-%d} " in page
    assert "UTC, 429: It wants AI Pipe to ask less." in page


def test_what_was_for_no_request_is_booked_to_no_token(app: Flask, dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.02)
    spend(ledger, ALICE, 0.03, provider="", model="", ended="imported")
    ledger.adjust(ALICE, TODAY, 60_000_000)
    alice = signed_in(app, ALICE)
    for client, path, name in (
        (dana, "/admin", "with a personal token"),
        (dana, f"/admin/people/{ALICE}", "with a personal token"),
        (alice, "/usage", "with your own token"),
    ):
        apps = client.get(path, headers=PAGE).text.partition("By app</h2>")[2].partition("</table>")[0]
        told = re.findall(r'<td class="name">(.*?)</td>.*?>([\d.$]+)</span>', apps)
        assert told == [("adjusted or imported", "$0.04"), (name, "$0.02")], path


def test_cards_count_who_made_requests_and_the_list_who_cost_anything(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.02)
    ledger.adjust(BOB, TODAY, 10)
    page = dana.get("/admin").text
    assert figures(page)["person made requests"] == "1"
    assert "<span>1–2 of 2</span> with requests or costs" in page


# One person


def test_a_persons_page_is_about_that_person_alone(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.04, app="https://quiz.example.com")
    spend(ledger, "malice@example.com", 0.05, model="gpt-4o")
    page = dana.get(f"/admin/people/{ALICE}?days=7").text
    for text in ("$0.06", "https://quiz.example.com", "openai/gpt-4.1-nano", "100 / 20", "900 ms", "may spend"):
        assert text in page
    assert "gpt-4o" not in page
    assert [line["app"] for line in lines(dana.get(f"/admin/person.csv?email={ALICE}"))] == ["https://quiz.example.com"]


def test_whose_budget_is_used_up_is_told_when_there_is_more(app: Flask, dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.05, ago=7)  # no longer counts
    spend(ledger, ALICE, 0.04, ago=5)
    client = signed_in(app, ALICE)
    for more, spent in (("", 0.05), (f"More is free from {TODAY + timedelta(days=2)} (UTC).", 0.01)):
        spend(ledger, ALICE, spent)
        own = [client.get(path, headers=PAGE).text for path in ("/login", "/usage")]
        for page in (dana.get(f"/admin/people/{ALICE}").text, *own):
            assert re.findall("More is free[^<]*", page) == ([more] if more else [])


def test_who_has_no_budget_is_promised_none(make_app: MakeApp) -> None:
    app = make_app(dev=True, AIPIPE_PUBLIC_URL=None, AIPIPE_BUDGET={ALICE: {"limit": 0}})
    app.extensions["aipipe"].ledger.adjust(ALICE, TODAY, 5)
    assert "More is free" not in signed_in(app, ALICE).get("/usage", headers=PAGE).text


def test_what_is_not_plain_about_how_requests_ended_is_explained_where_it_happened(
    app: Flask, dana: FlaskClient, ledger: Ledger
) -> None:
    spend(ledger, ALICE, 0.001)
    alice = signed_in(app, ALICE)
    for told, changes in ((False, {}), (True, {"ended": "partial"})):
        spend(ledger, ALICE, 0.001, **changes)
        for client, path in ((alice, "/usage"), (dana, f"/admin/people/{ALICE}")):
            assert ("cut short, and charged for what there was" in client.get(path, headers=PAGE).text) == told


@pytest.mark.parametrize("path", ["/admin/people/nobody", "/admin/people/a%20b@example.com", "/admin/person.csv"])
def test_what_is_no_email_is_nobodys_page(dana: FlaskClient, path: str) -> None:
    assert dana.get(path, headers=PAGE).status_code == 400


def test_a_days_cost_is_set_when_the_admin_is_sure(
    dana: FlaskClient, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    spend(ledger, ALICE, 0.1)
    fields = {"email": " Alice@Example.com ", "date": TODAY.isoformat(), "cost": "$0.025"}
    asked = ask(dana, "/admin/adjust", **fields)
    assert asked.status_code == 200
    assert f"Set the cost of {ALICE} on {TODAY}?" in asked.text
    assert "It is $0.1 now and will be $0.025: an entry of -$0.075 goes into the books." in asked.text
    assert ledger.spent(ALICE, TODAY) == 100_000_000
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    done = dana.post("/admin/adjust", data=hidden, headers=OURS)
    assert (done.status_code, done.headers["Location"]) == (303, f"/admin/people/{ALICE}?done=cost")
    assert ledger.spent(ALICE, TODAY) == 25_000_000
    assert ledger.entries(ALICE)[0].ended == "adjusted"
    assert ledger.balanced()
    assert f"{DANA} set the cost of {ALICE} on {TODAY} to $0.025, by $-0.075" in caplog.text
    assert "The cost was set." in dana.get(done.headers["Location"]).text


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost": "-1"},
        {"cost": ""},
        {"cost": "much"},
        {"cost": "nan"},
        {"cost": "inf"},
        {"cost": "1e99"},
        {"cost": "1,50"},
        {"date": "yesterday"},
        {"date": ""},
        {"date": "2026-13-01"},
        {"date": (TODAY + timedelta(days=2)).isoformat()},
        {"email": "alice"},
        {"email": ""},
    ],
    ids=str,
)
def test_a_cost_that_makes_no_sense_is_refused(dana: FlaskClient, ledger: Ledger, wrong: dict[str, str]) -> None:
    fields = {"email": ALICE, "date": TODAY.isoformat(), "cost": "1", **wrong}
    for send in (ask, form):
        assert send(dana, "/admin/adjust", **fields).status_code == 400
    assert ledger.spent(ALICE, date.min) == 0


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("cost", "abc", "with a point, such as 0.05"),
        ("cost", "0,05", "with a point, such as 0.05"),
        ("cost", '"><script>', "with a point, such as 0.05"),
        ("date", (TODAY + timedelta(days=2)).isoformat(), "is yet to come"),
    ],
)
def test_what_was_mistyped_stays_in_its_form_which_says_what_is_meant(
    dana: FlaskClient, field: str, typed: str, told: str
) -> None:
    fields = {"email": ALICE, "date": "2026-01-02", "cost": "0.5", field: typed}
    page = ask(dana, "/admin/adjust", **fields).text
    for name, value in (("date", fields["date"]), ("cost", fields["cost"])):
        found = re.search(f'<input name="{name}"[^>]*>', page)
        assert found
        assert f'value="{html.escape(value)}"' in found[0].replace("&#34;", "&quot;")
        assert ('aria-invalid="true" aria-describedby="mistake" autofocus' in found[0]) == (name == field)
    mistake = re.search('<small id="mistake"[^>]*>(.*?)</small>', page)
    assert mistake
    assert told in mistake[1]


def test_a_token_is_made_when_the_admin_is_sure_and_shown_once(
    app: Flask, dana: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ask(dana, "/admin/issue", email=ALICE)
    assert f"Make a token for {ALICE}?" in asked.text
    assert "eyJ" not in asked.text
    done = form(dana, "/admin/issue", email=ALICE)
    assert (done.status_code, done.headers["Location"]) == (303, f"/admin/people/{ALICE}")
    assert not JWT.search(str(done.headers))
    made = dana.get(done.headers["Location"])
    assert made.headers["Cache-Control"] == "no-store"
    found = re.search(r'<input id="token" type="password" readonly value="(eyJ[\w.-]+)"', made.text)
    assert found
    caller = app.test_client().get("/usage", headers={"Authorization": f"Bearer {found[1]}"})
    assert caller.json["email"] == ALICE
    assert f"{DANA} made a token for {ALICE}" in caplog.text
    assert found[1] not in caplog.text
    assert not JWT.search(str(made.headers))
    assert "eyJ" not in dana.get(f"/admin/people/{ALICE}").text


def test_an_admin_who_resets_their_own_tokens_stays_signed_in(dana: FlaskClient) -> None:
    assert form(dana, "/admin/reset", email=DANA).status_code == 303
    assert dana.get("/admin", headers=PAGE).status_code == 200


def test_a_cookie_that_was_kept_shows_no_second_token(dana: FlaskClient) -> None:
    form(dana, "/admin/issue", email=ALICE)
    kept = dana.get_cookie("aipipe")
    assert kept
    assert "eyJ" in dana.get(f"/admin/people/{ALICE}").text
    dana.set_cookie("aipipe", kept.value)
    assert "eyJ" not in dana.get(f"/admin/people/{ALICE}").text


def test_a_token_is_shown_on_the_page_of_its_owner_alone(dana: FlaskClient) -> None:
    form(dana, "/admin/issue", email=ALICE)
    assert "eyJ" not in dana.get(f"/admin/people/{BOB}").text
    assert "eyJ" not in dana.get(f"/admin/people/{ALICE}").text  # whoever looks elsewhere first asks again


@pytest.mark.parametrize("path", DEEDS)
def test_a_question_does_nothing_and_no_address_that_is_opened_does(
    app: Flask, dana: FlaskClient, ledger: Ledger, path: str
) -> None:
    fields = {"email": ALICE, "date": TODAY.isoformat(), "cost": "1"}
    for client, status in ((app.test_client(), 302), (signed_in(app, BOB), 403), (dana, 200)):
        assert ask(client, path, **fields).status_code == status
    assert "eyJ" not in dana.get(f"/admin/people/{ALICE}").text
    assert ledger.spent(ALICE, TODAY) == 0
    assert ledger.void_before(ALICE) is None


def test_tokens_are_reset_when_the_admin_is_sure(
    app: Flask, dana: FlaskClient, token: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    alices, bobs = ({"Authorization": token(email)} for email in (ALICE, BOB))
    ask(dana, "/admin/reset", email=ALICE)
    assert app.test_client().get("/usage", headers=alices).status_code == 200
    assert form(dana, "/admin/reset", email=ALICE).headers["Location"] == f"/admin/people/{ALICE}?done=reset"
    assert app.test_client().get("/usage", headers=alices).status_code == 401
    assert app.test_client().get("/usage", headers=bobs).status_code == 200
    assert f"{DANA} reset the tokens of {ALICE}" in caplog.text


# What people from outside put there


@pytest.mark.parametrize(
    "email",
    [
        f"{HOSTILE}@example.com",
        '"onfocus=alert(1)@example.com',
        "../../login@example.com",
        "a/b?c=d#e@example.com",
        "100%25@example.com",
        "ünï@exämple.com",
        "x&days=7@example.com",
        "=1+1@example.com",
    ],
)
def test_hostile_emails_are_text_and_have_their_page(dana: FlaskClient, ledger: Ledger, email: str) -> None:
    spend(ledger, email, 0.01)
    page = dana.get("/admin").text
    assert HOSTILE not in page
    [link] = people(page)
    assert re.fullmatch(r"[\w@%.~-]+", link)
    answer = dana.get(f"/admin/people/{link}")
    assert answer.status_code == 200
    assert f'<h1 class="email">{html.escape(email)}</h1>' in answer.text.replace("&#34;", "&quot;").replace("<wbr>", "")
    assert "100 / 20" in answer.text
    sheet = html.unescape(re.findall(r'href="(/admin/person.csv[^"]*)"', answer.text)[0])
    assert len(lines(dana.get(sheet))) == 1
    assert not lines(dana.get("/admin/people.csv"))[0]["email"].startswith("=")
    done = form(dana, "/admin/reset", email=email)
    assert dana.get(done.headers["Location"]).status_code == 200


def test_hostile_names_of_models_and_apps_and_words_searched_for_are_text(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.01, model=HOSTILE, app=HOSTILE, provider=HOSTILE)
    attacks = {"q": HOSTILE, "sort": HOSTILE, "days": HOSTILE, "page": HOSTILE, "done": HOSTILE}
    for path in PAGES:
        for query in ({}, attacks, {"q": '"><img src=x onerror=alert(1)>'}):
            page = dana.get(path, query_string=query).text
            assert HOSTILE not in page
            assert "<img src=x" not in page
    assert HOSTILE not in ask(dana, "/admin/adjust", email=ALICE, date="2026-01-01", cost=HOSTILE).text


def test_nothing_on_the_pages_needs_a_style_or_a_handler_in_an_attribute(dana: FlaskClient, ledger: Ledger) -> None:
    spend(ledger, ALICE, 0.2)
    asked = ask(dana, "/admin/issue", email=ALICE).text
    for page in (*(dana.get(path).text for path in PAGES), asked):
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page)


# Sums and shares


@dataclass(frozen=True)
class Case:
    spent: int
    limit: int
    share: float
    blocked: bool


@pytest.mark.parametrize(
    "case",
    [Case(0, 100, 0.0, False), Case(99, 100, 0.99, False), Case(100, 100, 1.0, True), Case(250, 100, 2.5, True),
     Case(-5, 100, -0.05, False), Case(0, 0, 1.0, True)],
    ids=str,
)  # fmt: skip
def test_a_share_is_of_ones_own_budget(case: Case) -> None:
    person = Person(ALICE, Total((ALICE,), 0, 0, 0, 0), Budget(case.limit), case.spent)
    assert (person.share, person.blocked) == (case.share, case.blocked)


def test_who_is_alike_is_sorted_by_email() -> None:
    some = [Person(email, Total((email,), 5, 1, 0, 0), Budget(10), 5) for email in (BOB, ALICE)]
    for order in ORDERS.values():
        assert [person.email for person in sorted(some, key=order)] == [ALICE, BOB]


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (1, "<$0.000001"),
        (1_499, "$0.000001"),
        (57_123, "$0.000057"),
        (1_234_567, "$0.00123"),
        (999_600_000, "$1.00"),
        (980_170_000, "$0.98"),
        (120_066_443_000, "$120.07"),
        (-1_326_187_000, "-$1.33"),
    ],
)
def test_sums_are_shown_to_three_digits_or_the_cent(nano: int, shown: str) -> None:
    assert brief(nano) == shown
