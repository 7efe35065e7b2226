"""`start` and `first-run`: how long until there is an answer."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import orjson
import requests

from benchmarks import servers, tables
from benchmarks.servers import HOST, Failed

INSTALLING = 300.0  # seconds
QUESTION = {
    "model": "smollm2-135m",
    "stream": True,
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Hello"}],
}


def serve(*, rounds: int = 7) -> None:
    """`aipipe serve`, with its two workers and no ledger yet, to its first answer."""
    waits, cpu = [], []
    for _ in range(rounds):
        port = servers.free_port()
        environ = {"HOST": HOST, "PORT": str(port), "AIPIPE_SECRET": servers.SECRET}
        begun = time.perf_counter()
        with servers.running("aipipe serve", servers.aipipe_command("serve"), port, environ) as server:
            healthy(port)
            waits.append(time.perf_counter() - begun)
            cpu.append(server.cpu())
    tables.show(
        f"`aipipe serve`, {rounds} times",
        ["to", "seconds", "of CPU"],
        [["the first answer", tables.spread(waits), tables.spread(cpu)]],
    )


def first_run() -> None:
    """`script/server` on a clean clone, with pip's cache as it is, to the first token of the embedded model."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "aipipe"
        subprocess.run(["git", "clone", "--quiet", str(servers.ROOT), str(clone)], check=True)
        port = servers.free_port()
        environ = {"HOME": os.environ.get("HOME", folder), "PORT": str(port)}
        begun = time.perf_counter()
        with servers.running("script/server", [str(clone / "script/server")], port, environ, patience=INSTALLING):
            healthy(port)
            answered = time.perf_counter() - begun
            token = servers.output([str(clone / ".venv/bin/aipipe"), "token", "you@example.com"], clone)
            first_token(port, token)
            spoken = time.perf_counter() - begun
    tables.show(
        "`script/server` on a clean clone",
        ["to", "seconds"],
        [["the first answer", f"{answered:.0f}"], ["the first token", f"{spoken:.0f}"]],
    )


def healthy(port: int) -> None:
    """Waits for an answer from what listens already. Raises Failed when it is another than 200."""
    status = requests.get(f"http://{HOST}:{port}/healthz", timeout=60).status_code
    if status != 200:
        raise Failed(f"/healthz answers {status}")


def first_token(port: int, token: str) -> None:
    """Waits for what the model says first. Raises Failed when it says nothing."""
    url, headers = f"http://{HOST}:{port}/local/v1/chat/completions", {"Authorization": token}
    with requests.post(url, json=QUESTION, headers=headers, stream=True, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith(b"data: {") and speaks(orjson.loads(line.removeprefix(b"data: "))):
                return
    raise Failed(f"the model said nothing (status {answer.status_code})")


def speaks(chunk: dict) -> bool:  # type: ignore[type-arg]
    return any(choice["delta"].get("content") for choice in chunk.get("choices", ()))
