"""Tokens: what is issued verifies, what is forged, stale or salted away does not, and nothing leaks."""

from __future__ import annotations

import base64
import hmac
import json
import warnings
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from aipipe import tokens
from aipipe.errors import NotAuthenticated
from aipipe.tokens import Claims, Identity, identify, is_native_key, issue, token_from, verify

SECRET = "0123456789abcdef0123456789abcdef"
OLD_SECRET = "fedcba9876543210fedcba9876543210"
NOW = 1_767_225_600.5
EMAIL = "alice@example.com"
APP = "https://alice.github.io"


def signed(payload: object, secret: str = SECRET, algorithm: str = "HS256") -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT finds the secret too short for HS512
        return jwt.PyJWS().encode(json.dumps(payload).encode(), secret, algorithm=algorithm)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed_as(algorithm: str | None) -> str:
    """Signed as HS256 has it, with a head that says something else."""
    told = f"{part({'alg': algorithm})}.{part({'email': EMAIL})}"
    signature = hmac.digest(SECRET.encode(), told.encode(), "sha256")
    return f"{told}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def check(token: str, **changes: Any) -> Claims:
    return verify(token, **{"secrets": [SECRET], "salts": {}, "now": NOW, **changes})


def refusal(token: str, **changes: Any) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        check(token, **changes)
    assert token[:4096] not in caught.value.message if token else True
    assert SECRET not in caught.value.message
    return caught.value.message


def test_what_is_issued_verifies() -> None:
    claims = check(issue("Alice@Example.com", secret=SECRET, now=NOW, days=7))
    assert claims == Claims(EMAIL, None, NOW, int(NOW) + 7 * 86_400, claims.jti)
    assert claims.jti


def test_an_app_token_names_its_app() -> None:
    token = issue(EMAIL, secret=SECRET, now=NOW, days=30, app=APP)
    assert check(token).app == APP


def test_every_token_has_a_name_of_its_own() -> None:
    names = {check(issue(EMAIL, secret=SECRET, now=NOW, days=1)).jti for _ in range(50)}
    assert len(names) == 50


def test_issued_to_the_millisecond() -> None:
    assert check(issue(EMAIL, secret=SECRET, now=NOW - 0.2344, days=1)).issued == NOW - 0.234


def test_tokens_of_another_ai_pipe_with_the_same_secret_work() -> None:
    assert check(signed({"email": "Alice@Example.com"})) == Claims(EMAIL)


@pytest.mark.parametrize("email", ["", "alice", "a@b@c", "a b@example.com", "a\x00@example.com", "a" * 250 + "@b.org"])
def test_nothing_is_issued_for_what_is_no_email(email: str) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        issue(email, secret=SECRET, now=NOW, days=1)


