"""Turns what an operator wrote for a setting into the value that the app uses.

Each cast takes a Python value (from `config.py`) or a text (from the environment) and returns the value,
or raises ValueError with the rest of the sentence that begins with the setting's name. What was written is
never repeated: it may be a secret in the wrong place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt

Cast = Callable[[Any], Any]

LEAST_SECRET_BYTES = 16
PROXY_DEFAULTS: dict[str, Any] = {
    "enabled": True,
    "allow": [],
    "deny": [],
    "ports": [80, 443, "8000-9999"],
    "max_bytes": 25 * 1024 * 1024,
    "timeout": 30,
    "per_minute": 60,
    "at_once": 8,
}

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_ORIGIN = re.compile(r"https?://[^\s/]+")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SEPARATOR = re.compile(r"[,\s]+")
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be a text of one line.")
    return value


def key(value: Any) -> str:
    """Something that travels in a header."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be one word, copied as its provider shows it, without quotes or line breaks.")
    return value


def provider_key(value: Any) -> str:
    """A key of a provider, and none of the two that people put there by mistake."""
    found = key(value)
    if found.endswith("..."):
        raise ValueError("is a placeholder: put the key there that its provider shows.")
    if _is_token(found):
        raise ValueError("is an AI Pipe token, as apps send it. Unset it, or put a provider's own key there.")
    return found


def _is_token(text: str) -> bool:
    """Whether a text looks like a token of any AI Pipe. Some providers' keys are JWTs too, without such an email."""
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        return False
    return _EMAIL.fullmatch(str(claims.get("email"))) is not None


def secret(value: Any) -> str:
    if not isinstance(value, str) or len(value.encode()) < LEAST_SECRET_BYTES:
        raise ValueError(f"must have at least {LEAST_SECRET_BYTES} bytes, better 32. Make one: openssl rand -base64 32")
    return value


def flag(value: Any) -> bool:
    found = _FLAGS.get(str(value).lower())
    if found is None:
        raise ValueError("must be on or off.")
    return found


def whole(low: int, high: int) -> Cast:
    def cast(value: Any) -> int:
        if isinstance(value, str) and value.isdecimal() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}.")
        return value

    return cast


def seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number <= 86_400:
        raise ValueError("must be a number of seconds above 0, at most a day (86400).")
    return number


def strings(value: Any) -> list[str]:
    """A list, or one text with commas or whitespace between the items."""
    if isinstance(value, str) and not value.startswith("["):
        return [item for item in _SEPARATOR.split(value) if item]
    return texts(value)


def texts(value: Any) -> list[str]:
    value = parsed(value)
    if not isinstance(value, list | tuple | set) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("must be a list of texts.")
    return list(value)


def emails(value: Any) -> list[str]:
    found = strings(value)
    if not all(_EMAIL.fullmatch(email) for email in found):
        raise ValueError("must be email addresses with commas or spaces between them.")
    return [email.lower() for email in found]


def origins(value: Any) -> list[str]:
    found = strings(value)
    if not all(_ORIGIN.fullmatch(origin) for origin in found):
        raise ValueError(
            'must be origins such as "https://alice.github.io" or "https://*.example.com", without a path.'
        )
    return [origin.lower() for origin in found]


def origin(value: Any) -> str:
    url = base_url(value)
    if urlsplit(url).path:
        raise ValueError("must be an origin such as https://aipipe.example.com, without a path.")
    return url


def base_url(value: Any) -> str:
    """An http(s) URL without query, fragment and user; a final slash is taken off."""
    try:
        url = urlsplit(value if isinstance(value, str) and value.isprintable() else "")
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in url.netloc or url.query or url.fragment or " " in value:
        raise ValueError("must be a URL such as https://api.example.com.")
    return str(value).rstrip("/")


def database_url(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("must begin with sqlite:/// or postgresql://.")
    return value


def redis_url(value: Any) -> str:
    try:
        url = urlsplit(value if isinstance(value, str) and value.isprintable() else "")
        fits = url.scheme in ("redis", "rediss") and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must be a URL such as redis://127.0.0.1:6379.")
    return str(value)


def parsed(value: Any) -> Any:
    """What a text says as JSON; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("must be JSON.") from None


def mapping(value: Any) -> dict[str, Any]:
    value = parsed(value)
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a mapping, such as {"name": …}.')
    return dict(value)


def salts(value: Any) -> dict[str, str]:
    found = mapping(value)
    if not all(_EMAIL.fullmatch(email) and isinstance(salt, str) and salt for email, salt in found.items()):
        raise ValueError('must map emails to texts, such as {"alice@example.com": "random-text"}.')
    return {email.lower(): salt for email, salt in found.items()}


def providers(value: Any) -> dict[str, dict[str, Any]]:
    """By name: `base` (a URL), `key` (the name of an environment variable), `free` (methods and paths)."""
    found = mapping(value)
    for name, entry in found.items():
        if not isinstance(entry, Mapping) or set(entry) - set(_PROVIDER):
            raise ValueError(f'[{name!r}] must be {{"base": "https://…", "key": "{name.upper()}_API_KEY"}}.')
        found[name] = _items(f"[{name!r}]", _PROVIDER, entry)
    return found


def proxy(value: Any) -> dict[str, Any]:
    """The whole of PROXY: what is given, over `PROXY_DEFAULTS`."""
    found = mapping(value)
    if unknown := sorted(set(found) - set(PROXY_DEFAULTS)):
        raise ValueError(f"has {unknown[0]!r}: it takes only {', '.join(PROXY_DEFAULTS)}.")
    return {**PROXY_DEFAULTS, **_items("", _PROXY, found)}


def ports(value: Any) -> list[int | str]:
    def fits(item: Any) -> bool:
        bounds = _PORTS.fullmatch(str(item))
        return bounds is not None and 1 <= int(bounds[1]) <= int(bounds[2] or bounds[1]) <= 65_535

    value = parsed(value)
    if not isinstance(value, list | tuple) or not all(fits(item) for item in value):
        raise ValueError('must be ports and ranges of ports, such as [443, "8000-9999"].')
    return list(value)


def variable(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and _VARIABLE.fullmatch(value)):
        raise ValueError("must be the name of the environment variable that holds the key, not the key itself.")
    return value


_PROVIDER: dict[str, Cast] = {"base": base_url, "key": variable, "free": texts}
_PROXY: dict[str, Cast] = {
    "enabled": flag,
    "allow": strings,
    "deny": strings,
    "ports": ports,
    "max_bytes": whole(1, 2**40),
    "timeout": seconds,
    "per_minute": whole(1, 1_000_000),
    "at_once": whole(1, 10_000),
}


def _items(where: str, item_casts: Mapping[str, Cast], entry: Mapping[str, Any]) -> dict[str, Any]:
    cast_items = {}
    for name, value in entry.items():
        try:
            cast_items[name] = item_casts[name](value)
        except ValueError as error:
            raise ValueError(f"{where}[{name!r}] {error}") from None
    return cast_items
