"""What the tests share: no network, a scripted provider, and an app that knows nothing of this machine."""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import databases
import pytest
from fake_provider import FakeProvider
from flask import Flask

from aipipe import create_app, tokens

pytest_plugins = ["proxies"]  # `make_proxy` and `fetch`

SECRET = "0123456789abcdef0123456789abcdef"
OPERATOR_KEYS = {
    "openai": "sk-operator-openai",
    "openrouter": "sk-or-operator",
    "geminiv1beta": "AIza-operator",
    "anthropic": "sk-ant-operator",
}
ORGANIZATION = "org-operator"

_forbidden: list[str] = []


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it sees what any library does with sockets, gevent's and C code's own among them."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        host = arguments[-1][0] if isinstance(arguments[-1], tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host is not None and not _is_here(host.decode() if isinstance(host, bytes) else str(host)):
        _forbidden.append(f"{host} ({event})")
        raise RuntimeError(f"Tests must not use the network: {event} {host}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("", "localhost")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def forbidden_calls() -> Iterator[list[str]]:
    """What reached for the network, if anything did: the test fails, even where the code swallowed the error."""
    yield _forbidden
    found, _forbidden[:] = list(_forbidden), []
    assert not found, f"The network was used: {found}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Schemathesis' tests, one an operation, have all the same id: xdist would take them for one, and run one."""
    for item in items:
        if label := getattr(item, "operation_label", None):
            item._id = item.id.with_params(label)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """A scripted provider. At the end everything planned must have been asked for, and nothing else."""
    fake = FakeProvider()
    yield fake
    fake.close(check=not request.node.stash.get(_FAILED, True))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL database of this run alone."""
    with databases.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that is empty, once in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue("postgres")
    databases.empty(url)
    return url


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """Makes apps whose providers are `provider`. Settings are given as environment variables; None takes one away."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").touch()
    environ = {
        "AIPIPE_SECRET": SECRET,
        "AIPIPE_CONFIG": str(tmp_path / "config.py"),
        "AIPIPE_PUBLIC_URL": "https://aipipe.example.com",
        "AIPIPE_BUDGET": {"*": {"limit": 0.1, "days": 7}},
        "AIPIPE_PROVIDERS__openai__base": provider.url,
        "AIPIPE_PROVIDERS__openrouter__base": f"{provider.url}/api",
        "AIPIPE_PROVIDERS__geminiv1beta__base": f"{provider.url}/v1beta",
        "AIPIPE_PROVIDERS__anthropic__base": provider.url,
        "OPENAI_API_KEY": OPERATOR_KEYS["openai"],
        "OPENROUTER_API_KEY": OPERATOR_KEYS["openrouter"],
        "GEMINI_API_KEY": OPERATOR_KEYS["geminiv1beta"],
        "ANTHROPIC_API_KEY": OPERATOR_KEYS["anthropic"],
        "ADMIN_EMAILS": "dana@example.com",
    }
    made: list[Flask] = []

    def make(*, dev: bool = False, **settings: Any) -> Flask:
        given = {name: value for name, value in {**environ, **settings}.items() if value is not None}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        made.append(create_app(dev=dev, environ=texts))
        return made[-1]

    yield make
    for app in made:
        app.extensions["aipipe"].close()


@pytest.fixture
def token() -> Callable[[str], str]:
    """A personal token for an email."""
    return lambda email: tokens.issue(email, secret=SECRET, now=time.time(), days=1)