FORGED: dict[str, str] = {
    "empty": "",
    "not a token": "hello",
    "dots": "..",
    "not ASCII": "é.é.é",
    "lone surrogate": "\ud800.a.b",
    "alg none": f"{part({'alg': 'none'})}.{part({'email': EMAIL})}.",
    "alg None with a signature": f"{part({'alg': 'None'})}.{part({'email': EMAIL})}.AAAA",
    "no alg": f"{part({'typ': 'JWT'})}.{part({'email': EMAIL})}.AAAA",
    "alg is a list": f"{part({'alg': ['HS256']})}.{part({'email': EMAIL})}.AAAA",
    "header is a list": f"{part([])}.{part({'email': EMAIL})}.AAAA",
    "empty signature": signed({"email": EMAIL}).rsplit(".", 1)[0] + ".",
    "cut signature": signed({"email": EMAIL})[:-4],
    "payload swapped": ".".join(
        [(own := signed({"email": EMAIL}).split("."))[0], part({"email": "dana@example.com"}), own[2]]
    ),
    "RS256 said, our secret used": signed_as("RS256"),
    "no alg said, our secret used": signed_as(None),
    "HS512": signed({"email": EMAIL}, algorithm="HS512"),
    "HS384": signed({"email": EMAIL}, algorithm="HS384"),
    "wrong secret": signed({"email": EMAIL}, "another secret, as long as ours"),
    "payload is a list": signed([EMAIL]),
    "payload is a text": signed(EMAIL),
    "deep payload": signed("x").replace("x", "y")[:10] + "[" * 3000,
    "no email": signed({"sub": EMAIL}),
    "email null": signed({"email": None}),
    "email a number": signed({"email": 1}),
    "email a list": signed({"email": [EMAIL]}),
    "email empty": signed({"email": ""}),
    "email without @": signed({"email": "alice"}),
    "email with two @": signed({"email": "alice@example.com@example.org"}),
    "email with a line feed": signed({"email": EMAIL + "\n"}),
    "email with a space": signed({"email": "al ice@example.com"}),
    "email with a NUL": signed({"email": "a\x00@example.com"}),
    "email too long": signed({"email": "a" * 250 + "@example.com"}),
    "exp a text": signed({"email": EMAIL, "exp": str(int(NOW) + 100)}),
    "exp true": signed({"email": EMAIL, "exp": True}),
    "exp 1e20": signed({"email": EMAIL, "exp": 1e20}),
    "exp a huge integer": signed({"email": EMAIL, "exp": 10**30}),
    "exp in milliseconds": signed({"email": EMAIL, "exp": (NOW + 100) * 1000}),
    "exp NaN": signed({"email": EMAIL, "exp": float("nan")}),
    "exp Infinity": signed({"email": EMAIL, "exp": float("inf")}),
    "exp negative": signed({"email": EMAIL, "exp": -1}),
    "exp a list": signed({"email": EMAIL, "exp": [NOW + 100]}),
    "iat a text": signed({"email": EMAIL, "iat": str(int(NOW))}),
    "iat true": signed({"email": EMAIL, "iat": True}),
    "iat NaN": signed({"email": EMAIL, "iat": float("nan")}),
    "iat to come": signed({"email": EMAIL, "iat": NOW + 61}),
    "app a number": signed({"email": EMAIL, "app": 1}),
    "app empty": signed({"email": EMAIL, "app": ""}),
    "app false": signed({"email": EMAIL, "app": False}),
    "jti a number": signed({"email": EMAIL, "jti": 1}),
    "over 4 KB": signed({"email": EMAIL, "note": "x" * 4096}),
    "5 MB": "x" * 5_000_000,
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused_without_repeating_it(token: str) -> None:
    assert "not valid" in refusal(token)


def test_a_token_that_was_good_lends_its_signature_to_no_other() -> None:
    head, payload, signature = signed({"email": EMAIL}).split(".")
    check(f"{head}.{payload}.{signature}")
    assert "not valid" in refusal(f"{head}.{part({'email': 'dana@example.com'})}.{signature}")
    assert "not valid" in refusal(f"{part({'alg': 'none'})}.{payload}.{signature}")


def test_too_long_a_token_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_SIGNER", None)
    assert "not valid" in refusal("x" * 4097)


@pytest.mark.parametrize("exp", [NOW, NOW - 1, 0])
def test_an_expired_token_says_so(exp: float) -> None:
    assert "expired" in refusal(signed({"email": EMAIL, "exp": exp}))


@pytest.mark.parametrize("payload", [{"exp": NOW + 1}, {"iat": NOW + 59}, {"iat": 0}, {"exp": None, "iat": None}])
def test_times_within_reason_pass(payload: dict[str, float]) -> None:
    assert check(signed({"email": EMAIL, **payload})).email == EMAIL


def test_the_previous_secret_still_verifies_and_a_forgotten_one_does_not() -> None:
    token = issue(EMAIL, secret=OLD_SECRET, now=NOW, days=1)
    assert check(token, secrets=[SECRET, OLD_SECRET]).email == EMAIL
    assert "not valid" in refusal(token)
    assert "not valid" in refusal(token, secrets=[])


@pytest.mark.parametrize(
    "secret", ["MTIzNDU2Nzg5MDEy", "ssh-rsa AAAA and more", "-----BEGIN PUBLIC KEY-----", "{}" * 16]
)
def test_any_secret_that_the_settings_let_pass_can_sign(secret: str) -> None:
    assert check(issue(EMAIL, secret=secret, now=NOW, days=1), secrets=[secret]).email == EMAIL


@pytest.mark.parametrize("salt", [None, "", "old", "pepper2", 7, ["pepper"], "pépper"])
def test_a_token_without_its_owners_salt_is_refused(salt: object) -> None:
    assert "reset" in refusal(signed({"email": EMAIL, "salt": salt}), salts={EMAIL: "pepper"})


def test_a_token_with_its_owners_salt_passes() -> None:
    salts = {EMAIL: "pépper"}
    assert check(issue(EMAIL, secret=SECRET, now=NOW, days=1, salt="pépper"), salts=salts).email == EMAIL
    assert check(signed({"email": "ALICE@example.com", "salt": "pépper"}), salts=salts).email == EMAIL


def test_a_salt_matters_only_to_its_owner_and_only_while_configured() -> None:
    assert check(signed({"email": EMAIL, "salt": "old"}), salts={"bob@example.com": "pepper"}).email == EMAIL


def test_a_token_that_was_good_a_moment_ago_is_judged_anew() -> None:
    token = issue(EMAIL, secret=SECRET, now=NOW, days=1)
    assert check(token) == check(token)
    assert "expired" in refusal(token, now=NOW + 86_400)
    assert "reset" in refusal(token, salts={EMAIL: "pepper"})
    assert "not valid" in refusal(token, secrets=[OLD_SECRET])


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_garbage_is_refused_and_never_an_error(token: str) -> None:
    with pytest.raises(NotAuthenticated):
        check(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {"email": st.just(EMAIL)}, optional=dict.fromkeys(("exp", "iat", "jti", "app", "salt"), json_values)
    )
)
def test_whatever_a_signed_token_claims_it_passes_clean_or_is_refused(payload: dict[str, Any]) -> None:
    try:
        claims = check(signed(payload), salts={EMAIL: "pepper"})
    except NotAuthenticated:
        return
    assert payload["salt"] == "pepper"
    assert claims.expires is None or NOW < claims.expires < tokens.LATEST


