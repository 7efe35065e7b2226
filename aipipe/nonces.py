"""Nonces that a sign-in with Google is begun with: signed and timed by us, so that any worker knows them again."""

from __future__ import annotations

import secrets

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner

LIFETIME = 600  # seconds from the sign-in page to the way back from Google


class Expired(Exception):
    """The nonce was ours, and has had its time."""


def make(secret: str) -> str:
    """A new nonce. Nothing remembers it: `check` tells ours by their signature."""
    return _signer(secret).sign(secrets.token_urlsafe(16)).decode()


def check(secret: str, nonce: str) -> None:
    """Whether it was used before is for the ledger to say.

    Raises:
        Expired: it was made more than `LIFETIME` seconds ago.
        ValueError: it is not one of ours.
    """
    try:
        _signer(secret).unsign(nonce, max_age=LIFETIME)
    except SignatureExpired:
        raise Expired from None
    except BadSignature:
        raise ValueError("not a nonce of ours") from None


def is_ours(secret: str, nonce: str) -> bool:
    """Whether it is one of ours, however old."""
    return bool(_signer(secret).validate(nonce))


def _signer(secret: str) -> TimestampSigner:
    return TimestampSigner(secret, salt="aipipe sign-in with google")
