"""A server for clients that others wrote, at the providers' real prices, and a place of their own for some clients."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Script, Site, running
from e2e.server import Caller, Server
from test_scenarios import FILES, events, plan

CLIENTS = Path(__file__).parents[2] / ".venv" / "clients"


@pytest.fixture(scope="session")
def client_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    budget = {"*": {"limit": 1, "days": 7}}
    with running(tmp_path_factory.mktemp("clients"), AIPIPE_PRICES={}, AIPIPE_BUDGET=budget) as site:
        yield site


@pytest.fixture
def site(client_site: Site) -> Iterator[Site]:
    yield client_site
    client_site.check()


@pytest.fixture
def provider(site: Site) -> Script:
    return site.provider


@pytest.fixture
def server(site: Site) -> Server:
    return site.server


@pytest.fixture
def alice(server: Server) -> Caller:
    """Someone with a dollar to spend."""
    return server.caller()


def play(provider: Script, file: str, name: str) -> dict[str, Any]:
    """Plans what the provider says in a scenario of scenarios/; returns the scenario."""
    scenario: dict[str, Any] = next(each for each in FILES[file]["scenarios"] if each["name"] == name)
    plan(provider, scenario["request"]["method"], scenario["upstream"], events(scenario["upstream"]))
    return scenario


def installed(requirement: str) -> Path:
    """Where the commands of a package are, in an environment of its own, which is made at the first call ever.

    Without a network to make it from, the test is skipped; under CI=true it fails.
    """
    folder = CLIENTS / requirement.replace("==", "-")
    stamp = folder / "installed"
    if not stamp.exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        found = subprocess.run(pip, capture_output=True, text=True, check=False)
        if found.returncode:
            reason = f"{requirement} could not be installed: {found.stderr.strip().rpartition(chr(10))[2]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        stamp.touch()
    return folder / "bin"


def run(command: Path, *arguments: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a command says, run with nothing of this machine's settings."""
    return subprocess.run(
        [command, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUTF8": "1", **environ},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
