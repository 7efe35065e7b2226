"""Settings: who wins, what is refused and in which words, and that the documentation tells the same."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from aipipe import budgets, settings, tokens
from aipipe.casts import PROXY_DEFAULTS
from aipipe.errors import ConfigError
from aipipe.settings import SETTINGS, Setting, load

ROOT = Path(__file__).parent.parent
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def loaded(environ: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    return load({"AIPIPE_SECRET": SECRET, **(environ or {})}, **options)


def refusal(environ: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(environ, **options)
    return str(caught.value)


# Where values come from


def test_without_anything_every_setting_has_its_default() -> None:
    config = loaded()
    for setting in SETTINGS:
        if setting.name not in ("AIPIPE_SECRET", "AIPIPE_DATABASE_URL"):
            assert config[setting.name] == setting.default


def test_defaults_are_what_their_casts_would_give() -> None:
    for setting in SETTINGS:
        assert setting.default is None or setting.cast(setting.default) == setting.default


def test_defaults_can_not_be_changed_through_a_config() -> None:
    loaded()["BUDGET"]["*"]["limit"] = 100
    assert loaded()["BUDGET"]["*"]["limit"] == 0.1


def test_later_sources_win() -> None:
    days = []
    for place, text in (("instance/config.py", "TOKEN_DAYS = 1"), (".env", "AIPIPE_TOKEN_DAYS=2")):
        write(place, text)
        days.append(loaded()["TOKEN_DAYS"])
    days.append(loaded({"AIPIPE_TOKEN_DAYS": "3"})["TOKEN_DAYS"])
    assert days == [1, 2, 3]


def test_of_one_source_the_prefixed_name_wins() -> None:
    assert loaded({"OPENAI_API_KEY": "sk-1", "AIPIPE_OPENAI_API_KEY": "sk-2"})["OPENAI_API_KEY"] == "sk-2"
    write(".env", "AIPIPE_OPENAI_API_KEY=sk-2")
    assert loaded({"OPENAI_API_KEY": "sk-1"})["OPENAI_API_KEY"] == "sk-1"


def test_an_empty_value_means_the_default() -> None:
    write("instance/config.py", "TOKEN_DAYS = 1\nOPENAI_API_KEY = 'sk-1'")
    config = loaded({"AIPIPE_TOKEN_DAYS": "", "OPENAI_API_KEY": ""})
    assert (config["TOKEN_DAYS"], config["OPENAI_API_KEY"]) == (365, None)


def test_the_seeds_own_variables_work_from_a_dotenv_file() -> None:
    write(
        ".env",
        'AIPIPE_SECRET=MTIzNDU2Nzg5MDEyMzQ1Njc4\n# a comment\nADMIN_EMAILS="Dana@example.com,  alice@example.com"\n'
        "OPENROUTER_API_KEY=sk-or-v1-$1 # via openrouter.ai/settings\nOTHER=1\n",
    )
    config = load({})
    assert config["AIPIPE_SECRET"] == "MTIzNDU2Nzg5MDEyMzQ1Njc4"
    assert config["ADMIN_EMAILS"] == ["dana@example.com", "alice@example.com"]
    assert config["KEYS"] == {"OPENROUTER_API_KEY": "sk-or-v1-$1"}
    assert "OPENROUTER_API_KEY" not in os.environ


def test_items_are_set_one_by_one_over_what_is_there() -> None:
    write("instance/config.py", 'PROVIDERS = {"groq": {"base": "https://api.groq.com/openai", "key": "GROQ_KEY"}}')
    config = loaded(
        {
            "AIPIPE_PROVIDERS__groq__base": "http://127.0.0.1:9000/",
            "AIPIPE_PROVIDERS__openai__base": "http://127.0.0.1:9001",
            "AIPIPE_BUDGET": '{"*": {"limit": 1}}',
            "AIPIPE_BUDGET__@example.com__limit": "2.5",
            "AIPIPE_PROXY__per_minute": "7",
            "AIPIPE_PROXY__enabled": "off",
            "GROQ_KEY": "gsk-1",
        }
    )
    assert config["PROVIDERS"]["groq"] == {"base": "http://127.0.0.1:9000", "key": "GROQ_KEY"}
    assert config["PROVIDERS"]["openai"] == {"base": "http://127.0.0.1:9001"}
    assert config["BUDGET"] == {"*": {"limit": 1}, "@example.com": {"limit": 2.5}}
    assert config["PROXY"] == {**PROXY_DEFAULTS, "per_minute": 7, "enabled": False}
    assert config["KEYS"] == {"GROQ_KEY": "gsk-1"}


def test_keys_of_added_providers_come_from_every_source() -> None:
    write("instance/config.py", 'PROVIDERS = {n: {"base": "https://x.org", "key": n.upper()} for n in "abc"}\nA = "1"')
    write(".env", "B=2")
    assert loaded({"C": "3"})["KEYS"] == {"A": "1", "B": "2", "C": "3"}


def test_another_config_file_brings_its_own_instance_folder(empty_folder: Path) -> None:
    write("instance/config.py", "TOKEN_DAYS = 1")
    write("other/mine.py", "TOKEN_DAYS = 2")
    config = loaded({"AIPIPE_CONFIG": "other/mine.py"})
    assert config["TOKEN_DAYS"] == 2
    assert config["INSTANCE_FOLDER"] == empty_folder / "other"
    assert config["AIPIPE_DATABASE_URL"] == f"sqlite:///{empty_folder}/other/aipipe.db"
    assert settings.instance_folder({"AIPIPE_CONFIG": "other/mine.py"}) == empty_folder / "other"


def test_the_instance_folder_is_made(empty_folder: Path) -> None:
    assert loaded()["INSTANCE_FOLDER"] == empty_folder / "instance" == settings.instance_folder({})
    loaded(folder=empty_folder / "a" / "b")
    assert (empty_folder / "instance").is_dir()
    assert (empty_folder / "a" / "b").is_dir()


def test_the_committed_config_is_safe_as_it_stands() -> None:
    values = loaded({"AIPIPE_CONFIG": str(ROOT / "instance" / "config.py")})
    assert values["BUDGET"] == settings.DEFAULT_BUDGET
    assert values["SALT"] == values["PRICES"] == values["PROVIDERS"] == {}
    assert values["TRUSTED_APPS"] == []
    budgets.parse(values["BUDGET"])


# What is refused


def test_every_problem_is_told_at_once() -> None:
    message = refusal({"AIPIPE_TOKEN_DAYS": "x", "AIPIPE_PROXY__port": "80", "AIPIPE_BUGDET": "1"})
    assert len(message.splitlines()) == 3


def test_without_a_secret_production_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match=r"AIPIPE_SECRET is not set.*openssl rand -base64 32"):
        load({})


def test_a_bad_secret_is_told_once() -> None:
    assert len(refusal({"AIPIPE_SECRET": "short"}).splitlines()) == 1


TOKEN = tokens.issue("alice@example.com", secret=SECRET, now=0, days=1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (TOKEN, "OPENAI_API_KEY is an AI Pipe token, as apps send it. Unset it, or put a provider's own key there."),
        ("sk-or-v1-...", "OPENAI_API_KEY is a placeholder: put the key there that its provider shows."),
    ],
)
def test_what_can_be_no_providers_key_is_told_from_wherever_it_comes(value: str, says: str) -> None:
    assert refusal({"OPENAI_API_KEY": value}) == says
    groq = {"AIPIPE_PROVIDERS": '{"groq": {"base": "https://api.groq.com/openai", "key": "GROQ_API_KEY"}}'}
    assert refusal({**groq, "GROQ_API_KEY": value}) == says.replace("OPENAI", "GROQ")
    write(".env", f"OPENAI_API_KEY={value}")
    assert refusal() == says


def test_a_providers_key_that_is_a_jwt_is_one() -> None:
    key = jwt.encode({"iss": "api-key-issuer", "sub": "google-oauth2|1"}, SECRET, algorithm="HS256")
    assert loaded({"OPENAI_API_KEY": key})["OPENAI_API_KEY"] == key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("BUGDET = {}", "BUGDET in {file} is no setting; did you mean BUDGET?"),
        ("TOKEN_DAYS = 1\nBUDGET = {", "{file}, line 2: this is not valid Python."),
        ("TOKEN_DAYS = 1\n\nBUDGET = hunter2", "{file}, line 3: can't be run (NameError)."),
        ("BUDGET = 7", "BUDGET must be a mapping"),
    ],
)
def test_a_bad_config_file_is_told_by_line(empty_folder: Path, text: str, says: str) -> None:
    write("instance/config.py", text)
    message = refusal()
    assert says.format(file=empty_folder / "instance" / "config.py") in message
    assert "hunter2" not in message


def test_a_setting_that_dotenv_would_lose_is_told() -> None:
    write(".env", 'BUDGET={"*": {"limit": 5}}')
    assert "BUDGET in .env has no effect: write AIPIPE_BUDGET." in refusal()


def test_an_unreadable_dotenv_is_told(empty_folder: Path) -> None:
    (empty_folder / ".env").write_bytes(b"\xff\xfe\x00")
    assert "must be a text file in UTF-8" in refusal()


def test_what_others_keep_under_our_prefix_is_no_error() -> None:
    loaded({"AIPIPE_TOKEN": "eyJ", "AIPIPE_TEST_BROWSER": "1", "AIPIPEX": "1", "BUDGET": "not ours"})


def test_a_short_secret_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    loaded({"AIPIPE_SECRET": "x" * 31})
    assert "AIPIPE_SECRET has under 32 bytes" in caplog.text
    assert "xxx" not in caplog.text
    caplog.clear()
    loaded()
    assert not caplog.records


def test_a_google_client_id_that_is_none_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    loaded({"GOOGLE_CLIENT_ID": "hunter2"})
    assert "GOOGLE_CLIENT_ID doesn't end in .apps.googleusercontent.com" in caplog.text
    assert "hunter2" not in caplog.text
    caplog.clear()
    loaded({"GOOGLE_CLIENT_ID": "1-a.apps.googleusercontent.com"})
    assert not caplog.records


# Development


def test_development_makes_its_secret_once_for_its_owner_alone(empty_folder: Path) -> None:
    first, again = load({}, dev=True), load({}, dev=True)
    assert first["AIPIPE_SECRET"] == again["AIPIPE_SECRET"]
    assert len(first["AIPIPE_SECRET"]) >= 32
    assert (empty_folder / "instance" / "dev-secret").stat().st_mode & 0o777 == 0o600


def test_a_given_secret_comes_before_developments_own(empty_folder: Path) -> None:
    assert loaded(dev=True)["AIPIPE_SECRET"] == SECRET
    assert not (empty_folder / "instance" / "dev-secret").exists()


def test_workers_that_start_at_once_agree_on_the_secret(empty_folder: Path) -> None:
    code = "from aipipe.settings import load; input(); print(load({}, dev=True)['AIPIPE_SECRET'])"
    command = [sys.executable, "-c", code]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=empty_folder)
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = {worker.communicate()[0].strip() for worker in workers}
    assert len(said) == 1
    assert len(said.pop()) >= 32


def test_development_prices_its_model_under_the_operators_prices() -> None:
    own = {"local/smollm2-135m": {"input_mtok": 9}, "x/y": {"input_mtok": 1}}
    assert loaded(dev=True)["PRICES"] == settings.DEV_PRICES
    assert loaded({"AIPIPE_PRICES": json.dumps(own)}, dev=True)["PRICES"] == {**settings.DEV_PRICES, **own}
    assert loaded()["PRICES"] == {}


def test_development_embeds_locally_unless_told_otherwise() -> None:
    assert loaded(dev=True)["EMBEDDING_PROVIDER"] == "local"
    assert loaded({"AIPIPE_EMBEDDING_PROVIDER": "openai"}, dev=True)["EMBEDDING_PROVIDER"] == "openai"


def test_development_may_open_loopback_and_says_so_loudly(caplog: pytest.LogCaptureFixture) -> None:
    assert loaded({"AIPIPE_UNSAFE_LOOPBACK": "on"}, dev=True)["UNSAFE_LOOPBACK"] is True
    assert caplog.records[0].levelno == logging.WARNING
    assert "UNSAFE_LOOPBACK is on" in caplog.text


# Documentation


def row(setting: Setting) -> str:
    default = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
    shown = f"`{default}`" if setting.default or setting.default in (0, False) else "none"
    return f"| `{setting.name}` | {shown} | {setting.help} |"


def test_the_documentation_has_exactly_these_settings() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = [line for line in text.splitlines() if line.startswith("| `")]
    assert documented == [row(setting) for setting in SETTINGS]
    [bare] = re.findall(r"^(.+?) and providers' keys .* may go without", text, re.MULTILINE)
    keys = [setting.name for setting in SETTINGS if setting.name.endswith("_API_KEY")]
    assert {*re.findall(r"`(\w+)`", bare), *keys} == {setting.name for setting in SETTINGS if setting.bare}
