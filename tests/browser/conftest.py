"""A real browser, an app on an origin of its own, and a real AI Pipe with a scripted provider behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from e2e.conftest import Script, Site, running
from e2e.server import Caller
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from browser.pages import Pages

HERE = Path(__file__).parent
INSTALL = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(what: str) -> NoReturn:
    """Skips, and says so; in CI nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def chromium(playwright: Playwright) -> str:
    found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
    if not Path(found).exists():
        missing(
            "No Chromium here: install it with `apt-get install chromium` or `.venv/bin/playwright install chromium`."
        )
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own. At the end no script of it may have failed."""
    page = browser.new_page()
    page.set_default_timeout(10_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    page.context.close()
    assert not failures


@pytest.fixture(scope="package")
def npm() -> Callable[[str], Path]:
    """Tells the folder of one of the npm packages, which are installed if they aren't yet."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    if any(version != installed(name) for name, version in wanted.items()):
        if not shutil.which("npm"):
            missing("No npm here to get the packages with that the tests load in a browser.")
        done = subprocess.run(INSTALL, cwd=HERE, capture_output=True, text=True, timeout=120)
        if done.returncode:
            missing(f"npm can't get what the tests load in a browser: {done.stderr[-300:]}")
    return lambda name: HERE / "node_modules" / name


def installed(name: str) -> str | None:
    described = HERE / "node_modules" / name / "package.json"
    return str(json.loads(described.read_text())["version"]) if described.is_file() else None


@pytest.fixture(scope="package")
def package_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("browser")) as site:
        yield site


@pytest.fixture
def site(package_site: Site) -> Iterator[Site]:
    """AI Pipe. Each test leaves it with its books balanced and its script played."""
    yield package_site
    package_site.check()


@pytest.fixture
def provider(site: Site) -> Script:
    return site.provider


@pytest.fixture
def alice(site: Site) -> Caller:
    """Someone with a dime to spend."""
    return site.server.caller()


@pytest.fixture
def app() -> Iterator[Pages]:
    """An app's own web site."""
    pages = Pages()
    yield pages
    pages.close()
