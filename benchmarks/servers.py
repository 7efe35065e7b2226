"""The servers that are measured, each with all of its processes in a folder and on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from aipipe import tokens

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
PORTKEY = ROOT / ".venv/peers/node_modules/@portkey-ai/gateway/build/start-server.js"
PATIENCE = 60.0  # seconds for a server to start
SECRET = "the-secret-that-signs-tokens-in-benchmarks"
OURS = {"PYTHONPATH": str(ROOT)}


class Failed(Exception):
    """A server or an answer isn't what it should be: then there is nothing to measure."""


@dataclass(frozen=True)
class Server:
    """A running server. Requests for it go to `path`, with `headers`."""

    name: str
    port: int
    process: psutil.Process
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)

    def cpu(self) -> float:
        """Seconds, user and system, that all of its processes have used so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def memory(self) -> dict[str, int]:
        """Bytes of all of its processes: resident, of its own, and with its share of what is shared."""
        found = [each.memory_full_info() for each in self._processes()]
        return {name: sum(getattr(each, name) for each in found) for name in ("pss", "rss", "uss")}

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def stop(self) -> None:
        with ExitStack() as ends:
            for each in self._processes():
                ends.callback(kill, each)
            self.process.send_signal(signal.SIGTERM)
            psutil.wait_procs([self.process], timeout=10)


def kill(process: psutil.Process) -> None:
    if process.is_running():
        process.kill()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(
    name: str,
    command: list[str],
    port: int,
    environ: dict[str, str] | None = None,
    *,
    patience: float = PATIENCE,
    **more: object,
) -> Iterator[Server]:
    """A server that listens. What it says goes to a log, which is shown when it doesn't start."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                command,
                cwd=folder,
                env={**plain(), "HOME": folder, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        server = Server(name, port, psutil.Process(started.pid), **more)  # type: ignore[arg-type]
        try:
            if not listens(port, started, patience):
                raise Failed(f"{name} does not start:\n{log.read_text(errors='replace')[-2000:]}")
            yield server
        finally:
            server.stop()
            started.wait()


def plain() -> dict[str, str]:
    """This environment without anything that would configure a server."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}


def output(command: list[str], folder: Path) -> str:
    """What a command prints."""
    return subprocess.run(command, cwd=folder, env=plain(), capture_output=True, text=True, check=True).stdout.strip()


def listens(port: int, process: subprocess.Popen[bytes], patience: float) -> bool:
    """Waits until a server takes connections; False when it ends before, or doesn't in so many seconds."""
    until = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


@contextmanager
def upstream() -> Iterator[Server]:
    port = free_port()
    with running("direct", [sys.executable, "-m", "benchmarks.upstream", str(port)], port, OURS) as server:
        yield server


def gunicorn(name: str, app: str) -> Iterator[Server]:
    port = free_port()
    options = ["--worker-class", "gevent", "--worker-connections", "2000", "--bind", f"{HOST}:{port}"]
    command = [sys.executable, "-m", "gunicorn", *options, f"benchmarks.apps:{app}"]
    with running(name, command, port, OURS) as server:
        yield server


@contextmanager
def bare(_provider: Server) -> Iterator[Server]:
    yield from gunicorn("gunicorn alone", "bare")


@contextmanager
def flask(_provider: Server) -> Iterator[Server]:
    yield from gunicorn("Flask alone", "flask")


@contextmanager
def aipipe(provider: Server) -> Iterator[Server]:
    """AI Pipe as it is served, with everything on."""
    port = free_port()
    environ = {
        "WEB_CONCURRENCY": "1",
        "HOST": HOST,
        "PORT": str(port),
        "AIPIPE_SECRET": SECRET,
        "AIPIPE_PROVIDERS__openai__base": f"http://{HOST}:{provider.port}",
        "OPENAI_API_KEY": "sk-benchmark",
        "AIPIPE_BUDGET": '{"*": {"limit": 1000, "days": 7}}',
    }
    where, who = "/openai/v1/chat/completions", authorization(0)
    with running("AI Pipe", aipipe_command("serve"), port, environ, path=where, headers=who) as server:
        yield server


def aipipe_command(command: str) -> list[str]:
    return [str(Path(sys.executable).with_name("aipipe")), command]


def authorization(number: int) -> dict[str, str]:
    """The header of one of any number of people."""
    token = tokens.issue(f"person{number}@example.com", secret=SECRET, now=time.time(), days=1)
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def portkey(provider: Server) -> Iterator[Server]:
    """Portkey's gateway, where `peers` has put it."""
    port = free_port()
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://{HOST}:{provider.port}/v1",
        "Authorization": "Bearer sk-benchmark",
    }
    command = [shutil.which("node") or "node", str(PORTKEY), f"--port={port}", "--headless"]
    with running("Portkey", command, port, headers=headers) as server:
        yield server
