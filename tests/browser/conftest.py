"""A real browser, an app on an origin of its own, and a real AI Pipe with a scripted provider behind it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from e2e.conftest import Script, Site, running
from e2e.server import Caller
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from browser.pages import Pages

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
