"""Google, as far as sign-in knows it: keys, their certificates, and credentials that are really signed with them.

The shape of both: https://developers.google.com/identity/gsi/web/guides/verify-google-id-token and
https://www.googleapis.com/oauth2/v1/certs
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

CLIENT_ID = "1234567890-alice.apps.googleusercontent.com"


@dataclass(frozen=True)
class Key:
    id: str
    private: RSAPrivateKey
    certificate: str


@lru_cache
def key(key_id: str) -> Key:
    """A key of its own for each id."""
    private = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=14))
    pem = builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return Key(key_id, private, pem.decode())


def certificates(*keys: Key) -> dict[str, str]:
    return {one.id: one.certificate for one in keys}


def claims(**changes: Any) -> dict[str, Any]:
    """What Google says of Alice, with `changes`; None takes a claim away."""
    now = int(time.time())
    told = {
        "iss": "https://accounts.google.com",
        "azp": CLIENT_ID,
        "aud": CLIENT_ID,
        "sub": "110169484474386276334",
        "email": "Alice@example.com",
        "email_verified": True,
        "name": "Alice Example",
        "picture": "https://lh3.googleusercontent.com/a/alice=s96-c",
        "given_name": "Alice",
        "family_name": "Example",
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    return {name: value for name, value in told.items() if value is not None}


def credential(signed_by: Key, *, key_id: str | None = None, **changes: Any) -> str:
    headers = {"kid": key_id or signed_by.id}
    return jwt.encode(claims(**changes), signed_by.private, algorithm="RS256", headers=headers)
