"""Ways to call a /proxy whose web is a scripted server on loopback."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SECRET
from flask import Flask
from werkzeug.test import TestResponse

from aipipe import create_app, fetching

PROXY = {"ports": ["1-65535"]}

Fetch = Callable[..., TestResponse]
MakeProxy = Callable[..., Fetch]


@pytest.fixture
def make_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeProxy]:
    """Makes ways to call a /proxy that may reach loopback, with other settings where they are given."""
    monkeypatch.chdir(tmp_path)
    logging.getLogger("aipipe").setLevel(logging.ERROR)
    made: list[Flask] = []

    def make(
        look_up: fetching.LookUp | None = None, *, loopback: bool = True, trust: Path | None = None, **settings: Any
    ) -> Fetch:
        proxy = {**PROXY, **settings}
        app = create_app(
            dev=True,
            environ={
                "AIPIPE_SECRET": SECRET,
                "AIPIPE_PUBLIC_URL": "https://aipipe.example.com",
                "AIPIPE_PROXY": json.dumps(proxy),
                "AIPIPE_UNSAFE_LOOPBACK": "on" if loopback else "off",
            },
        )
        made.append(app)
        parts = app.extensions["aipipe"]
        if look_up:
            fetcher = fetching.build(
                parts.config["PROXY"], parts.throttle, loopback=loopback, look_up=look_up, authorities=trust
            )
            app.extensions["aipipe"] = replace(parts, fetcher=fetcher)

        def fetch(url: str, method: str = "GET", *, environ: Mapping[str, Any] = {}, **options: Any) -> TestResponse:
            path = f"/proxy/{url}"
            options.setdefault("buffered", True)
            given = {"RAW_URI": path, **environ}
            answer = app.test_client().open(path, method=method, environ_overrides=given, **options)
            check_inert(answer)
            return answer

        return fetch

    yield make
    for app in made:
        app.extensions["aipipe"].close()
    logging.getLogger("aipipe").setLevel(logging.NOTSET)


@pytest.fixture
def fetch(make_proxy: MakeProxy) -> Fetch:
    return make_proxy()


def check_inert(answer: TestResponse) -> None:
    """What holds for every answer: any page may read it, and as a page it can do nothing in our name."""
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers.getlist("Content-Security-Policy") == ["sandbox; default-src 'none'; frame-ancestors 'none'"]
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.getlist("Referrer-Policy") == ["no-referrer"]
    assert answer.headers.getlist("Cross-Origin-Resource-Policy") == ["cross-origin"]
    assert "Set-Cookie" not in answer.headers


def refusal(answer: TestResponse) -> str:
    assert answer.json is not None
    return str(answer.json["message"])


def nowhere(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


def names(*found: str) -> fetching.LookUp:
    return lambda host, port: list(found)
