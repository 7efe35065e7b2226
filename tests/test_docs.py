"""What the documents say is so: their calls are run, their commands exist, their links lead somewhere."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from conftest import MakeApp
from documented import DOCUMENTS, ROOT, Answer, Call, calls, code, commands, curl, shape
from fake_provider import FakeProvider
from flask import Flask
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from aipipe import errors
from aipipe.cli import main
from aipipe.google import Profile
from aipipe.ledger import open_ledger
from aipipe.redirects import challenge_of
from aipipe.settings import SETTINGS, load

API, README, OPERATIONS = ROOT / "docs" / "api.md", ROOT / "README.md", ROOT / "docs" / "operations.md"
TOKEN, ADMIN, NATIVE, CREDENTIAL = "TOKEN-OF-ALICE", "TOKEN-OF-DANA", "sk-own-key", "CREDENTIAL"
VERIFIER, APP = "v" * 43, "https://alice.github.io"
VARIABLES = {
    "AIPIPE_TOKEN": TOKEN,
    "ADMIN_TOKEN": ADMIN,
    "OPENAI_API_KEY": NATIVE,
    "GOOGLE_CREDENTIAL": CREDENTIAL,
    "CODE": "code",
    "VERIFIER": VERIFIER,
}
LOCAL_PRICE = {"local/smollm2-135m": {"input_mtok": 0.1, "output_mtok": 0.4}}
COMMENT = re.compile(r"^: aipipe cost=.*\n\n", re.MULTILINE)

Token = Callable[[str], str]


# docs/api.md


def documented_calls() -> list[Any]:
    return [pytest.param(call, answer, id=f"{call.method} {call.target}") for call, answer in calls(API, VARIABLES)]


@pytest.mark.parametrize(("call", "expected"), documented_calls())
def test_a_documented_call_is_answered_as_documented(
    call: Call, expected: Answer, provider: FakeProvider, make_app: MakeApp, token: Token
) -> None:
    app = make_app(GOOGLE_CLIENT_ID="client-id") if "/proxy/" not in call.target else web(provider, call, make_app)
    parts = app.extensions["aipipe"]
    called = parts.providers.get(call.target.split("/")[1])
    passes_through = called and expected.status == 200
    if passes_through:
        upstream(provider, called.base, call, expected)
    elif call.target == "/similarity":
        embed(provider, call)
    else:
        parts.ledger.adjust("alice@example.com", datetime.now(UTC).date(), 137_000)
        parts.google.verify = lambda credential: vouch(credential)
        parts.ledger.apps.allow("alice@example.com", APP, time.time() + 60)
        parts.ledger.apps.add_code("code", "alice@example.com", APP, challenge_of(VERIFIER))
    call.headers = {
        name: value.replace(TOKEN, token("alice@example.com")).replace(ADMIN, token("dana@example.com"))
        for name, value in call.headers.items()
    }
    with send(app, call) as answer:
        content = answer.text
    assert answer.status_code == expected.status, content
    for name, value in expected.headers.items():
        found = answer.headers[name].replace(provider.url, "https://httpbin.org")
        assert found.partition("; charset")[0] == value.partition("; charset")[0], name
    if passes_through:
        assert content == expected.body
    elif expected.headers.get("Content-Type", "").startswith("text/csv"):
        assert [line.count(",") for line in content.splitlines()] == [2, 2]
        assert content.splitlines()[0] == expected.body.splitlines()[0]
    else:
        assert shape(answer.json) == shape(expected.json())


def upstream(provider: FakeProvider, base: str, call: Call, expected: Answer) -> None:
    """The provider says what is documented, but for what AI Pipe adds."""
    kind = "text/event-stream" if expected.streams else "application/json"
    path = urlsplit(base).path + "/" + call.target.split("/", 2)[2]
    body = COMMENT.sub("", expected.body).encode()
    provider.answers(call.method, path, headers={"Content-Type": kind}, body=body)


def web(provider: FakeProvider, call: Call, make_app: MakeApp) -> Flask:
    """An app that finds the documented site where the provider is."""
    url = call.target.removeprefix("/proxy/")
    site, path = re.fullmatch(r"(https://[^/]+)([^?]+).*", url).groups()  # type: ignore[union-attr]
    call.url = call.url.replace(site, provider.url)
    provider.answers("GET", path, json={"args": {"x": "1"}, "headers": {"Accept": "*/*", "Host": "h"}, "url": url})
    return make_app(dev=True, AIPIPE_UNSAFE_LOOPBACK="on", AIPIPE_PROXY={"enabled": True, "ports": ["1-65535"]})


def embed(provider: FakeProvider, call: Call) -> None:
    asked = json.loads(call.data or "")
    data = [{"index": number, "embedding": [number, 1.0]} for number in range(len(asked["docs"] + asked["topics"]))]
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    provider.answers("POST", "/v1/embeddings", json={"data": data, "model": asked["model"], "usage": usage})


def vouch(credential: str) -> Profile:
    assert credential == CREDENTIAL
    return Profile("alice@example.com", {"sub": "1", "name": "Alice", "picture": "https://example.com/alice.png"})


def send(app: Flask, call: Call) -> TestResponse:
    forms = {name: (io.BytesIO(b"ID3"), value[1:]) if value.startswith("@") else value for name, value in call.forms}
    return app.test_client().open(call.target, method=call.method, headers=call.headers, data=forms or call.data)


def test_the_table_of_errors_is_the_tree_of_errors() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (?:`(\w+)`)? *\|", API.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted({(str(one.status), one.kind, one.code or "") for one in tree(errors.AppError)})


def tree(error: type[errors.AppError]) -> list[type[errors.AppError]]:
    """A class and those below it that callers see: not those of single modules, for themselves."""
    below = [found for one in error.__subclasses__() if one.__module__ == errors.__name__ for found in tree(one)]
    return [error, *below]


# README.md


@pytest.fixture
def readme_app(provider: FakeProvider, make_app: MakeApp) -> Flask:
    provider.answers(
        "POST",
        "/v1/chat/completions",
        sse=[
            {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
            {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}]},
            {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 34}},
            "[DONE]",
        ],
    )
    return make_app(AIPIPE_PROVIDERS__local__base=provider.url, AIPIPE_PRICES=LOCAL_PRICE)


def test_the_readmes_first_call_streams_and_is_charged_what_the_readme_shows(readme_app: Flask, token: Token) -> None:
    lines = [line for block in code(README, "sh") for line in commands(block)]
    exports = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    assert exports["OPENAI_API_KEY"] == "$(.venv/bin/aipipe token you@example.com)"
    exports["OPENAI_API_KEY"] = token("you@example.com")
    chat, usage = [curl(line, exports) for line in lines if line.startswith("curl ")]
    with send(readme_app, chat) as answer:
        assert answer.mimetype == "text/event-stream"
        assert answer.text.endswith(": aipipe cost=0.0000167 remaining=0.0999833\n\ndata: [DONE]\n\n")
    [shown] = code(README, "json")
    with send(readme_app, usage) as answer:
        assert answer.json == {**json.loads(shown), "usage": [{"date": str(today()), "cost": 0.0000167}]}


def today() -> date:
    return datetime.now(UTC).date()


def test_the_readmes_python_prints_the_streamed_answer(readme_app: Flask, token: Token) -> None:
    [script] = code(README, "python")
    server = make_server("127.0.0.1", 0, readme_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/local/v1"
        environ = {"OPENAI_API_KEY": token("you@example.com"), "OPENAI_BASE_URL": url}
        done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (done.stdout, done.stderr) == ("Hi!", "")


# Every document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)):
        path, _, anchor = link.partition("#")
        if path.startswith("https:"):
            continue
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_words() -> list[list[str]]:
    lines = [line for path in DOCUMENTS for block in code(path, "sh") for line in commands(block)]
    return [shlex.split(line, comments=True) for line in lines if "'{" not in line]


def test_documented_commands_exist() -> None:
    for words in shell_words():
        for place, word in enumerate(words):
            name = word.rpartition("/")[2]
            if word.startswith("script/"):
                assert (ROOT / word).stat().st_mode & 0o100, word
            elif name == "aipipe" and "bin/" in word and place + 1 < len(words):
                understood(words[place + 1].strip(")"), words[place + 2 :])


def understood(name: str, arguments: list[str]) -> None:
    """Fails where `aipipe` has no such command, or the command no such arguments."""
    assert isinstance(main, click.Group)
    command = main.commands[name]
    end = next((place for place, word in enumerate(arguments) if word in ("&&", "|", ">")), len(arguments))
    command.make_context(name, [word.strip(")") for word in arguments[:end]])


def test_documented_variables_are_settings() -> None:
    known = {setting.name for setting in SETTINGS} | {"AIPIPE_CONFIG", "AIPIPE_TOKEN"}
    for document in DOCUMENTS:
        for name in re.findall(r"\bAIPIPE_(?!TEST_)[A-Z_]+[A-Z]", document.read_text()):
            assert {name.split("__")[0], name.split("__")[0].removeprefix("AIPIPE_")} & known, f"{document}: {name}"


def test_documented_imports_are_exported(make_app: MakeApp) -> None:
    text = "".join(path.read_text() for path in DOCUMENTS)
    client = make_app().test_client()
    for names, path in re.findall(r'import \{ ([\w, ]+) \} from "http://localhost:8787(/[^"]+)"', text):
        with client.get(path) as answer:
            exported = re.findall(r"^export (?:async )?function\*? (\w+)", answer.text, re.MULTILINE)
        assert set(names.split(", ")) <= set(exported), path


# docs/operations.md


@pytest.fixture
def operated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the document has it, with an environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "backups").mkdir()
    return tmp_path


def run(folder: Path, text: str) -> None:
    """Runs a block of the document; services are not there, and backups are kept here."""
    here = text.replace("/var/backups/aipipe", str(folder / "backups"))
    lines = [line for line in here.splitlines() if "systemctl" not in line]
    subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=folder, check=True, timeout=60)


def test_a_backup_made_and_restored_as_documented_has_everything(operated: Path) -> None:
    [backup] = [text for text in code(OPERATIONS, "sh") if "VACUUM" in text]
    [restore] = [text for text in code(OPERATIONS, "sh") if "rm -f instance/aipipe.db" in text]
    url = load({"AIPIPE_SECRET": "x" * 32})["AIPIPE_DATABASE_URL"]
    with closing(open_ledger(url)) as ledger:
        ledger.adjust("alice@example.com", today(), 137_000)
        run(operated, backup)
        ledger.adjust("alice@example.com", today(), 999_000)
    run(operated, re.sub(r"\d{4}-\d\d-\d\d", str(today()), restore))
    with closing(open_ledger(url)) as ledger:
        assert ledger.spent("alice@example.com", today()) == 137_000
        assert ledger.balanced()
