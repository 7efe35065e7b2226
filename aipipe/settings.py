"""Every setting: its name, meaning and default, and where its value comes from.

Later wins: the defaults below, `instance/config.py`, `.env` in the current folder, the environment. In the
latter two every setting has the prefix `AIPIPE_` (those marked `bare` may go without), a value that isn't
a text is JSON, and an item in a setting is named with `__`: `AIPIPE_PROVIDERS__openai__base=http://…`.
An empty value means the default.
"""

from __future__ import annotations

import copy
import difflib
import fcntl
import logging
import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipipe import casts, sources
from aipipe.casts import Cast
from aipipe.errors import ConfigError
from aipipe.sources import PREFIX

GOOD_SECRET_BYTES = 32
CLIENT_IDS = ".apps.googleusercontent.com"  # how Google's end
DEFAULT_BUDGET = {"*": {"limit": 0.1, "days": 7}}
DEV_SECRET = "dev-secret"  # noqa: S105  (a file's name)
# The embedded model answers to any name: the second is what /similarity asks for by default.
DEV_PRICES = {
    "local/smollm2-135m": {"input_mtok": 0.1, "output_mtok": 0.4},
    "local/text-embedding-3-small": {"input_mtok": 0.02},
}

_UNSIGNED = (
    "AIPIPE_SECRET is not set. Make one with `openssl rand -base64 32` and put it into .env as AIPIPE_SECRET=…; "
    "to try AI Pipe out, `aipipe dev` makes its own."
)
_LOG = logging.getLogger("aipipe")


@dataclass(frozen=True, slots=True)
class Setting:
    """`bare`: the environment is also read for the name without prefix. `cast` is one of `casts`."""

    name: str
    cast: Cast
    default: Any
    help: str
    bare: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("AIPIPE_SECRET", casts.secret, None, "signs tokens and sessions; 32 random bytes"),
    Setting("AIPIPE_SECRET_PREVIOUS", casts.secret, None, "still verifies old tokens while the secret changes"),
    Setting("AIPIPE_DATABASE_URL", casts.database_url, None, "the ledger; else `aipipe.db` in the instance folder"),
    Setting("AIPIPE_PUBLIC_URL", casts.origin, None, "the origin that users see; by default the request's"),
    Setting("ADMIN_EMAILS", casts.emails, [], "who may open `/admin`; commas or spaces between them", bare=True),
    Setting("GOOGLE_CLIENT_ID", casts.key, None, "lets users sign in with Google", bare=True),
    Setting("OPENROUTER_API_KEY", casts.provider_key, None, "the operator's key for `openrouter`", bare=True),
    Setting("OPENAI_API_KEY", casts.provider_key, None, "the operator's key for `openai`", bare=True),
    Setting("GEMINI_API_KEY", casts.provider_key, None, "the operator's key for `geminiv1beta`", bare=True),
    Setting("ANTHROPIC_API_KEY", casts.provider_key, None, "the operator's key for `anthropic`", bare=True),
    Setting("OPENAI_ORG_ID", casts.key, None, "sent to `openai` as `OpenAI-Organization`", bare=True),
    Setting("BUDGET", casts.mapping, DEFAULT_BUDGET, "dollars in the last days, by email, `@domain`, `*`"),
    Setting("SALT", casts.salts, {}, "by email; a token must carry the same salt, so a new one voids old tokens"),
    Setting("PROVIDERS", casts.providers, {}, "changes providers, or adds OpenAI-compatible ones"),
    Setting("PRICES", casts.mapping, {}, "dollars by `provider/model`, before those of genai-prices"),
    Setting("EMBEDDING_PROVIDER", casts.text, "openai", "embeds for `/similarity`; `local` in `aipipe dev`"),
    Setting("TOKEN_DAYS", casts.whole(1, 36_500), 365, "days that a new personal token is good for"),
    Setting("APP_TOKEN_DAYS", casts.whole(1, 36_500), 30, "days that a new app token is good for"),
    Setting("TRUSTED_APPS", casts.origins, [], "origins (globs) that get app tokens without the user's consent"),
    Setting("TOKEN_IN_URL", casts.flag, True, "apps may get their token in their address; off: by `signIn()` alone"),
    Setting("TRUSTED_PROXIES", casts.whole(0, 10), 0, "how many reverse proxies in front set `X-Forwarded-*`"),
    Setting("PROXY", casts.proxy, casts.PROXY_DEFAULTS, "what `/proxy` may fetch; what is left out keeps its default"),
    Setting("UNSAFE_LOOPBACK", casts.flag, False, "for tests: `/proxy` reaches loopback; `aipipe serve` refuses it"),
    Setting("AIPIPE_REDIS_URL", casts.redis_url, None, "counts for the limits a minute; else the ledger does"),
    Setting("SIGN_INS_PER_MINUTE", casts.whole(1, 1_000_000), 300, "from one address, which may be a whole class's"),
    Setting("BAD_TOKENS_PER_MINUTE", casts.whole(1, 1_000_000), 300, "from one address; above, 429 instead of 401"),
    Setting("LOG_EMAILS", casts.flag, False, "who sent a token, in the log of requests"),
    Setting(
        "METRICS_TOKEN", casts.secret, None, "turns `/metrics` on for Prometheus, which sends it as its bearer token"
    ),
    Setting("KEEP_ENTRIES_DAYS", casts.whole(31, 36_500), None, "days after which `aipipe prune` sums entries up"),
    Setting("MAX_BODY_BYTES", casts.whole(1, 2**40), 26_214_400, "largest request body (413 above)"),
    Setting("QUEUE_SECONDS", casts.seconds, 20, "how long a request waits in line for money that others hold"),
    Setting("CLIENT_TIMEOUT", casts.seconds, 60, "seconds that a caller may take for more of a body, or of an answer"),
    Setting("CONNECT_TIMEOUT", casts.seconds, 5, "seconds to reach a provider"),
    Setting("FIRST_BYTE_TIMEOUT", casts.seconds, 120, "seconds until a provider begins to answer"),
    Setting("IDLE_TIMEOUT", casts.seconds, 60, "seconds that a provider may fall silent in mid-answer"),
    Setting("REQUEST_TIMEOUT", casts.seconds, 900, "seconds for a whole request"),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
