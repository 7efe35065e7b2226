"""Bad values of settings: each is named, with what to write, and none is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipipe.errors import ConfigError
from aipipe.settings import load

SECRET = "0123456789abcdef0123456789abcdef"

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "short secret": ({"AIPIPE_SECRET": "x" * 15}, "AIPIPE_SECRET must have at least 16 bytes"),
    "short old secret": ({"AIPIPE_SECRET_PREVIOUS": "x" * 15}, "AIPIPE_SECRET_PREVIOUS must have"),
    "misspelt": ({"AIPIPE_BUGDET": "{}"}, "AIPIPE_BUGDET is no setting; did you mean AIPIPE_BUDGET?"),
    "misspelt with items": ({"AIPIPE_PROVIDER__x__base": "x"}, "did you mean AIPIPE_PROVIDERS?"),
    "unlike any": ({"AIPIPE_ZZZZZZZZ": "1"}, "AIPIPE_ZZZZZZZZ is no setting."),
    "lower case": ({"AIPIPE_budget": "{}"}, "AIPIPE_budget is no setting"),
    "not JSON": ({"AIPIPE_BUDGET": "{'*': 1}"}, "BUDGET must be JSON."),
    "deep JSON": ({"AIPIPE_BUDGET": "[" * 100_000}, "BUDGET must be JSON."),
    "not a mapping": ({"AIPIPE_BUDGET": "[1]"}, "BUDGET must be a mapping"),
    "item of a text": ({"AIPIPE_TOKEN_DAYS__x": "1"}, "AIPIPE_TOKEN_DAYS__x: TOKEN_DAYS has no items"),
    "item of an item": ({"AIPIPE_BUDGET__*__limit__x": "1"}, "BUDGET has no items"),
    "not whole": ({"AIPIPE_TOKEN_DAYS": "1.5"}, "TOKEN_DAYS must be a whole number from 1 to 36500."),
    "negative": ({"AIPIPE_TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES must be a whole number from 0 to 10."),
    "no time": ({"AIPIPE_IDLE_TIMEOUT": "0"}, "IDLE_TIMEOUT must be a number of seconds above 0"),
    "endless time": ({"AIPIPE_IDLE_TIMEOUT": "inf"}, "IDLE_TIMEOUT must be"),
    "no number": ({"AIPIPE_QUEUE_SECONDS": "long"}, "QUEUE_SECONDS must be"),
    "redis, its scheme": ({"AIPIPE_REDIS_URL": "127.0.0.1:6379"}, "AIPIPE_REDIS_URL must be a URL such as redis://"),
    "redis, its port": ({"AIPIPE_REDIS_URL": "redis://x:port"}, "AIPIPE_REDIS_URL must be a URL such as redis://"),
    "flag": ({"AIPIPE_UNSAFE_LOOPBACK": "maybe"}, "UNSAFE_LOOPBACK must be on or off."),
    "loopback in production": ({"AIPIPE_UNSAFE_LOOPBACK": "1"}, "UNSAFE_LOOPBACK is for tests"),
    "admins": ({"ADMIN_EMAILS": "dana@example.com, dana"}, "ADMIN_EMAILS must be email addresses"),
    "key with line break": ({"OPENAI_API_KEY": "sk-1\nX: y"}, "OPENAI_API_KEY must be one word"),
    "database": ({"AIPIPE_DATABASE_URL": "mysql://u:hunter2@h/d"}, "AIPIPE_DATABASE_URL must begin with sqlite:///"),
    "public URL with path": ({"AIPIPE_PUBLIC_URL": "https://x.org/a"}, "AIPIPE_PUBLIC_URL must be an origin"),
    "public URL": ({"AIPIPE_PUBLIC_URL": "x.org"}, "AIPIPE_PUBLIC_URL must be a URL"),
    "trusted app": ({"AIPIPE_TRUSTED_APPS": "x.org"}, "TRUSTED_APPS must be origins"),
    "salt": ({"AIPIPE_SALT": '{"bob@example.com": 1}'}, "SALT must map emails to texts"),
    "salt of nobody": ({"AIPIPE_SALT": '{"bob": "x"}'}, "SALT must map emails to texts"),
    "a key for a key's name": ({"AIPIPE_PROVIDERS__groq__key": "gsk_hunter2"}, "['groq']['key'] must be the name"),
    "provider base": ({"AIPIPE_PROVIDERS__groq__base": "groq.com"}, "PROVIDERS['groq']['base'] must be a URL"),
    "provider base with user": ({"AIPIPE_PROVIDERS__groq__base": "https://u:hunter2@x"}, "must be a URL"),
    "provider's free": ({"AIPIPE_PROVIDERS__groq__free": "GET /v1/files"}, "PROVIDERS['groq']['free'] must be"),
    "provider item": ({"AIPIPE_PROVIDERS__groq__url": "https://x.org"}, "PROVIDERS['groq'] must be"),
    "provider alone": ({"AIPIPE_PROVIDERS__groq": "https://x.org"}, "PROVIDERS['groq'] must be"),
    "provider's key": (
        {"AIPIPE_PROVIDERS__groq__key": "GROQ_KEY", "GROQ_KEY": "two words"}, "GROQ_KEY must be one word",
    ),
    "proxy item": ({"AIPIPE_PROXY__port": "80"}, "PROXY has 'port'"),
    "proxy ports": ({"AIPIPE_PROXY__ports": '["9000-8000"]'}, "PROXY['ports'] must be ports"),
    "proxy port": ({"AIPIPE_PROXY__ports": "[65536]"}, "PROXY['ports'] must be ports"),
    "missing config": ({"AIPIPE_CONFIG": "nowhere.py"}, "AIPIPE_CONFIG names nowhere.py, which is not there."),
}  # fmt: skip


@pytest.mark.parametrize(("environ", "says"), REFUSED.values(), ids=REFUSED)
def test_a_bad_value_is_named_with_what_to_write_and_never_repeated(
    environ: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load({"AIPIPE_SECRET": SECRET, **environ})
    message = str(caught.value)
    assert says in message
    assert "hunter2" not in message
