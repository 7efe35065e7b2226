"""`aipipe dev`, `aipipe serve` and plain gunicorn, as real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from processes import left_of
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from aipipe import serving
from aipipe.local_model import LocalModel, free_port, unavailable_reason

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SECRET = "0123456789abcdef0123456789abcdef"

needs_model = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))


class Server:
    """A started command, in a folder and a process group of its own, and what it printed once it has ended."""

    def __init__(self, command: list[str | Path], folder: Path, **environ: str) -> None:
        self.port = int(environ.setdefault("PORT", str(free_port())))
        self.output = ""
        self._terminal, stdin = os.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        os.close(stdin)

    def wait_ready(self) -> None:
        session = requests.Session()
        session.mount("http://", HTTPAdapter(max_retries=Retry(total=60, backoff_factor=0.1, backoff_max=0.5)))
        with session:
            headers = {"Connection": "close"}  # a kept connection would delay the end
            session.get(f"http://127.0.0.1:{self.port}/healthz", headers=headers, timeout=30).raise_for_status()

    def family(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def end(self, kind: signal.Signals) -> None:
        """Send the signal to the whole group, as a terminal does, and await the end of all that it started."""
        os.killpg(self.process.pid, kind)
        self.finish()

    def finish(self) -> None:
        # Every process holds the pipe, the model's too: it ends when the last one has.
        self.output, _ = self.process.communicate(timeout=30)
        os.close(self._terminal)


@contextmanager
def running(command: list[str | Path], folder: Path, **environ: str) -> Iterator[Server]:
    server = Server(command, folder, **environ)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


@needs_model
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=["Ctrl-C", "hang-up", "kill -9"])
def test_dev_leaves_no_process_behind(how: signal.Signals, tmp_path: Path) -> None:
    with running([BIN / "aipipe", "dev"], tmp_path) as server:
        server.wait_ready()
        family = server.family()

        if how == signal.SIGKILL:
            server.process.kill()
            server.finish()
        else:
            server.end(how)

        assert len(family) == 5  # gunicorn's master, two workers, the model's supervisor and server
        assert not left_of(family)
        assert server.process.returncode == (-how if how == signal.SIGKILL else 0)
        assert "Traceback" not in server.output


@needs_model
def test_dev_serves_the_model_and_listens_on_loopback_alone(tmp_path: Path) -> None:
    with running([BIN / "aipipe", "dev"], tmp_path, HOST="0.0.0.0", WEB_CONCURRENCY="1") as server:
        server.wait_ready()
        listening = [each for process in server.family() for each in process.net_connections("tcp")]
        server.end(signal.SIGINT)

    assert {each.laddr.ip for each in listening if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert f"http://localhost:{server.port}\n" in server.output
    assert "smollm2-135m of provider local" in server.output
    assert "GET /healthz 200" in server.output  # a line for people, not the JSON of `aipipe serve`


def test_dev_starts_no_model_beside_a_local_provider_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(serving.LOCAL_BASE, "http://127.0.0.1:11434")

    assert serving.offer_model(LocalModel()) == "provider local at http://127.0.0.1:11434"


def test_dev_says_why_there_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serving.LOCAL_BASE, raising=False)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    assert serving.offer_model(LocalModel()).startswith("none: xllamacpp is not installed.")
    assert serving.LOCAL_BASE not in os.environ


GUNICORN = [BIN / "gunicorn", "--config", ROOT / "gunicorn.conf.py", "--pythonpath", ROOT, "wsgi:app"]
REFUSALS: list[tuple[list[str | Path], dict[str, str], str]] = [
    ([BIN / "aipipe", "serve"], {}, "AIPIPE_SECRET is not set"),
    ([BIN / "aipipe", "serve"], {"AIPIPE_SECRET": SECRET, "PORT": "70000"}, "PORT must be a whole number"),
    ([BIN / "aipipe", "serve"], {"AIPIPE_SECRET": SECRET, "WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY must be a whole"),
    ([BIN / "aipipe", "serve"], {"AIPIPE_SECRET": SECRET, "AIPIPE_BUDGET": '{"*": {"limit": "x"}}'}, "must be dollars"),
    ([BIN / "aipipe", "dev"], {"WEB_CONCURRENCY": ""}, "WEB_CONCURRENCY must be a whole number"),
    (GUNICORN, {"WEB_CONCURRENCY": "6"}, "AIPIPE_SECRET is not set"),
]


@pytest.mark.parametrize(("command", "environ", "sentence"), REFUSALS)
def test_a_start_that_cannot_be_is_refused_in_a_sentence(
    command: list[str | Path], environ: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with running(command, tmp_path, **environ) as server:
        server.finish()

    assert server.process.returncode > 0
    assert sentence in server.output
    assert "Traceback" not in server.output


def test_dev_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running([BIN / "aipipe", "dev"], tmp_path, PORT=port) as server:
            server.finish()

    assert server.process.returncode == 1
    assert f"Port {port} can't be used" in server.output


RAW_REQUESTS = {
    "a good one": b"GET /healthz?token=hidden HTTP/1.1\r\nHost: x\r\nAuthorization: hidden\r\nReferer: hidden\r\n\r\n",
    "a line break in the path": b"GET /x%0aGET%20/fake?token=hidden HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad line": b"GET /?token=hidden nonsense\r\nHost: x\r\n\r\n",
    "a bad header": b"GET /?token=hidden HTTP/1.1\r\nHost: x\r\nhid den: hidden\r\n\r\n",
    "a bad method": b"hidden / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad expectation": b"GET / HTTP/1.1\r\nHost: x\r\nExpect: hidden\r\n\r\n",
    "a long line": b"GET /?" + b"hidden" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "scheme headers at odds": b"GET /healthz HTTP/1.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n\r\n",
}


def test_logs_hold_paths_and_no_secrets_whatever_is_sent(tmp_path: Path) -> None:
    command = [BIN / "aipipe", "serve"]
    answers = {}
    with running(command, tmp_path, AIPIPE_SECRET=SECRET, HOST="127.0.0.1", WEB_CONCURRENCY="1") as server:
        server.wait_ready()
        for name, request in RAW_REQUESTS.items():
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(request)
                answers[name] = client.recv(65536)
        server.end(signal.SIGTERM)

    assert server.process.returncode == 0
    assert "hidden" not in server.output.lower()
    assert "Traceback" not in server.output
    assert '"method":"GET","path":"/healthz","status":200' in server.output
    assert '"method":"GET","path":"/x%0aGET%20/fake","status":404' in server.output
    assert "Invalid request from ip=127.0.0.1: Invalid HTTP header name" in server.output
    for name in ("a bad line", "a bad header", "a long line"):
        request_id = re.search(rb"X-Request-Id: (req_\w+)", answers[name])
        assert request_id and f"{request_id[1].decode()}: Invalid request from" in server.output
    assert answers["scheme headers at odds"].startswith(b"HTTP/1.1 200")
    assert "GOOGLE_CLIENT_ID is not set" in server.output


def test_plain_gunicorn_serves_the_app_too(tmp_path: Path) -> None:
    with running(GUNICORN, tmp_path, AIPIPE_SECRET=SECRET, HOST="127.0.0.1") as server:
        server.wait_ready()
        server.end(signal.SIGTERM)

    assert server.process.returncode == 0
