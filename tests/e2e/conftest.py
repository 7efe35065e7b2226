"""Servers for the tests of the whole: one with a scripted provider, one with the embedded model."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fake_provider import FakeProvider

from aipipe import local_model
from e2e.server import HOST, Caller, Server

BODY_LIMIT = 100_000  # bytes
NATIVE_KEY = "sk-the-callers-own-key"
OPERATOR_KEY = "operators-own-key-for-openai"
# Dollars per million tokens, so nanodollars a token are these times 1,000.
PRICES = {f"{provider}/small": {"input_mtok": 1, "output_mtok": 2} for provider in ("openai", "patient", "nowhere")}
BUDGETS = {"*": {"limit": 0.1, "days": 7}, "@example.org": {"limit": 0}}


class Script(FakeProvider):
    """A provider that lives as long as its server, and plays a new script for each test.

    It charges by `rates`: nanodollars for an input and an output token.
    """

    rates: Mapping[str, tuple[int, int]] = MappingProxyType({"small": (1_000, 2_000)})

    def open_gates(self) -> None:
        with self._changed:
            for gate in self._gates.values():
                gate.open()

    def bills(self) -> Counter[tuple[str, int]]:
        """How often it charged for which model how much, of those that have a rate."""
        with self._changed:
            told = [one for one in self.billed if one.model in self.rates]
        return Counter(
            (one.model, sum(map(mul, (one.input_tokens, one.output_tokens), self.rates[one.model]))) for one in told
        )

    def check(self) -> None:
        """Raises AssertionError if what was planned since the last check isn't what happened; then forgets both."""
        with self._changed:
            left = [name for name, plan in self._script.items() for answer in plan if answer.times]
            faults, self.faults = self.faults, []
            self.closed = type(self.closed)()
            self.requests.clear()
            self.billed.clear()
            self._script.clear()
            for gate in self._gates.values():
                gate.open()
                os.close(gate.wait_end)
            self._gates.clear()
        assert not (faults or left), f"{faults}, and nobody asked for {left}"


@dataclass(frozen=True)
class Site:
    """A server, the provider behind it, and ways to call it."""

    server: Server
    provider: Script

    def check(self) -> None:
        """The script was played, and the books balance with themselves and with the provider's."""
        self.provider.open_gates()
        self.balance()
        self.provider.check()
        self.server.callers.clear()

    def balance(self) -> None:
        """What the provider charged since the last check is booked, to the nanodollar, or there is a partial entry.

        And nothing is booked twice, nor anything that the provider doesn't know of.
        """
        self.server.check_books()
        entries = [one for caller in self.server.callers for one in self.server.ledger.entries(caller.email, 10_000)]
        entries = [one for one in entries if one.model in self.provider.rates]
        whole = Counter((one.model, one.cost) for one in entries if one.ended == "complete")
        cut = len(entries) - whole.total()
        billed = self.provider.bills()
        assert not whole - billed, f"booked as complete, and never charged by the provider: {whole - billed}"
        assert (billed - whole).total() <= cut, f"charged by the provider, and not booked: {billed - whole}, but {cut}"
        known = sum(one.status != 0 for one in entries)  # the others' workers died, perhaps just before they sent them
        assert known <= len(self.provider.requests), "booked more often than sent"


@contextmanager
def running(folder: Path, provider: Script | None = None, **settings: Any) -> Iterator[Site]:
    """A server with `openai`, which stops billing when one hangs up, `patient`, which does not, and `nowhere`."""
    with provider or Script() as provider, closing(socket.socket()) as nobody:
        nobody.bind((HOST, 0))  # and never listens
        base = {"base": provider.url}
        nowhere = {"base": f"http://{HOST}:{nobody.getsockname()[1]}"}
        server = Server(folder, **{
            "AIPIPE_PROVIDERS": {"openai": base, "patient": base, "nowhere": nowhere},
            "AIPIPE_PRICES": PRICES,
            "AIPIPE_BUDGET": BUDGETS,
            "OPENAI_API_KEY": OPERATOR_KEY,
            **settings,
        })  # fmt: skip
        server.start()
        try:
            yield Site(server, provider)
        finally:
            server.stop()


@contextmanager
def beside(site: Site, folder: Path) -> Iterator[Server]:
    """A second server for the same database and provider, which differs from the first in nothing but its place."""
    own = ("HOME", "PORT", "AIPIPE_CONFIG")
    server = Server(folder, **{name: value for name, value in site.server.environ.items() if name not in own})
    server.secrets |= site.server.secrets
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def session_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site"), AIPIPE_MAX_BODY_BYTES=BODY_LIMIT) as site:
        yield site


@pytest.fixture
def site(session_site: Site) -> Iterator[Site]:
    """The server that most tests share. Each leaves it with its books balanced and its script played."""
    yield session_site
    session_site.check()


@pytest.fixture
def provider(site: Site) -> Script:
    return site.provider


@pytest.fixture
def server(site: Site) -> Server:
    return site.server


@pytest.fixture
def alice(server: Server) -> Caller:
    """Someone with a dime to spend."""
    return server.caller()


@pytest.fixture
def native(server: Server) -> Caller:
    """Someone with a key of their own."""
    server.secrets.add(NATIVE_KEY)
    return Caller("", NATIVE_KEY)


@pytest.fixture(scope="session")
def model() -> Iterator[str]:
    """The base URL of the embedded model."""
    if reason := local_model.unavailable_reason():
        pytest.skip(reason)
    server = local_model.LocalModel()
    base = server.start()
    try:
        server.wait_ready()
        yield base
    finally:
        server.stop()