# Which variable sets which setting.
_KNOWN = {name if name.startswith(PREFIX) else PREFIX + name: name for name in _BY_NAME}
_KNOWN |= {setting.name: setting.name for setting in SETTINGS if setting.bare}


def load(environ: Mapping[str, str], *, dev: bool = False, folder: Path | None = None) -> dict[str, Any]:
    """The value of every setting, by name. `folder` is the instance folder where `AIPIPE_CONFIG` names none.

    Beside the settings there are `DEV` (bool), `INSTANCE_FOLDER` (an absolute Path; the folder exists) and
    `KEYS`: by variable name, the value of every key that is given, those named by `PROVIDERS` among them.
    `BUDGET` and `PRICES` are mappings still to be parsed by `budgets` and `pricing`. With `dev`, a missing
    secret is made and kept, and the embedded model has a price.

    Raises ConfigError, one sentence a line. No value is ever repeated in it.
    """
    config, problems = examine(environ, dev=dev, folder=folder)
    if problems:
        raise ConfigError("\n".join(problems))
    for name in ("AIPIPE_SECRET", "AIPIPE_SECRET_PREVIOUS"):
        if config[name] and len(config[name].encode()) < GOOD_SECRET_BYTES:
            _LOG.warning("%s has under %d bytes: better make a longer one.", name, GOOD_SECRET_BYTES)
    if config["GOOGLE_CLIENT_ID"] and not config["GOOGLE_CLIENT_ID"].endswith(CLIENT_IDS):
        _LOG.warning("GOOGLE_CLIENT_ID doesn't end in %s: nobody can sign in with it.", CLIENT_IDS)
    if config["UNSAFE_LOOPBACK"]:
        _LOG.warning("UNSAFE_LOOPBACK is on: /proxy reaches what only this machine should. For tests alone!")
    return config


