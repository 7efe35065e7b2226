"""The commands, run in an empty folder: what they print, what they refuse, and that no secret is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aipipe import tokens
from aipipe.cli import main
from aipipe.ledger import open_ledger
from aipipe.settings import SETTINGS, load

SECRET = "0123456789abcdef0123456789abcdef"
TODAY = datetime.now(UTC).date()

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("AIPIPE_") or name in {setting.name for setting in SETTINGS}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environ: str) -> Result:
    """A command of a server that has a secret, unless `AIPIPE_SECRET` says otherwise."""
    result = CliRunner().invoke(main, arguments, env={"AIPIPE_SECRET": SECRET, **environ})
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    return result


def claims(token: str, secret: str = SECRET, salts: dict[str, str] | None = None) -> tokens.Claims:
    return tokens.verify(token.strip(), secrets=[secret], salts=salts or {}, now=time.time())


def spend(*costs: tuple[str, int, int]) -> None:
    """Books `(email, days ago, nanodollars)` in the ledger of this folder."""
    with closing(open_ledger(load({"AIPIPE_SECRET": SECRET})["AIPIPE_DATABASE_URL"])) as ledger:
        for email, ago, cost in costs:
            ledger.adjust(email, TODAY - timedelta(days=ago), cost)


def test_token_prints_a_personal_token_and_nothing_else() -> None:
    result = run("token", "Alice@Example.com")
    got = claims(result.stdout)
    assert (result.exit_code, result.stderr, len(result.stdout.split())) == (0, "", 1)
    assert (got.email, got.app) == ("alice@example.com", None)
    assert got.expires is not None
    assert got.expires == pytest.approx(time.time() + 365 * 86_400, abs=120)


@pytest.mark.parametrize(("arguments", "days"), [((), 3), (("--days", "5"), 5)])
def test_token_is_good_for_the_days_that_are_asked_for(arguments: tuple[str, ...], days: int) -> None:
    got = claims(run("token", "alice@example.com", *arguments, AIPIPE_TOKEN_DAYS="3").stdout)
    assert got.expires == pytest.approx(time.time() + days * 86_400, abs=120)


def test_token_works_where_an_app_has_an_earlier_one_for_a_key() -> None:
    first = run("token", "alice@example.com").stdout.strip()
    assert claims(run("token", "bob@example.com", OPENAI_API_KEY=first).stdout).email == "bob@example.com"
    for command in ("check", "dev", "serve"):
        result = run(command, OPENAI_API_KEY=first)
        assert result.exit_code == 1
        assert "OPENAI_API_KEY is an AI Pipe token, as apps send it." in result.output
        assert first not in result.output


def test_token_carries_its_owners_salt() -> None:
    salted = {"AIPIPE_SALT": '{"Bob@example.com": "pepper"}'}
    salts = {"bob@example.com": "pepper"}
    assert claims(run("token", "bob@EXAMPLE.com", **salted).stdout, salts=salts).email == "bob@example.com"


def test_token_uses_the_secret_of_aipipe_dev_and_says_so(folder: Path) -> None:
    secret = load({}, dev=True)["AIPIPE_SECRET"]
    result = run("token", "alice@example.com", AIPIPE_SECRET="")
    assert claims(result.stdout, secret).email == "alice@example.com"
    assert f"using the one of `aipipe dev`, {folder}/instance/dev-secret" in result.stderr
    assert secret not in result.output


def test_token_prefers_a_secret_that_is_set(folder: Path) -> None:
    load({}, dev=True)
    result = run("token", "alice@example.com")
    assert claims(result.stdout).email == "alice@example.com"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (("token", "alice@example.com"), {"AIPIPE_SECRET": ""}, "AIPIPE_SECRET is not set. Make one with"),
        (("token", "alice"), {}, "'alice' is not an email address."),
        (("usage",), {"AIPIPE_TOKEN_DAYS": "x"}, "TOKEN_DAYS must be a whole number"),
        (("usage",), {"AIPIPE_DATABASE_URL": "sqlite:////nowhere/at/all.db"}, "ledger"),
        (("serve",), {"AIPIPE_SECRET": ""}, "AIPIPE_SECRET is not set. Make one with"),
        (("serve",), {"AIPIPE_UNSAFE_LOOPBACK": "1"}, "UNSAFE_LOOPBACK is for tests"),
        (("dev",), {"AIPIPE_BUGDET": "1"}, "did you mean AIPIPE_BUDGET?"),
    ],
)
def test_what_goes_wrong_is_one_sentence(arguments: tuple[str, ...], environ: dict[str, str], says: str) -> None:
    result = run(*arguments, **environ)
    assert result.exit_code == 1
    assert says in result.output
    assert len(result.output.splitlines()) == 1


def test_usage_lists_everybodys_days_newest_first() -> None:
    spend(("alice@example.com", 1, 137_000), ("bob@example.com", 0, 2_000_000_000), ("alice@example.com", 400, 1))
    lines = [line.split() for line in run("usage").stdout.splitlines()]
    assert lines == [
        [str(TODAY), "$2", "bob@example.com"],
        [str(TODAY - timedelta(days=1)), "$0.000137", "alice@example.com"],
        [str(TODAY - timedelta(days=400)), "$0.000000001", "alice@example.com"],
        ["Total", "$2.000137001"],
    ]


def test_usage_of_one_person_ends_with_what_counts_against_their_budget() -> None:
    spend(("alice@example.com", 1, 137_000), ("alice@example.com", 9, 5_000), ("bob@example.com", 0, 1))
    lines = run("usage", "Alice@example.com").stdout.splitlines()
    assert len(lines) == 3
    assert lines[-1] == "$0.000137 of $0.1 in 7 days"
    assert "bob" not in "".join(lines)


def test_usage_as_csv_has_the_columns_of_the_ledgers_cost_view() -> None:
    spend(("alice@example.com", 0, 12_000), ("bob@example.com", 0, 0))
    everybody = run("usage", "--csv").stdout
    assert everybody.splitlines()[:2] == ["email,date,cost", f"alice@example.com,{TODAY},0.000012"]
    assert run("usage", "bob@example.com", "--csv").stdout.splitlines()[0] == "email,date,cost"


def test_usage_of_an_empty_ledger() -> None:
    assert run("usage").stdout.split() == ["Total", "$0"]
    assert run("usage", "alice@example.com").stdout == "$0 of $0.1 in 7 days\n"


def test_check_tells_what_is_on_and_off() -> None:
    result = run(
        "check",
        ADMIN_EMAILS="dana@example.com",
        OPENAI_API_KEY="sk-hunter2",
        AIPIPE_BUDGET='{"*": {"limit": 0.5}, "@example.com": {"limit": 1, "days": 7, "models": ["gpt-4o"], "rpm": 3}}',
    )
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    for line in (
        "Secret 32 bytes",
        "Sign-in off: nobody can sign in on the pages; GOOGLE_CLIENT_ID turns it on",
        "Admins dana@example.com",
        "Limits a minute in the ledger's database",
        "Reached directly",
        "/proxy on, for anybody",
        "/metrics off; METRICS_TOKEN turns it on",
        "Provider openai on",
        "Provider openrouter off; OPENROUTER_API_KEY turns it on",
        "Budget * $0.5 today",
        "Budget @example.com $1 in 7 days, only gpt-4o, 3 requests a minute",
        "Nothing to fix.",
    ):
        assert line in lines
    assert "hunter2" not in result.output


def test_check_prints_no_password_of_a_database(postgres: str) -> None:
    result = run("check", AIPIPE_DATABASE_URL=f"{postgres}?password=hunter2&sslpassword=hunter2")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"Ledger {postgres.rpartition('@')[2]} answers" in lines
    assert "hunter2" not in result.output


def test_prune_sums_up_what_is_older_than_the_setting_says() -> None:
    spend(("alice@example.com", 0, 5))
    with closing(open_ledger(load({"AIPIPE_SECRET": SECRET})["AIPIPE_DATABASE_URL"])) as ledger:
        ledger._database.write(lambda execute: execute("UPDATE entry SET time = time - 40 * 86400"))
    assert "KEEP_ENTRIES_DAYS is not set" in run("prune").stderr
    for environ, arguments, summed_up in (
        ({"AIPIPE_KEEP_ENTRIES_DAYS": "50"}, (), 0),
        ({"AIPIPE_KEEP_ENTRIES_DAYS": "50"}, ("--days", "35"), 1),
        ({"AIPIPE_KEEP_ENTRIES_DAYS": "31"}, (), 0),
    ):
        result = run("prune", *arguments, **environ)
        lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
        assert lines[0].startswith(f"Summed up {summed_up} entries")
        assert lines[1:] == ["Balanced yes"]
    assert "$0.000000005" in run("usage").stdout


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"AIPIPE_TRUSTED_PROXIES": "1"}, "Reached behind 1 reverse proxy"),
        (
            {"AIPIPE_PUBLIC_URL": "https://aipipe.example.com"},
            "Reached https, but TRUSTED_PROXIES=0: all callers share an address, and cookies aren't Secure; better 1",
        ),
        ({"AIPIPE_PROXY__enabled": "off"}, "/proxy off"),
        ({"GOOGLE_CLIENT_ID": "1-a.apps.googleusercontent.com"}, "Sign-in Google"),
        (
            {"GOOGLE_CLIENT_ID": "hunter2"},
            "Sign-in Google, but GOOGLE_CLIENT_ID doesn't end in .apps.googleusercontent.com: copy it again",
        ),
        ({"AIPIPE_METRICS_TOKEN": "hunter2hunter2hunter2"}, "/metrics on"),
        (
            {"AIPIPE_REDIS_URL": "redis://:hunter2@127.0.0.1:1"},
            "Limits a minute in Redis, which does not answer: the ledger counts meanwhile",
        ),
    ],
)
def test_check_tells_how_one_is_reached_and_counted(environ: dict[str, str], line: str) -> None:
    result = run("check", **environ)
    assert line in [" ".join(each.split()) for each in result.stdout.splitlines()]
    assert (result.exit_code, "hunter2" in result.output) == (0, False)


def test_check_tells_everything_that_is_wrong_and_fails() -> None:
    result = run(
        "check",
        AIPIPE_SECRET="",
        AIPIPE_BUDGET='{"alice": {"limit": 1}}',
        AIPIPE_PRICES='{"gpt-4o": 1}',
        AIPIPE_PROVIDERS__groq__key="GROQ_API_KEY",
        AIPIPE_DATABASE_URL="sqlite:////nowhere/at/all.db",
    )
    fixes = [line for line in result.stderr.splitlines() if line.startswith("To fix: ")]
    assert result.exit_code == 1
    named = ("AIPIPE_SECRET", "PROVIDERS", "BUDGET", "PRICES", "ledger")
    assert [name in fix for fix, name in zip(fixes, named, strict=True)] == [True] * len(named)
    assert "Nothing to fix" not in result.output


def test_check_makes_no_secret(folder: Path) -> None:
    run("check", AIPIPE_SECRET="")
    assert not (folder / "instance" / "dev-secret").exists()
