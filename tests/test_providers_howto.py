"""docs/providers.md: its tables tell what the registry has, and whoever follows it has one more provider."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MakeApp
from documented import ROOT, code

from aipipe.providers import Endpoint, Registry

DOCUMENT = ROOT / "docs" / "providers.md"
IGNORED = shutil.ignore_patterns("__pycache__", "node_modules")


@pytest.fixture
def registry(make_app: MakeApp) -> Registry:
    """The built-in providers as they are, and `local` as `aipipe dev` sets it up."""
    fakes = ("openai", "openrouter", "geminiv1beta", "anthropic")
    settings = {f"AIPIPE_PROVIDERS__{name}__base": None for name in fakes}
    found: Registry = (
        make_app(**settings, AIPIPE_PROVIDERS__local__base="http://127.0.0.1:1").extensions["aipipe"].providers
    )
    return found


def rows(header: str) -> dict[str, list[str]]:
    """The table under a header, by provider: the cells beside its name."""
    lines = DOCUMENT.read_text().partition(header)[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): rest for name, *rest in cells}


def test_the_first_table_has_every_provider_with_its_base_and_key(registry: Registry) -> None:
    documented = rows("| provider | upstream | key |")
    assert documented.pop("local") == ["the embedded model of `aipipe dev`", "none"]
    expected = {name: [f"`{one.base}`", f"`{one.key_variable}`"] for name, one in registry.items() if name != "local"}
    assert documented == expected


def test_the_second_table_has_every_endpoint(registry: Registry) -> None:
    documented = rows("| provider | metered: `POST` | free |")
    assert documented.keys() == registry.keys()
    for name, (metered, free) in documented.items():
        endpoints = registry[name].endpoints
        paths = [("POST", path) for path in re.findall(r"`(/[^`]+)`", metered)]
        assert_same(paths, [one for one in endpoints if one.format])
        assert_same(re.findall(r"`(\w+) (/[^`]+)`", free), [one for one in endpoints if not one.format])


def assert_same(documented: list[tuple[str, str]], endpoints: list[Endpoint]) -> None:
    for (method, path), endpoint in zip(documented, endpoints, strict=True):
        assert method == endpoint.method
        assert endpoint.path.fullmatch(path.replace("{}", "name")), path


def test_a_provider_added_in_three_lines_has_a_key_endpoints_and_prices(make_app: MakeApp, tmp_path: Path) -> None:
    settings = next(text for text in code(DOCUMENT, "python") if text.startswith("PROVIDERS"))
    (tmp_path / "own.py").write_text(settings)
    parts = make_app(AIPIPE_CONFIG=str(tmp_path / "own.py"), GROQ_API_KEY="gsk_operators").extensions["aipipe"]
    groq = parts.providers["groq"]
    assert (groq.base, groq.key) == ("https://api.groq.com/openai", "gsk_operators")
    assert [one.name for one in groq.endpoints] == [one.name for one in parts.providers["openai"].endpoints]
    assert parts.prices.find("groq", groq.price_id, "llama-3.3-70b-versatile")


def test_a_provider_added_by_the_checklist_plays_its_scenario(tmp_path: Path) -> None:
    for part in ("aipipe", "tests", "pyproject.toml", "docs"):
        source, copy = ROOT / part, tmp_path / part
        shutil.copytree(source, copy, ignore=IGNORED) if source.is_dir() else shutil.copy(source, copy)
    file, registration = (text for text in code(DOCUMENT, "python") if not text.startswith("PROVIDERS"))
    [setting] = code(DOCUMENT, "text")
    [scenario] = code(DOCUMENT, "json")
    (tmp_path / "aipipe/providers/mistral.py").write_text(file)
    (tmp_path / "tests/scenarios/mistral-chat.json").write_text(scenario)
    edit(tmp_path / "aipipe/providers/__init__.py", r"(from aipipe\.providers\.openai )", rf"{registration}\1")
    edit(tmp_path / "aipipe/providers/__init__.py", r"(for one in \([^\n]*OPENROUTER)", r"\1, MISTRAL")
    edit(tmp_path / "aipipe/settings.py", r'(    Setting\("OPENAI_ORG_ID")', rf"{setting}\1")
    python(tmp_path, "-m", "ruff", "format", "--no-cache", "-q", "aipipe/providers/__init__.py")
    python(tmp_path, "-m", "ruff", "check", "--no-cache", "aipipe/providers", "aipipe/settings.py")
    python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_scenarios.py", "-k", "mistral-chat")


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, times = re.subn(pattern, replacement, path.read_text(), count=1)
    assert times, f"{path.name} has no {pattern}"
    path.write_text(text)


def python(folder: Path, *arguments: str) -> None:
    """Runs Python on the copy of the package in `folder`, which comes before the installed one."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