HEADERS: list[tuple[list[tuple[str, str]], str | None]] = [
    ([("Authorization", "Bearer T")], "T"),
    ([("authorization", "bearer T")], "T"),
    ([("AUTHORIZATION", "BEARER   T  ")], "T"),
    ([("Authorization", "T")], "T"),
    ([("Authorization", " T ")], "T"),
    ([("x-goog-api-key", "T")], "T"),
    ([("X-Api-Key", " T ")], "T"),
    ([("Authorization", "Bearer T"), ("x-goog-api-key", "G"), ("x-api-key", "A")], "T"),
    ([("x-goog-api-key", "G"), ("x-api-key", "A")], "G"),
    ([("Authorization", "Bearer"), ("x-api-key", "A")], "A"),
    ([("Authorization", ""), ("x-goog-api-key", " "), ("x-api-key", "A")], "A"),
    ([("Authorization", "Basic dTpw"), ("x-api-key", "A")], "A"),
    ([("Authorization", "Basic dTpw")], None),
    ([("Authorization", "Bearer ")], None),
    ([("Cookie", "token=T")], None),
    ([], None),
]


@pytest.mark.parametrize(("headers", "found"), HEADERS)
def test_the_token_is_found_wherever_an_sdk_puts_it(headers: list[tuple[str, str]], found: str | None) -> None:
    assert token_from(Headers(headers)) == found


@pytest.mark.parametrize(
    ("token", "native"),
    [
        ("sk-proj-1", True),
        ("sk-or-v1-1", True),
        ("sk-ant-1", True),
        ("AIzaSy1", True),
        ("eyJhbGci.a.b", False),
        ("", False),
    ],
)
def test_native_keys_are_told_by_their_beginning(token: str, native: bool) -> None:
    assert is_native_key(token) is native


def test_an_admin_is_one_only_in_person() -> None:
    admins = {"dana@example.com"}
    assert identify(Claims("dana@example.com"), admins) == Identity("dana@example.com", None, admin=True)
    assert identify(Claims("dana@example.com", APP), admins) == Identity("dana@example.com", APP, admin=False)
    assert identify(Claims(EMAIL), admins) == Identity(EMAIL, None, admin=False)
