"""How gunicorn serves AI Pipe: for `aipipe serve`, `aipipe dev` and plain `gunicorn wsgi:app` alike.

What each setting means: https://gunicorn.org/reference/settings/
The app is imported by the workers alone, never by this file or the master: gevent must replace the
standard library's sockets and locks before anything uses them, and a SQLite connection must not cross a
fork. So there is no `preload_app`, and nothing here imports `aipipe`.
"""

import datetime
import errno
import functools
import http
import json
import logging
import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import orjson
from gunicorn import util
from gunicorn.errors import AppImportError, HaltServer
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.workers.ggevent import GeventWorker

host = os.environ.get("HOST") or "0.0.0.0"  # noqa: S104
port = os.environ.get("PORT") or "8787"
# Open to the network: on loopback neither a container's port nor a proxy on another machine would reach
# it, and whatever spends money asks for a token. `aipipe dev` overrides this with loopback.
bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Worker(GeventWorker):  # type: ignore[misc]
    """gevent, since streams wait for providers most of their time: one process keeps thousands open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: dict[Any, float] = {}  # connections that owe a request's head, since when
        self.ended = False

    def init_signals(self) -> None:
        """Leave Ctrl-C to the master, which tells the workers. Told twice they end in a traceback."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """A worker that takes another's place waits for a ledger that is away. To end here would end the server, and
        with it what the other workers have under way."""
        while True:
            try:
                return super().load_wsgi()  # type: ignore[no-any-return]
            except AppImportError as error:
                from aipipe.errors import LedgerUnavailable

                if self.age <= self.cfg.workers or not isinstance(error.__cause__, LedgerUnavailable):
                    raise
                self.log.error("%s This worker goes on trying.", error)
            time.sleep(2)
            self.notify()
            if not self.alive:
                sys.exit()

    def run(self) -> None:
        super().run()
        self.ended = True

    def handle_quit(self, sig: Any, frame: Any) -> None:
        """Ends a tenth of a second after it was told to, unless all is done sooner: to end once more is a traceback."""
        gevent.spawn(self.quit, sig, frame)

    def quit(self, sig: Any, frame: Any) -> None:
        try:
            super(GeventWorker, self).handle_quit(sig, frame)
        except SystemExit:
            if not self.ended:
                raise

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        gevent.getcurrent().connection = client
        super().handle(listener, client, addr)

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Around the wait for a head."""
        connection = gevent.getcurrent().connection
        self.waiting[connection] = time.monotonic()
        try:
            with super().timeout_ctx():
                yield
        finally:
            del self.waiting[connection]

    def notify(self) -> None:
        """Each second. At the end idle connections are closed, or it would wait for `keepalive`."""
        super().notify()
        if not self.alive:
            for connection, since in list(self.waiting.items()):
                if time.monotonic() - since > 1:
                    # On a second socket for the same connection: on its own, gevent would break off who waits for it.
                    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
                        same.shutdown(socket.SHUT_RD)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Who takes no more of an answer for too long is as good as gone: no reason for a traceback."""
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            raise ConnectionResetError(errno.ECONNRESET, "the client reads too slowly") from None


SENTENCES = {
    400: "AI Pipe can't read this request: it is not proper HTTP.",
    403: "AI Pipe can't read this request.",
    414: "The address of this request is longer than AI Pipe takes.",
    417: "AI Pipe can't do what this request expects.",
    431: "The headers of this request are longer, or more, than AI Pipe takes.",
    500: "AI Pipe made a mistake and logged it. Try again, or tell its operator.",
    501: "AI Pipe takes bodies with a length, or in chunks; no other transfer coding.",
}


def refusal_id() -> str:
    """The id of a request that the app never sees. Its connection ends with it, so it is the greenlet's only one."""
    greenlet = gevent.getcurrent()
    if not hasattr(greenlet, "refusal"):
        greenlet.refusal = f"req_{os.urandom(12).hex()}"
    return str(greenlet.refusal)


def write_error(sock: Any, status: int, _reason: str, _message: str) -> None:
    """Refuses what the app never sees in the app's own shape. gunicorn's message quotes what was sent."""
    kind = "server_error" if status == 500 else "invalid_request_error"
    error = {"message": SENTENCES[status], "type": kind, "code": None}
    body = json.dumps({"message": SENTENCES[status], "error": error})
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "Connection: close",
        "Access-Control-Allow-Origin: *",
        "Access-Control-Expose-Headers: X-Request-Id",
        f"X-Request-Id: {refusal_id()}",
        "X-Content-Type-Options: nosniff",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    util.write_nonblock(sock, ("\r\n".join(head) + "\r\n\r\n" + body).encode())


util.write_error = write_error


class Response(wsgi.Response):  # type: ignore[misc]
    """Sends the head together with the first piece of the body: a packet less."""

    headers_sent: bool
    head = b""  # made, and not sent yet

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self.head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def write(self, piece: bytes) -> None:
        super().write(piece)
        self.send_head()

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        head, self.head = self.head, b""
        send(self.sock, head + data)

    def send_head(self) -> None:
        """Sends it alone, where no piece of a body took it along."""
        head, self.head = self.head, b""
        if head:
            send(self.sock, head)

    def sendfile(self, respiter: Any) -> bool:
        self.send_headers()
        self.send_head()
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        self.send_headers()
        self.send_head()
        super().close()


