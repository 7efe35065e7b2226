"""How much each person may spend, over how many days, on which models. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Any

from aipipe.errors import ConfigError
from aipipe.money import to_nano

MAX_DAYS = 36_500
_KEYS = ("limit", "days", "models", "rpm")
_EXAMPLE = '{"*": {"limit": 0.1, "days": 7}}'


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` nanodollars in a window of `days` UTC dates, today included.

    `models` are globs (None: every model), `rpm` is the most requests a minute (None: as many as fit).
    """

    limit: int
    days: int = 1
    models: tuple[str, ...] | None = None
    rpm: int | None = None

    def allows(self, provider: str, model: str) -> bool:
        """Whether `models` has a glob for `model` or `provider/model`, in any case of letters."""
        if self.models is None:
            return True
        names = (model.lower(), f"{provider}/{model}".lower())
        return any(fnmatchcase(name, glob) for glob in self.models for name in names)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Every budget by email, `@domain` or `*`, in lower case."""

    by_key: Mapping[str, Budget]

    def find(self, email: str) -> Budget:
        """The budget of `email`: its own, else its domain's, else everybody's, else nothing at all."""
        email = email.lower()
        domain = "@" + email.rpartition("@")[2]
        found = self.by_key.get(email) or self.by_key.get(domain) or self.by_key.get("*")
        return found or Budget(limit=0)


def parse(raw: Mapping[str, Any]) -> Budgets:
    """Budgets from the setting `BUDGET`. Raises ConfigError naming the key and what to write."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"BUDGET must map emails, @domains or * to budgets, as in {_EXAMPLE}.")
    by_key: dict[str, Budget] = {}
    for key, value in raw.items():
        name = _name(key)
        if name in by_key:
            raise ConfigError(f"BUDGET has {name!r} twice, in different cases: keep one.")
        by_key[name] = _budget(f"BUDGET[{key!r}]", value)
    return Budgets(by_key)


def window_start(today: date, days: int) -> date:
    """The first of the last `days` dates, today included."""
    return today - timedelta(days=days - 1)


def frees_on(spent: date, days: int) -> date:
    """The date on which money spent on `spent` is available again."""
    return spent + timedelta(days=days)


def more_is_free(oldest: str | None, days: int) -> str:
    """When there is more to spend, as a sentence; `oldest` is the first date in the window with spending, if any is."""
    return f"More is free from {frees_on(date.fromisoformat(oldest), days)} (UTC)." if oldest else ""


def _name(key: object) -> str:
    if isinstance(key, str) and (key == "*" or (key.count("@") == 1 and key[-1] != "@")):
        return key.lower()
    raise ConfigError(f'BUDGET has {key!r}: write an email, a domain as "@example.com", or "*".')


def _budget(where: str, value: object) -> Budget:
    if not isinstance(value, Mapping) or "limit" not in value:
        raise ConfigError(f'{where} must be a budget such as {{"limit": 0.1, "days": 7}}.')
    for key in value:
        if key not in _KEYS:
            raise ConfigError(f"{where} has {key!r}: a budget has only {', '.join(_KEYS)}.")
    return Budget(
        limit=_limit(where, value["limit"]),
        days=_whole(where, "days", value.get("days", 1), MAX_DAYS),
        models=_models(where, value.get("models")),
        rpm=None if value.get("rpm") is None else _whole(where, "rpm", value["rpm"], 1_000_000),
    )


def _limit(where: str, value: Any) -> int:
    try:
        limit = to_nano(value)
    except ValueError:
        limit = -1
    if limit < 0:
        raise ConfigError(f"{where}['limit'] must be dollars from 0 to a billion, such as 0.1.")
    return limit


def _whole(where: str, key: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"{where}[{key!r}] must be a whole number from 1 to {most}.")
    return value


def _models(where: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(glob, str) and glob for glob in value):
        return tuple(glob.lower() for glob in value)
    raise ConfigError(f'{where}["models"] must be a list of names or globs, such as ["gpt-4o-mini", "local/*"].')
