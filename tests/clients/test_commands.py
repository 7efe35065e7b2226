"""The command lines that README and docs/api.md name, word for word, with the token and the address alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.conftest import Script
from e2e.server import Caller, Server

from clients.conftest import installed, play, run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def openai() -> Path:
    """The command of the `openai` package, at a version that still has one."""
    return installed("openai==2.19.0") / "openai"


@pytest.fixture(scope="session")
def llm() -> Path:
    """https://llm.datasette.io."""
    return installed("llm==0.36") / "llm"


@pytest.fixture
def environ(server: Server, alice: Caller) -> dict[str, str]:
    return {"OPENAI_API_KEY": alice.token, "OPENAI_BASE_URL": f"{server.url}/openai/v1"}


def test_openai_answers(
    openai: Path, environ: dict[str, str], server: Server, provider: Script, alice: Caller, tmp_path: Path
) -> None:
    scenario = play(provider, "openai-chat", "chat")
    arguments = ["api", "chat.completions.create", "-m", "gpt-4.1-nano", "-g", "user", "Hello"]
    found = run(openai, *arguments, home=tmp_path, **environ)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip() == scenario["upstream"]["json"]["choices"][0]["message"]["content"]
    assert server.entry(alice).cost == scenario["ledger"]["cost"]


def test_openai_transcribes_a_file(
    openai: Path, environ: dict[str, str], server: Server, provider: Script, alice: Caller, tmp_path: Path
) -> None:
    scenario = play(provider, "openai-transcriptions", "by the minute")
    (tmp_path / "speech.mp3").write_bytes(b"ID3" * 10_000)
    arguments = ["api", "audio.transcriptions.create", "-m", "whisper-1", "-f", "speech.mp3"]
    found = run(openai, *arguments, home=tmp_path, **environ)
    assert found.returncode == 0, found.stderr
    assert scenario["upstream"]["json"]["text"] in found.stdout
    assert server.entry(alice).cost == scenario["ledger"]["cost"]


def test_llm_streams_an_answer(llm: Path, server: Server, provider: Script, alice: Caller, tmp_path: Path) -> None:
    scenario = play(provider, "openai-chat-stream", "cached input, usage in the last chunk, beyond ASCII")
    base = {"OPENAI_BASE_URL": f"{server.url}/openai/v1"}
    found = run(llm, "Hello", "-m", "gpt-4o-mini", "--key", alice.token, home=tmp_path, **base)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip() == "こんにちは 👋🏽"
    assert server.entry(alice).cost == scenario["ledger"]["cost"]


def test_llm_uses_responses_for_newer_models(
    llm: Path, environ: dict[str, str], server: Server, provider: Script, alice: Caller, tmp_path: Path
) -> None:
    play(provider, "openai-responses", "a stream")
    found = run(llm, "Hello", "-m", "gpt-5-mini", home=tmp_path, **environ)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip()
    assert server.entry(alice).cost == 37 * 250 + 11 * 2_000  # the stream's usage at the price of gpt-5-mini


def test_a_refusal_is_told_to_whoever_types(llm: Path, environ: dict[str, str], server: Server, tmp_path: Path) -> None:
    found = run(llm, "Hello", "-m", "gpt-4o-mini", "--key", "nonsense", home=tmp_path, **environ)
    assert found.returncode == 1
    assert "AI Pipe" in found.stderr and "/login" in found.stderr
