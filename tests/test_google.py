"""Google credentials, really signed: whose are accepted, and how Google's keys are asked for."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fake_google
import jwt
import pytest
from fake_google import CLIENT_ID, credential
from fake_provider import DROP, FakeProvider, Gate

from aipipe.errors import AppError, NotAuthenticated, NotConfigured, SignInUnavailable
from aipipe.google import LEAST_AGE, MAX_CREDENTIAL_BYTES, PAUSE, Certificates, Google, Profile

KEY = fake_google.key("today")
NEXT = fake_google.key("tomorrow")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def google(provider: FakeProvider, clock: Clock) -> Google:
    return Google(CLIENT_ID, Certificates(f"{provider.url}/certs", clock=clock))


@pytest.fixture
def publish(provider: FakeProvider) -> Callable[..., None]:
    """Plans one answer with the certificates of some keys: it must be asked for exactly once."""

    def plan(*keys: fake_google.Key, **headers: str) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        provider.answers("GET", "/certs", json=fake_google.certificates(*keys), headers=told)

    return plan


def unsigned(header: dict[str, Any], payload: str = "{}", signature: str = "") -> str:
    parts = (json.dumps(header), payload, signature)
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def test_a_good_credential_tells_who_it_is(google: Google, publish: Callable[..., None]) -> None:
    publish(KEY, NEXT)
    assert google.verify(credential(KEY, locale="en", hd="example.com", jti="not for apps")) == Profile(
        "alice@example.com",
        {
            "sub": "110169484474386276334",
            "name": "Alice Example",
            "given_name": "Alice",
            "family_name": "Example",
            "picture": "https://lh3.googleusercontent.com/a/alice=s96-c",
            "locale": "en",
            "hd": "example.com",
        },
    )


def test_both_spellings_of_the_issuer_are_googles(google: Google, publish: Callable[..., None]) -> None:
    publish(KEY, Cache_Control="max-age=60")
    for issuer in ("accounts.google.com", "https://accounts.google.com"):
        assert google.verify(credential(KEY, iss=issuer)).email == "alice@example.com"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-site.apps.googleusercontent.com"},
        {"aud": [CLIENT_ID]},
        {"aud": None},
        {"iss": "https://accounts.google.com.example.org"},
        {"iss": "https://securetoken.google.com/aipipe"},
        {"iss": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": int(time.time()) + 3000},
        {"iat": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"email_verified": None},
        {"email": None},
        {"email": "alice"},
        {"email": "alice @example.com"},
        {"email": ["alice@example.com"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_google_signed_is_refused_when_it_is_not_for_us(
    google: Google, publish: Callable[..., None], changes: dict[str, Any]
) -> None:
    publish(KEY)
    with pytest.raises(NotAuthenticated):
        google.verify(credential(KEY, **changes))


FORGED = {
    "signed by a key that goes by another's name": credential(NEXT, key_id=KEY.id),
    "signed by a key that was never published": credential(NEXT, key_id="never published"),
    "a changed signature": credential(KEY)[:-5] + "AAAAA",
    "an empty signature": credential(KEY).rpartition(".")[0] + ".",
    "no key named": jwt.encode(fake_google.claims(), KEY.private, algorithm="RS256"),
    "RS512": jwt.encode(fake_google.claims(), KEY.private, algorithm="RS512", headers={"kid": KEY.id}),
    "HS256 with our secret": jwt.encode(
        fake_google.claims(), "0123456789abcdef0123456789abcdef", "HS256", {"kid": KEY.id}
    ),
    "alg none": unsigned({"alg": "none", "kid": KEY.id}, json.dumps(fake_google.claims())),
    "a list of keys": unsigned({"alg": "RS256", "kid": [KEY.id]}),
    "claims that are a list": unsigned({"alg": "RS256", "kid": KEY.id}, "[]"),
    "claims nested 2,000 deep": unsigned({"alg": "RS256", "kid": KEY.id}, "[" * 2000),
    "nothing": "",
    "dots": "..",
    "words": "not a credential",
    "other letters": "é.é.é",
    "half a character": "\ud800.a.b",
    "too long": "a" * (MAX_CREDENTIAL_BYTES + 1),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_what_google_did_not_sign_is_refused_without_repeating_it(
    provider: FakeProvider, google: Google, forged: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answers("GET", "/certs", json=fake_google.certificates(KEY), times=None)
    with caplog.at_level(logging.DEBUG), pytest.raises(NotAuthenticated) as refused:
        google.verify(forged)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    for part in [part for part in forged.split(".") if len(part) > 2]:
        assert part not in refused.value.message + caplog.text


def within_one_second(work: Callable[[int], None]) -> None:
    """Calls `work` with the present second until that second was also the last that it saw."""
    while True:
        second = int(time.time())
        work(second)
        if int(time.time()) == second:
            return


def accepted(google: Google, **changes: Any) -> bool:
    try:
        google.verify(credential(KEY, **changes))
    except NotAuthenticated:
        return False
    return True


def test_clocks_may_differ_by_ten_seconds(google: Google, publish: Callable[..., None]) -> None:
    publish(KEY, Cache_Control="max-age=60")
    found: list[bool] = []

    def try_them(now: int) -> None:
        found[:] = [accepted(google, exp=now - late) for late in (10, 11, 60)]
        found.extend(accepted(google, iat=now + early) for early in (10, 11, 60))

    within_one_second(try_them)
    assert found == [True, False, False] * 2


@pytest.mark.parametrize(("told", "nonce"), [("n1", "n1"), (None, None), (7, None)])
def test_the_nonce_of_a_sign_in_is_told(
    google: Google, publish: Callable[..., None], told: object, nonce: str | None
) -> None:
    publish(KEY)
    assert google.verify(credential(KEY, nonce=told)).nonce == nonce


@pytest.mark.parametrize("client_id", [None, ""])
def test_without_a_client_id_nothing_is_verified(provider: FakeProvider, client_id: str | None) -> None:
    google = Google(client_id, Certificates(f"{provider.url}/certs"))
    for aud in (None, "", "anything"):
        with pytest.raises(NotConfigured, match="GOOGLE_CLIENT_ID"):
            google.verify(credential(KEY, aud=aud))
    assert provider.requests == []


# How Google's keys are asked for: whatever is published is asked for exactly once


def test_keys_are_kept_for_as_long_as_google_says(
    google: Google, publish: Callable[..., None], clock: Clock, provider: FakeProvider
) -> None:
    publish(KEY, Cache_Control="public, max-age=20000, must-revalidate", Age="5000")
    google.verify(credential(KEY))
    clock.now += 14_999
    google.verify(credential(KEY))
    assert len(provider.requests) == 1
    clock.now += 1
    publish(KEY, Cache_Control="max-age=20000")
    google.verify(credential(KEY))


def test_keys_without_a_lifetime_are_asked_for_at_every_sign_in(google: Google, publish: Callable[..., None]) -> None:
    for headers in ({}, {"Cache_Control": "no-store"}, {"Cache_Control": "max-age=10", "Age": "10"}):
        publish(KEY, **headers)
        google.verify(credential(KEY))


def test_a_new_key_is_asked_for_once(google: Google, publish: Callable[..., None], clock: Clock) -> None:
    publish(KEY, Cache_Control="max-age=20000")
    google.verify(credential(KEY))
    clock.now += LEAST_AGE
    publish(KEY, NEXT, Cache_Control="max-age=20000")
    google.verify(credential(NEXT))
    google.verify(credential(KEY))


def test_a_retired_key_is_no_longer_good(google: Google, publish: Callable[..., None], clock: Clock) -> None:
    publish(KEY, Cache_Control="max-age=100")
    google.verify(credential(KEY))
    clock.now += 100
    publish(NEXT, Cache_Control="max-age=100")
    with pytest.raises(NotAuthenticated):
        google.verify(credential(KEY))


def test_made_up_keys_do_not_make_us_ask_google_each_time(google: Google, publish: Callable[..., None]) -> None:
    publish(KEY, Cache_Control="max-age=20000")
    for number in range(5):
        with pytest.raises(NotAuthenticated):
            google.verify(credential(KEY, key_id=f"made up {number}"))


def test_many_who_sign_in_at_once_ask_once(google: Google, publish: Callable[..., None]) -> None:
    publish(KEY, Cache_Control="max-age=20000")
    signed = credential(KEY)
    with ThreadPoolExecutor(8) as threads:
        profiles = list(threads.map(lambda _: google.verify(signed), range(8)))
    assert {profile.email for profile in profiles} == {"alice@example.com"}


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 404, "json": {}},
        {"status": 302, "headers": {"Location": "/elsewhere"}},
        {"body": b"<html>Sign in to this network</html>"},
        {"json": [KEY.certificate]},
        {"json": {KEY.id: {"pem": KEY.certificate}}},
        {"json": {KEY.id: "not a certificate"}},
        {"body": b'{"\xff'},
        {"steps": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", DROP]},
    ],
    ids=lambda answer: next(iter(answer)),
)
def test_whatever_google_answers_nothing_breaks(google: Google, provider: FakeProvider, answer: dict[str, Any]) -> None:
    provider.answers("GET", "/certs", **answer)
    with pytest.raises(AppError) as refused:
        google.verify(credential(KEY))
    assert isinstance(refused.value, SignInUnavailable | NotAuthenticated)


def test_unreachable_keys_are_a_temporary_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    google = Google(CLIENT_ID, Certificates(f"http://127.0.0.1:{port}/certs"))
    with pytest.raises(SignInUnavailable) as refused:
        google.verify(credential(KEY))
    assert refused.value.status == 503
    assert refused.value.headers["Retry-After"]
    assert "127.0.0.1" not in refused.value.message


def test_a_silent_google_is_given_up(provider: FakeProvider) -> None:
    provider.answers("GET", "/certs", steps=[Gate("never")])
    google = Google(CLIENT_ID, Certificates(f"{provider.url}/certs", timeout=0.05))
    with pytest.raises(SignInUnavailable):
        google.verify(credential(KEY))
    provider.closed.wait()


def test_after_a_failure_google_has_a_pause_and_is_asked_again(
    google: Google, provider: FakeProvider, publish: Callable[..., None], clock: Clock
) -> None:
    provider.answers("GET", "/certs", status=503)
    for _ in range(3):
        with pytest.raises(SignInUnavailable):
            google.verify(credential(KEY))
    clock.now += PAUSE
    publish(KEY)
    assert google.verify(credential(KEY)).email == "alice@example.com"


def test_keys_still_in_force_outlive_a_failure(
    google: Google, provider: FakeProvider, publish: Callable[..., None], clock: Clock
) -> None:
    publish(KEY, Cache_Control="max-age=20000")
    google.verify(credential(KEY))
    clock.now += LEAST_AGE
    provider.answers("GET", "/certs", status=503)
    with pytest.raises(SignInUnavailable):
        google.verify(credential(NEXT))
    assert google.verify(credential(KEY)).email == "alice@example.com"