def send(sock: Any, data: bytes) -> None:
    """As `sendall`, which takes its time to prepare for what doesn't go at once."""
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


wsgi.Response = Response
make_date = util.http_date


@functools.lru_cache(maxsize=1)
def date_of(second: int) -> str:
    return str(make_date(second))


util.http_date = lambda: date_of(int(time.time()))

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
# idle connection (5 s), so that they don't write into a closing one; no longer, since heads that drip in could fill
# a worker.
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
# One object a line, for whatever collects logs; `aipipe dev` has a readable line instead.
access_log_format = "json"

# A stream is two sockets, ours and the provider's; many systems start a process with 1,024 files.
_files = 2 * worker_connections + 500
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft < _files:
    _most = _files if _hard == resource.RLIM_INFINITY else min(_files, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _hard))


ORIGIN = re.compile(r"^[^/][^/]*//[^/]*/?")  # of the absolute form, which proxies send
QUERY = re.compile(r"[?#]|%3f|%23", re.IGNORECASE)
SITE = re.compile(r"/proxy/(?:https?:/{1,2})?+[\w.:\[\]-]+(?=/|$)", re.ASCII)
SECRET = re.compile(r"(?:eyJ|sk-|AIza)[\w.-]{12,}", re.ASCII)
ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")


def path_of(environ: Mapping[str, Any]) -> str:
    """Of a request's path, still percent-encoded, what is no secret: of a proxied URL the site alone, and no key."""
    path = QUERY.split(ORIGIN.sub("/", environ["RAW_URI"]), maxsplit=1)[0]
    if path.lstrip("/").startswith("proxy/"):
        site = SITE.match(path)
        path = f"{site[0] if site else '/proxy'}/..."
    return SECRET.sub("...", path)


class DiscreetLogger(Logger):  # type: ignore[misc]
    """Logs that can't hold a token, a code or a credential: no header and no query string gets in.

    A request is logged when all is over: only then it is known what an answer cost whose caller left.
    """

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: datetime.timedelta) -> None:
        if "aipipe.request" in environ:
            environ["aipipe.took"] = request_time
        else:  # the app never saw it
            self.log_request(resp, req, environ, request_time)

    def log_request(self, resp: Any, req: Any, environ: dict[str, Any], request_time: datetime.timedelta) -> None:
        if self.cfg.access_log_format != "json":
            super().access(resp, req, environ, request_time)
        elif self.access_log_enabled and self.access_log.isEnabledFor(logging.INFO):
            line = orjson.dumps(self.line(resp, environ, request_time)).decode()
            # As `info` does, but for a look through the stack for who called it.
            record = logging.LogRecord(self.access_log.name, logging.INFO, "", 0, line, None, None)
            self.access_log.handle(record)

    def atoms(
        self, resp: Any, _req: Any, environ: Mapping[str, Any], request_time: datetime.timedelta
    ) -> dict[str, Any]:
        """Only what a readable line names."""
        return {
            "t": self.now(),
            "m": environ["REQUEST_METHOD"],
            "U": path_of(environ),
            "s": (resp.status or "-").partition(" ")[0],
            "B": resp.sent,
            "M": round(request_time.total_seconds() * 1000),
        }

    def line(self, resp: Any, environ: Mapping[str, Any], request_time: datetime.timedelta) -> dict[str, Any]:
        """What docs/operations.md says of a line; what isn't known is left out."""
        begun = datetime.datetime.now(datetime.UTC) - request_time
        seen = environ.get("aipipe.request")  # see aipipe/observing.py
        client = environ.get("REMOTE_ADDR", "")
        known = {
            "time": f"{begun.isoformat(timespec='milliseconds')[:-6]}Z",
            "request_id": seen.id if seen else refusal_id(),
            "method": environ["REQUEST_METHOD"],
            "path": path_of(environ),
            "status": int((resp.status or "0").partition(" ")[0]),
            "bytes": resp.sent,
            "ms": round(request_time.total_seconds() * 1000),
            "first_byte_ms": seen and seen.first_byte,
            "first_token_ms": seen and seen.first_token,
            "client": client if ADDRESS.fullmatch(client) else None,
            "email": seen and seen.email,
            "provider": seen and seen.provider,
            "model": seen and seen.model and SECRET.sub("...", seen.model),
            "cost": None if not seen or seen.cost is None else seen.cost / 1e9,
            "ended": seen and seen.ended,
            "error": seen and seen.error,
            "upstream_id": seen and seen.upstream_id,
        }
        return {name: value for name, value in known.items() if value is not None}

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Of a request that can't be parsed, what is wrong with it, without quoting it."""
        if msg.startswith("Invalid request from"):
            msg = f"{refusal_id()}: " + ": ".join(msg.split(": ")[:2])
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().exception(msg, *(str(each).partition("?")[0] for each in args), **kwargs)


logger_class = DiscreetLogger


def post_request(worker: Any, req: Any, environ: dict[str, Any], resp: Any) -> None:
    """The answer is closed, so its cost is known."""
    if took := environ.get("aipipe.took"):
        worker.log.log_request(resp, req, environ, took)


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
