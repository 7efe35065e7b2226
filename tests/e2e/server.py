"""The real server: `aipipe serve` or `aipipe dev` as a process of its own, in a folder and on a port of its own.

Nothing here waits for a fixed time: `eventually` looks until something is so, and its patience has an end.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import waiting
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from aipipe import tokens
from aipipe.ledger import Entry, Ledger, open_ledger

AIPIPE = Path(sys.executable).with_name("aipipe")
HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds, for anything that is waited for
SECRET = "the-secret-that-signs-tokens-in-tests"
DAY = 86_400


def eventually(so: Callable[[], object], what: str) -> None:
    """As `waiting.eventually`, with patience for a server on a busy machine."""
    waiting.eventually(so, what, PATIENCE)


@dataclass(frozen=True)
class Caller:
    """Someone with a token. Each has an email, and so a budget, that nobody else uses."""

    email: str
    token: str


class Server:
    """One server, which can be killed and started again. Settings are given as environment variables.

    `secrets` is what its log must never hold: tokens that were made for it are in there, keys come from the tests.
    """

    def __init__(self, folder: Path, command: str = "serve", **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.py").touch()
        self.folder, self.command = folder, command
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.secrets = {SECRET, *(value for name, value in settings.items() if name.endswith("_KEY"))}
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "HOME": str(folder),
            "HOST": HOST,
            "PORT": str(self.port),
            "AIPIPE_CONFIG": str(folder / "config.py"),
            "AIPIPE_SECRET": SECRET,
            **{name: text(value) for name, value in settings.items()},
        }
        self._log = folder / "server.log"
        self._serials = itertools.count(1)
        self.callers: list[Caller] = []  # since somebody last emptied it

    def start(self) -> None:
        """Returns when it answers. Raises AssertionError with its log when it doesn't."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [AIPIPE, self.command],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(lambda: self._answers() or self._process.poll() is not None, "the server answers")
        assert self._process.poll() is None, self.log()

    def _answers(self) -> bool:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)) as connection:
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            except OSError:
                return False

    def stop(self) -> None:
        """Ends it as Ctrl-C does. Raises AssertionError when its log holds what it mustn't."""
        self.ledger.close()
        self._end(signal.SIGINT)
        self.check_log()

    def check_log(self) -> None:
        """Raises AssertionError for secrets and tracebacks in its log."""
        log = self.log()
        found = [secret for secret in self.secrets if secret in log]
        assert not found, f"{len(found)} of the tokens and keys are in the server's log"
        assert "Traceback" not in log, log

    def kill(self) -> None:
        """kill -9 of the server with all of its workers."""
        self._end(signal.SIGKILL)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Asks it to end, as a service manager does, and sees that it has ended when the block has."""
        self._master().terminate()
        eventually(lambda: not self._answers(), "the server takes no more requests")
        yield
        self._process.wait(PATIENCE)

    def _end(self, number: int) -> None:
        everyone = [self._master(), *self.workers()]
        for one in everyone if number == signal.SIGKILL else everyone[:1]:
            one.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        finally:
            for one in everyone:
                if one.is_running():
                    one.kill()
            eventually(lambda: all(map(dead, everyone)), "all of its processes have ended")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    # Its processes

    def _master(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def workers(self) -> list[psutil.Process]:
        return self._master().children()

    def worker_of(self, connection: socket.socket) -> psutil.Process:
        """The worker at the other end of a client's connection."""
        here = connection.getsockname()
        for worker in self.workers():
            if any(each.raddr and tuple(each.raddr) == here for each in worker.net_connections("tcp4")):
                return worker
        raise AssertionError("no worker serves this connection")

    def kill_worker(self, connection: socket.socket) -> None:
        """kill -9 of the worker at the other end of a client's connection; returns when it is dead."""
        worker = self.worker_of(connection)
        worker.kill()
        eventually(lambda: dead(worker), "the worker has ended")

    # Callers and their money

    def caller(self, email: str = "alice@example.com", *, days: int = 1, age: int = 0) -> Caller:
        """Someone new at `email`'s domain, with a token of `days` that was made `age` days ago."""
        email = email.replace("@", f"+{next(self._serials)}@")
        token = tokens.issue(email, secret=SECRET, now=time.time() - age * DAY, days=days)
        self.secrets.add(token)
        self.callers.append(Caller(email, token))
        return self.callers[-1]

    def app_of(self, caller: Caller, origin: str, *, cap: int | None = None) -> Caller:
        """The caller through an app that they allowed to spend at most `cap` nanodollars."""
        jti, now = tokens.new_jti(), time.time()
        self.ledger.apps.allow(caller.email, origin, now + DAY, cap)
        assert self.ledger.apps.add_token(caller.email, origin, jti)
        token = tokens.issue(caller.email, secret=SECRET, now=now, days=1, app=origin, jti=jti)
        self.secrets.add(token)
        return Caller(caller.email, token)

    @staticmethod
    def signed_in(caller: Caller) -> str:
        """The cookie of a browser in which the caller has signed in."""
        app = Flask("aipipe")
        app.secret_key = SECRET
        signer = SecureCookieSessionInterface().get_signing_serializer(app)
        assert signer
        return f"aipipe={signer.dumps({'email': caller.email, 'since': time.time()})}"

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger's file, opened beside the server."""
        return open_ledger(self.environ.get("AIPIPE_DATABASE_URL") or f"sqlite:///{self.folder / 'aipipe.db'}")

    def entry(self, caller: Caller) -> Entry:
        """The caller's only entry, as soon as there is one."""
        eventually(lambda: self.ledger.entries(caller.email), "the request is booked")
        (found,) = self.ledger.entries(caller.email)
        return found

    def check_books(self) -> None:
        """As soon as nothing is under way any more, no money is set aside and the totals equal their entries."""
        eventually(lambda: not self.ledger.holds(), "all holds are resolved")
        assert self.ledger.balanced()


def dead(process: psutil.Process) -> bool:
    """Whether it has ended, be it that nobody has collected it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as probe:
        return int(probe.getsockname()[1])
