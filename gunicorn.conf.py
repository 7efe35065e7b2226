"""How gunicorn serves AI Pipe: for `aipipe serve`, `aipipe dev` and plain `gunicorn wsgi:app` alike.

What each setting means: https://gunicorn.org/reference/settings/
The app is imported by the workers alone, never by this file or the master: gevent must replace the
standard library's sockets and locks before anything uses them, and a SQLite connection must not cross a
fork. So there is no `preload_app`, and nothing here imports `aipipe`.
"""

import datetime
import os
import resource
import signal
from collections.abc import Mapping
from typing import Any

from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

host = os.environ.get("HOST") or "0.0.0.0"  # noqa: S104
port = os.environ.get("PORT") or "8787"
# Open to the network: on loopback neither a container's port nor a proxy on another machine would reach
# it, and whatever spends money asks for a token. `aipipe dev` overrides this with loopback.
bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Worker(GeventWorker):  # type: ignore[misc]
    """gevent, since streams wait for providers most of their time: one process keeps thousands open."""

    def init_signals(self) -> None:
        """Leave Ctrl-C to the master, which tells the workers. Told twice they end in a traceback."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)


worker_class = Worker
# Two, so that the service goes on while one is replaced or computes something big. SQLite admits one
# writer at a time: more workers than cores only wait for each other.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
# A big similarity on one thread of a worker: with more, they spin while they wait for each other, which costs
# half as much again. An operator's own value stands.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Twice the thousand streams that one worker is meant to carry; at some 40 KB each, 80 MB at most.
worker_connections = 2000

# A worker whose event loop says nothing for so long is stuck, and is replaced. It says something every
# second, however long its requests take: the longest computing (a big similarity) takes a few seconds.
timeout = 30
# On a restart, open answers have this long to end: most do within a minute, and service managers kill
# after 90 s. What is cut off then is charged for what it had sent.
graceful_timeout = 60
# How long the next request's head may take, on a connection's first request too: longer than SDKs keep an
# idle connection (5 s), so that they don't write into a closing one; no longer, since idle ones delay a
# restart by as much, and heads that drip in could fill a worker.
keepalive = 10

# gunicorn's own maximum: /login?redirect= and /proxy/ carry whole URLs.
limit_request_line = 8190
# A browser's SDK behind two proxies sends about forty.
limit_request_fields = 64
# A token is at most 4 KB. Heads are kept in memory while they are read: half a megabyte at most.
limit_request_field_size = 8190

# Who may say `X-Forwarded-*` is decided in one place, the setting TRUSTED_PROXIES. By default gunicorn
# would believe any neighbour on loopback, and let it rewrite the path.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# Nothing here is managed through `gunicornc`, so there is no socket for it in the home folder.
control_socket_disable = True

accesslog = "-"
access_log_format = "%(t)s %(m)s %(U)s %(s)s %(B)s bytes %(M)s ms"

# A stream is two sockets, ours and the provider's; many systems start a process with 1,024 files.
_files = 2 * worker_connections + 500
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft < _files:
    _most = _files if _hard == resource.RLIM_INFINITY else min(_files, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))


class DiscreetLogger(Logger):  # type: ignore[misc]
    """Logs that can't hold a token, a code or a credential: no header and no query string gets in."""

    def atoms(
        self, resp: Any, _req: Any, environ: Mapping[str, Any], request_time: datetime.timedelta
    ) -> dict[str, Any]:
        """Only what `access_log_format` names; the path still percent-encoded, so it stays one line."""
        return {
            "t": self.now(),
            "m": environ["REQUEST_METHOD"],
            "U": environ["RAW_URI"].partition("?")[0],
            "s": (resp.status or "-").partition(" ")[0],
            "B": resp.sent,
            "M": round(request_time.total_seconds() * 1000),
        }

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Of a request that can't be parsed, what is wrong with it, without quoting it."""
        if msg.startswith("Invalid request from"):
            msg = ": ".join(msg.split(": ")[:2])
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().exception(msg, *(str(each).partition("?")[0] for each in args), **kwargs)


logger_class = DiscreetLogger


def on_starting(server: Any) -> None:
    """Of several workers that can't start, one is reason enough to end. gunicorn notices the others while it ends,
    and would break that off with a traceback."""
    reap = server.reap_workers

    def reap_workers() -> None:
        try:
            reap()
        except HaltServer:
            if server.LISTENERS:  # `stop` begins by letting go of them
                raise

    server.reap_workers = reap_workers


def when_ready(server: Any) -> None:
    """A terminal that is closed takes its server along; elsewhere SIGHUP keeps reloading, as documented."""
    if os.isatty(0):
        signal.signal(signal.SIGHUP, lambda _number, frame: server.signal(signal.SIGINT, frame))
