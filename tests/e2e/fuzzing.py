"""Throws malformed requests at a real server and tells what went wrong: short in the tests, long by `script/fuzz`.

`script/fuzz [MINUTES] [SEED]` throws them at every route in turn, and meanwhile has schemathesis try what
docs/openapi.json allows, or nearly allows. Both take the seed, which is printed: with it the same requests come again.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fake_provider import Step
from wire import Received as Request

from aipipe import create_app
from e2e.answers import CHAT, answer, question
from e2e.calls import ask
from e2e.conftest import Site, running
from e2e.mangling import Mangler, Route
from e2e.server import HOST, Server
from e2e.willing import Willing, stream, whole

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"
AT_ONCE = 24
SILENCE = 0.2  # seconds after which we say that there will be no more
HANG = 20.0  # seconds that no request may take, on a busy machine
MOST_READ = 2**20
GROWTH = 100 * 2**20  # bytes by which a worker may grow
KNOWN = {  # documented answers of 500 and more: status and code, or type where there is no code
    (502, "provider_error"), (503, "sign_in_unavailable"), (503, "not_configured"), (504, "provider_error"),
}  # fmt: skip
NOT_HTTP = {501, 505}  # gunicorn's own, for a coding or a version that there is not


class Agreeable(Willing):
    """Answers any path, and no path is a surprise to it."""

    def _next(self, request: Request) -> list[Step]:
        with suppress(ValueError, AttributeError, KeyError, TypeError, RecursionError):
            if request.path == CHAT:
                return stream() if request.json().get("stream") else whole(answer())
            if request.path == "/v1/embeddings":
                return whole(embeddings(len(request.json()["input"])))
        told = whole({"object": "list", "data": []})
        return told[:1] if request.method == "HEAD" else told


def embeddings(count: int) -> dict[str, Any]:
    vector = base64.b64encode(struct.pack("<2f", 1, 2)).decode()
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"data": [{"index": number, "embedding": vector} for number in range(count)], "usage": usage}


@contextmanager
def target(folder: Path) -> Iterator[Site]:
    """A server with everything set up, whose providers agree to everything, and which may fetch nothing real."""
    many = 1_000_000
    keys = {f"{name}_API_KEY": f"operators-own-key-for-{name}" for name in ("OPENROUTER", "GEMINI", "ANTHROPIC")}
    provider = Agreeable()
    base = {"base": provider.url}
    settings: dict[str, Any] = {
        "AIPIPE_PROVIDERS": dict.fromkeys(("openai", "anthropic", "geminiv1beta", "openrouter"), base),
        "AIPIPE_PROXY": {"allow": ["*.invalid"], "per_minute": many, "timeout": 5},
        "AIPIPE_BAD_TOKENS_PER_MINUTE": many,
        "AIPIPE_SIGN_INS_PER_MINUTE": many,
        "AIPIPE_BUDGET": {"*": {"limit": 1_000}},
        "ADMIN_EMAILS": "dana+1@example.com",
        "GOOGLE_CLIENT_ID": "client-id",
        **keys,
    }
    with running(folder, provider, **settings) as site:
        yield site


def routes(folder: Path) -> list[Route]:
    """Every route that the app has, pages and files too."""
    folder.mkdir()
    (folder / "config.py").touch()
    app = create_app(
        environ={"AIPIPE_SECRET": "x" * 32, "AIPIPE_CONFIG": str(folder / "config.py"), "GOOGLE_CLIENT_ID": "x"}
    )
    found = {
        (method, re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS"}
    }
    app.extensions["aipipe"].close()
    return sorted(found)


@dataclass
class Fuzzer:
    """Sends, and judges what comes back. `findings` are sentences, with the request that led to each."""

    site: Site
    seed: int
    findings: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        server = self.site.server
        self.dana, alice = server.caller("dana@example.com"), server.caller()
        self.mangler = Mangler(self.seed, [self.dana.token, alice.token, "sk-a-native-key", "x.y.z"])
        self._workers = {worker.pid: worker.memory_info().rss for worker in server.workers()}

    def throw(self, message: bytes) -> None:
        begun = time.monotonic()
        try:
            received = exchange(self.site.server, message)
        except TimeoutError:
            self._found(f"no end within {HANG:g} s", message, b"")
            return
        if time.monotonic() - begun > HANG:
            self._found("too slow", message, received)
        for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", received, re.MULTILINE):
            self.statuses[f"{status.decode()[0]}xx"] += 1
            if int(status) >= 500 and not documented(int(status), received):
                self._found(f"status {int(status)}", message, received)
        if not received:
            self.statuses["closed"] += 1
        if b"Traceback" in received or b'File "' in received:
            self._found("a traceback in the answer", message, received)
        if any(secret.encode() in received for secret in keys(self.site.server)):
            self._found("a secret in the answer", message, received)

    def check(self) -> None:
        """A good request is answered and booked, nobody died or grew, and the log is clean."""
        server, bob = self.site.server, self.site.server.caller("bob@example.com")
        received = ask(server, f"/openai{CHAT}", bob, question())
        if received.status != 200 or received.json() != answer():
            self._found("a good request is not answered", b"", received.body)
        for worker in server.workers():
            if worker.pid not in self._workers:
                self._found("a worker was replaced", b"", b"")
            elif worker.memory_info().rss > self._workers[worker.pid] + GROWTH:
                self._found("a worker has grown by 100 MB", b"", b"")
        try:
            server.check_log()
        except AssertionError as error:
            at = max(0, str(error).find("Traceback") - 500)
            self._found(str(error)[at : at + 4_000], b"", b"")

    def _found(self, sentence: str, message: bytes, received: bytes) -> None:
        self.findings.append(f"{sentence}\n  sent {message[:600]!r}\n  got  {received[:600]!r}")


def documented(status: int, received: bytes) -> bool:
    if status in NOT_HTTP or (status in (502, 504) and b"\r\nX-Proxy-URL: " in received):  # of HEAD there is no body
        return True
    for body in re.findall(rb"\r\n\r\n(\{.*\})", received):
        with suppress(ValueError, KeyError):
            error = json.loads(body)["error"]
            if (status, error["code"] or error["type"]) in KNOWN:
                return True
    return False


def keys(server: Server) -> set[str]:
    """What no answer may hold; a token may well come back to who sent it."""
    return {value for name, value in server.environ.items() if name.endswith("_KEY") or name == "AIPIPE_SECRET"}


def exchange(server: Server, message: bytes) -> bytes:
    """Sends bytes as they are and returns what comes back. Raises TimeoutError when that has no end."""
    received = b""
    with socket.create_connection((HOST, server.port), timeout=HANG) as connection, suppress(ConnectionError):
        connection.sendall(message)
        connection.settimeout(SILENCE)
        while len(received) < MOST_READ:
            try:
                piece = connection.recv(65_536)
            except TimeoutError:
                if connection.gettimeout() == HANG:
                    raise
                with suppress(OSError):  # unless it has been reset
                    connection.shutdown(socket.SHUT_WR)
                connection.settimeout(HANG)
                continue
            if not piece:
                break
            received += piece
    return received


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(2**31)
    print(f"Fuzzing for {minutes:g} minutes, with seed {seed}.", flush=True)
    with TemporaryDirectory() as name, target(Path(name) / "server") as site:
        fuzzer = Fuzzer(site, seed)
        everything = routes(Path(name) / "routes")
        described = describe(site, fuzzer.dana.token, seed, minutes * 60)
        rounds, deadline = 0, time.monotonic() + minutes * 60
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while time.monotonic() < deadline and len(fuzzer.findings) < 20:
                list(pool.map(fuzzer.throw, map(fuzzer.mangler.request, everything * 10)))
                fuzzer.check()
                rounds += 10
        output, _ = described.communicate(timeout=120)
        print(output)
        fuzzer.check()
        print("\n".join(fuzzer.findings) or "Nothing was found.", flush=True)
        site.balance()
        grown = max(worker.memory_info().rss for worker in site.server.workers()) / 2**20
        print(f"{rounds} malformed requests to each of {len(everything)} routes: {dict(fuzzer.statuses)}")
        print(f"The larger worker has {grown:.0f} MB. The books balance.")
    sys.exit(bool(fuzzer.findings or described.returncode))


def describe(site: Site, token: str, seed: int, seconds: float) -> subprocess.Popen[str]:
    """schemathesis, at work for so long. What is a good request it can't know: that is for other tests."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("schemathesis"), "run", OPENAPI, "--url", site.server.url,
            "--header", f"Authorization: Bearer {token}", "--checks", checks,
            "--seed", str(seed), "--max-time", str(round(seconds)), "--phases", "examples,coverage,fuzzing",
            "--no-color", "--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "30",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=site.server.folder,
    )  # fmt: skip


if __name__ == "__main__":
    main()
