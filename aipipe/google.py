"""Sign-in with Google: what a page gets from Google's button is verified here.

How: https://developers.google.com/identity/gsi/web/guides/verify-google-id-token
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from aipipe.errors import NotAuthenticated, NotConfigured, SignInUnavailable
from aipipe.tokens import plausible_email

CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS = ("accounts.google.com", "https://accounts.google.com")
SKEW_SECONDS = 10
MAX_CREDENTIAL_BYTES = 8192
PROFILE = ("sub", "name", "given_name", "family_name", "picture", "locale", "hd")

TIMEOUT = 5.0  # seconds, to connect and between bytes
PAUSE = 5.0  # seconds after a failure before Google is asked again
LEAST_AGE = 60.0  # seconds before an unknown key, which anybody may name, is a reason to ask again
MOST_AGE = 86_400.0

_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Profile:
    """Whom Google vouches for. `email` is in lower case; `details` are those of `PROFILE` that Google told.

    `nonce` is the one that the sign-in was begun with, if any: whoever began it should look.
    """

    email: str
    details: Mapping[str, Any]
    nonce: str | None = None


class Certificates:
    """Google's public keys, asked for when they are first needed, and again as they age.

    Safe to share between the greenlets and threads of one process: only one of them asks, the others wait for it.
    """

    def __init__(
        self, url: str = CERTIFICATES_URL, *, timeout: float = TIMEOUT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._timeout, self._clock = url, timeout, clock
        self._lock = threading.Lock()
        self._known: Mapping[str, str] = {}
        self._asked = self._failed = self._until = float("-inf")

    def find(self, key_id: str) -> str | None:
        """The certificate, in PEM, that Google publishes under this id; None when there is none.

        Raises SignInUnavailable when Google can't be asked.
        """
        with self._lock:
            now = self._clock()
            if now >= self._until or (key_id not in self._known and now >= self._asked + LEAST_AGE):
                self._ask(now)
            return self._known.get(key_id)

    def _ask(self, now: float) -> None:
        if now < self._failed + PAUSE:
            raise SignInUnavailable
        try:
            answer = requests.get(self._url, timeout=self._timeout, allow_redirects=False)
            found = answer.json() if answer.status_code == 200 else None
        except requests.RequestException:  # of which JSON that can't be read is one, too
            found = None
        if not isinstance(found, dict) or not all(isinstance(pem, str) for pem in found.values()):
            self._failed = self._clock()
            raise SignInUnavailable
        self._known, self._asked = found, now
        self._until = now + _lifetime(answer.headers)


def _lifetime(headers: Mapping[str, str]) -> float:
    """For how many seconds an answer is good. https://www.rfc-editor.org/rfc/rfc9111#section-4.2"""
    told = _MAX_AGE.search(headers.get("Cache-Control", ""))
    age = headers.get("Age", "")
    seconds = float(told[1]) if told else 0.0
    return min(seconds - float(age if age.isdecimal() else 0), MOST_AGE)


class Google:
    """Verifies credentials that were made for `client_id`; without one, none."""

    def __init__(self, client_id: str | None, certificates: Certificates) -> None:
        self._client_id = client_id
        self._certificates = certificates

    def verify(self, credential: str) -> Profile:
        """Whom a credential is about.

        Raises:
            NotConfigured: there is no client id.
            NotAuthenticated: it is forged, expired, meant for another site, or its email is not verified.
            SignInUnavailable: Google's keys can't be fetched.
        """
        if not self._client_id:
            raise NotConfigured("Sign-in with Google is off here: the operator should set GOOGLE_CLIENT_ID.")
        claims = self._claims(credential, self._client_id)
        if claims.get("iss") not in ISSUERS:
            raise _refused()
        if claims.get("email_verified") is not True:
            raise NotAuthenticated("Google has not verified your email address. Verify it with Google, then sign in.")
        try:
            email = plausible_email(claims.get("email"))
        except ValueError:
            raise _refused() from None
        nonce = claims.get("nonce")
        details = {name: claims[name] for name in PROFILE if name in claims}
        return Profile(email, details, nonce if isinstance(nonce, str) else None)

    def _claims(self, credential: str, client_id: str) -> Mapping[str, Any]:
        """What Google signed for us, if it did, and not too long ago.

        google-auth quotes credentials in its errors: they end here.
        """
        if len(credential) > MAX_CREDENTIAL_BYTES:
            raise _refused()
        try:
            header = jwt.decode_header(credential)  # type: ignore[no-untyped-call]
            key_id = header.get("kid")
            if header.get("alg") != "RS256" or not isinstance(key_id, str):
                raise _refused()
            certificate = self._certificates.find(key_id)
            if certificate is None:
                raise _refused()
            claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]
                credential, certificate, audience=client_id, clock_skew_in_seconds=SKEW_SECONDS
            )
        except (GoogleAuthError, ValueError, TypeError, RecursionError):
            raise _refused() from None
        return claims


def _refused() -> NotAuthenticated:
    return NotAuthenticated(
        "AI Pipe can't accept this Google credential: it is forged, expired or meant for another site. Sign in again."
    )
