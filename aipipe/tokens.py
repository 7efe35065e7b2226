"""Who is calling: tokens are found in headers, issued and verified here. Nothing is stored or fetched.

A token is a JWT signed with HS256. Its payload holds at least `email`; where they apply, `salt`, `app`
(the web origin that an app token is bound to), `iat`, `exp` (seconds since 1970) and `jti`.
"""

from __future__ import annotations

import hmac
import re
import secrets as random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import jwt
import orjson
from jwt.algorithms import HMACAlgorithm

from aipipe.errors import NotAuthenticated

MAX_TOKEN_BYTES = 4096
MAX_EMAIL_CHARACTERS = 254
SKEW_SECONDS = 60
DAY_SECONDS = 86_400
LATEST = 1e11  # the year 5138: a time after it was meant in milliseconds, or is an attack

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_NATIVE_KEY_PREFIXES = ("sk-", "AIza")
_HOW_TO_GET_ONE = "Get a new token at /login."


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `email` is in lower case; `app` is None for a personal token.

    `issued` and `expires` are seconds since 1970. Tokens of older AI Pipes may lack both.
    """

    email: str
    app: str | None = None
    issued: float | None = None
    expires: float | None = None
    jti: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. Through an app (`app` is its origin), nobody is an admin."""

    email: str
    app: str | None = None
    admin: bool = False


class Headers(Protocol):
    """A request's headers, looked up whatever their case, as Werkzeug's are."""

    def get(self, key: str, default: str, /) -> str: ...


class _Hmac(HMACAlgorithm):
    """HMAC with the operator's secret as it is.

    PyJWT looks at every call whether the secret is somebody's public key, which costs more than the
    signature, and warns at every call when it is short. Only HS256 is ever accepted here, and
    `settings` judges the secret once, at start.
    """

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002  (the name is PyJWT's)
        return None


def _signer() -> jwt.PyJWS:
    signer = jwt.PyJWS(algorithms=["HS256"])
    signer.unregister_algorithm("HS256")
    signer.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))
    return signer


_SIGNER = _signer()


def issue(
    email: str,
    *,
    secret: str,
    now: float,
    days: int = 0,
    expires: float | None = None,
    salt: str | None = None,
    app: str | None = None,
    jti: str | None = None,
) -> str:
    """A new token for `email` that ends after `days` days, or when it `expires`.

    `iat` keeps milliseconds, so that a token made in the second of a reset is on the right side of it.
    Raises ValueError when `email` isn't a plausible address.
    """
    issued = round(now, 3)
    payload: dict[str, Any] = {"email": plausible_email(email)}
    if salt is not None:
        payload["salt"] = salt
    if app is not None:
        payload["app"] = app
    ends = int(issued) + days * DAY_SECONDS if expires is None else int(expires)
    payload |= {"iat": issued, "exp": ends, "jti": jti or new_jti()}
    return _SIGNER.encode(orjson.dumps(payload), secret, algorithm="HS256")


def new_jti() -> str:
    """A name for a token, that nobody can guess."""
    return random.token_urlsafe(12)


def verify(token: str, *, secrets: Sequence[str], salts: Mapping[str, str], now: float) -> Claims:
    """The claims of a token that one of `secrets` signed (they are tried in order) and that is in force.

    Where `salts` (by email in lower case) has one for the owner, the token must carry the same. Where it
    has none, any salt passes, as in the original AI Pipe: removing a salt lifts the condition.
    Raises NotAuthenticated with a sentence that never repeats the token.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise _invalid()
    claims, given_salt = _signed(token, tuple(secrets))
    if claims.issued is not None and claims.issued > now + SKEW_SECONDS:
        raise _invalid()
    if claims.expires is not None and claims.expires <= now:
        raise NotAuthenticated(f"This AI Pipe token has expired. {_HOW_TO_GET_ONE}")
    salt = salts.get(claims.email)
    if salt is not None and not _same(salt, given_salt):
        raise NotAuthenticated(
            f"This AI Pipe token is no longer valid: its owner's tokens were reset. {_HOW_TO_GET_ONE}"
        )
    return claims


def identify(claims: Claims, admins: Collection[str]) -> Identity:
    """The caller behind verified claims. `admins` are emails in lower case."""
    return Identity(claims.email, claims.app, admin=claims.app is None and claims.email in admins)


def token_from(headers: Headers) -> str | None:
    """The token or native key that a request carries; every route finds it through this function.

    First `Authorization` (`Bearer T` in any case, or `T` alone), then `x-goog-api-key` (Gemini clients),
    then `x-api-key` (Anthropic clients). An empty value counts as absent, and so does another scheme
    (`Basic …`).
    """
    words = headers.get("Authorization", "").split(None, 1)
    if words and words[0].lower() == "bearer":
        words = words[1:]
    if len(words) == 1:
        return words[0].strip()
    return headers.get("x-goog-api-key", "").strip() or headers.get("x-api-key", "").strip() or None


def is_signed_here(token: str, secrets: Sequence[str]) -> bool:
    """Whether a token is one of ours, in force or not: then nobody else must see it."""
    try:
        return len(token) <= MAX_TOKEN_BYTES and token.isascii() and bool(_signed(token, tuple(secrets)))
    except NotAuthenticated:
        return False


def is_native_key(token: str) -> bool:
    """Whether this is the caller's own provider key, to be passed through unmetered."""
    return token.startswith(_NATIVE_KEY_PREFIXES)


def plausible_email(email: object) -> str:
    """`email` in lower case. Raises ValueError when it can't be an address."""
    if not isinstance(email, str) or len(email) > MAX_EMAIL_CHARACTERS:
        raise ValueError("not an email address")
    if not _EMAIL.fullmatch(email) or not email.isprintable():
        raise ValueError("not an email address")
    return email.lower()


@lru_cache(maxsize=2048)
def _signed(token: str, secrets: tuple[str, ...]) -> tuple[Claims, object]:
    """What never changes about a token: its claims and its salt. Times and salts are judged at each call."""
    for secret in secrets:
        try:
            # orjson, unlike the standard library, refuses NaN and Infinity.
            payload = orjson.loads(_SIGNER.decode(token, secret, algorithms=["HS256"]))
        except (jwt.PyJWTError, orjson.JSONDecodeError):
            continue
        try:
            return _claims(payload)
        except ValueError:
            break
    raise _invalid()


def _claims(payload: object) -> tuple[Claims, object]:
    if not isinstance(payload, dict):
        raise ValueError("not an object")
    claims = Claims(
        email=plausible_email(payload.get("email")),
        app=_text(payload.get("app")),
        issued=_time(payload.get("iat")),
        expires=_time(payload.get("exp")),
        jti=_text(payload.get("jti")),
    )
    return claims, payload.get("salt")


def _text(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ValueError("not a text")


def _time(value: object) -> float | None:
    """A claim's time. PyJWT would take "123" and true for one, and lets 1e20 pass."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LATEST:
        raise ValueError("not a time")
    return float(value)


def _same(salt: str, given: object) -> bool:
    return isinstance(given, str) and hmac.compare_digest(salt.encode(), given.encode())


def _invalid() -> NotAuthenticated:
    return NotAuthenticated(
        "This AI Pipe token is not valid. Send `Authorization: Bearer <token>` with a token from /login."
    )