def examine(
    environ: Mapping[str, str], *, dev: bool = False, folder: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """What `load` gives, and a sentence for everything that is wrong; there the default stands in.

    Raises ConfigError only when a file can't be read at all.
    """
    dotenv = sources.dotenv(Path(".env"))
    variables = {**dotenv, **environ}
    folder, file = _places(variables, folder)
    written = sources.config_file(file) if file else {}
    raw = {name: value for name, value in written.items() if name in _BY_NAME}
    problems = [
        f"{name} in .env has no effect: write {PREFIX}{name}."
        for name in dotenv
        if name in _BY_NAME and name not in _KNOWN
    ]
    for layer in (dotenv, environ):
        try:
            sources.overlay(raw, layer, _KNOWN, _DEFAULTS)
        except ValueError as error:
            problems.append(str(error))
    if dev and not raw.get("EMBEDDING_PROVIDER"):
        raw["EMBEDDING_PROVIDER"] = "local"
    config = _cast(raw, problems)
    config |= {"DEV": dev, "INSTANCE_FOLDER": folder, "KEYS": _keys(config, {**written, **variables}, problems)}
    problems += _unknown(written, variables, file, config["PROVIDERS"])
    _complete(config, problems)
    return config, problems


def instance_folder(environ: Mapping[str, str]) -> Path:
    """The folder that `load` would use; it need not exist."""
    config = environ.get("AIPIPE_CONFIG") or sources.dotenv(Path(".env")).get("AIPIPE_CONFIG")
    return Path(config).resolve().parent if config else Path("instance").resolve()


def _places(variables: Mapping[str, str], folder: Path | None) -> tuple[Path, Path | None]:
    """The instance folder, made if missing, and the file in it that is to be run, if any."""
    named = variables.get("AIPIPE_CONFIG")
    if named and not Path(named).is_file():
        raise ConfigError(f"AIPIPE_CONFIG names {named}, which is not there.")
    file = Path(named) if named else (folder or Path("instance")) / "config.py"
    folder = file.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} can't be made ({error.strerror}).") from None
    return folder, file.resolve() if file.is_file() else None


def _cast(raw: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    config = {}
    for setting in SETTINGS:
        config[setting.name] = copy.deepcopy(setting.default)
        value = raw.get(setting.name)
        if value is not None and value != "":
            try:
                config[setting.name] = setting.cast(value)
            except ValueError as error:
                problems.append(_sentence(setting.name, error))
    return config


def _keys(config: Mapping[str, Any], found: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    keys = {name: config[name] for name in _BY_NAME if name.endswith("_API_KEY") and config[name]}
    for name in sorted(_key_names(config["PROVIDERS"]) - set(_BY_NAME)):
        if found.get(name):
            try:
                keys[name] = casts.provider_key(found[name])
            except ValueError as error:
                problems.append(_sentence(name, error))
    return keys


def _key_names(providers: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {entry["key"] for entry in providers.values() if entry.get("key")}


def _unknown(
    written: Collection[str], variables: Collection[str], file: Path | None, providers: Mapping[str, Any]
) -> list[str]:
    """Names that look like settings and are none: a misspelt budget must not go unnoticed."""
    keys = _key_names(providers)
    known = {*_KNOWN, *keys, "AIPIPE_CONFIG", "AIPIPE_TOKEN"}  # users export their token
    names = [name for name in sources.strays(variables, known) if not name.startswith("AIPIPE_TEST_")]
    problems = [f"{name} is no setting{_did_you_mean(name, known)}" for name in names]
    for name in written:
        if name not in _BY_NAME and name not in keys:
            problems.append(f"{name} in {file} is no setting{_did_you_mean(name, _BY_NAME)}")
    return problems


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else "."


def _complete(config: dict[str, Any], problems: list[str]) -> None:
    """What depends on where AI Pipe runs: its database, and development's secret and prices."""
    folder = config["INSTANCE_FOLDER"]
    config["AIPIPE_DATABASE_URL"] = config["AIPIPE_DATABASE_URL"] or f"sqlite:///{folder / 'aipipe.db'}"
    if config["DEV"]:
        config["PRICES"] = {**DEV_PRICES, **config["PRICES"]}
        config["AIPIPE_SECRET"] = config["AIPIPE_SECRET"] or _dev_secret(folder)
    elif config["UNSAFE_LOOPBACK"]:
        problems.append("UNSAFE_LOOPBACK is for tests: take it out, or run `aipipe dev`.")
    if not config["AIPIPE_SECRET"] and not any(problem.startswith("AIPIPE_SECRET ") for problem in problems):
        problems.insert(0, _UNSIGNED)


def _dev_secret(folder: Path) -> str:
    """Development's secret: made once, and kept where only its owner reads it."""
    try:
        file = os.open(folder / DEV_SECRET, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder / DEV_SECRET} can't be used ({error.strerror}).") from None
    with os.fdopen(file, "r+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)  # of two workers that start at once, one makes it
        secret = kept.read().strip()
        if not secret:
            secret = secrets.token_urlsafe(GOOD_SECRET_BYTES)
            kept.write(secret + "\n")
    return secret


def _sentence(name: str, error: ValueError) -> str:
    return f"{name}{'' if str(error).startswith('[') else ' '}{error}"
