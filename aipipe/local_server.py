"""The processes behind the embedded model: a supervisor, and the server it keeps alive.

Run as a script by `local_model.py`, never imported by the app: it imports nothing of the package, so
that neither process loads the whole application.

    python -P local_server.py supervise PORT MODEL_FILE PARENT_PID
    python -P local_server.py serve     PORT MODEL_FILE PARENT_PID

Both end when their parent does, however it ended. They ask for their parent's pid a few times a
second: a process whose parent died is handed to another one, on every POSIX system, after kill -9 too.
A pipe would tell sooner, but gunicorn's workers are forks of the parent, inherit its end, and one that
hangs would keep the model alive.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

TICK = 0.2
QUICK_DEATH = 10.0
QUICK_DEATHS = 4
SLOTS = 4
SLOT_TOKENS = 4096


def supervise(port: int, model_file: str, parent: int) -> None:
    """Keep a server running on `port` until `parent` ends, or until it has died too often in a row."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    deaths = 0
    while parent_lives(parent) and deaths < QUICK_DEATHS:
        started = time.monotonic()
        run_server(port, model_file, parent)
        deaths = deaths + 1 if time.monotonic() - started < QUICK_DEATH else 1
        wait_while(lambda: parent_lives(parent), until=time.monotonic() + back_off(deaths))
    if parent_lives(parent):
        sys.exit(
            f"The local model stopped {deaths} times in a row and is given up: calls to it fail until "
            "`aipipe dev` is started again."
        )


def run_server(port: int, model_file: str, parent: int) -> None:
    """One life of the server: returns when it has ended, by itself or because the parent did."""
    arguments = ["serve", str(port), model_file, str(os.getpid())]
    server = subprocess.Popen([sys.executable, "-P", __file__, *arguments])  # noqa: S603
    try:
        wait_while(lambda: server.poll() is None and parent_lives(parent))
    finally:
        server.kill()
        server.wait()


def serve(port: int, model_file: str, parent: int) -> None:
    """Answer OpenAI's and Anthropic's API on 127.0.0.1:`port` until `parent` ends."""
    try:
        server = start(port, model_file)  # noqa: F841  it answers from threads of its own while it is held
    except (ImportError, RuntimeError) as error:
        sys.exit(f"The local model does not start: {error}")
    wait_while(lambda: parent_lives(parent))
    os._exit(0)  # at once: there is nothing to save, and an answer being written has no reader


def start(port: int, model_file: str) -> object:
    """The running server. Raises RuntimeError when it can't load the model or listen on `port`."""
    import xllamacpp  # here, since the supervisor needs none of its hundred megabytes

    params = xllamacpp.CommonParams()
    params.model.path = model_file
    params.model_alias = {"smollm2-135m"}
    params.hostnames, params.port = ["127.0.0.1"], port
    # Four calls at once, as a page with a few panels makes; more wait in line. The context is shared out.
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * SLOT_TOKENS
    params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    for cpu in (params.cpuparams, params.cpuparams_batch):
        # One core is left to the gateway, and beyond four a model this small gets no faster. Threads don't
        # spin between steps: that too would take the gateway's time.
        cpu.n_threads, cpu.poll = max(1, min(4, (os.cpu_count() or 2) - 1)), 0
    params.cache_ram_mib = 0  # else up to 8 GB of old prompts are kept beside those in the slots
    params.verbosity = 1  # errors only
    # The API alone: no chat page, no look into other people's prompts, nothing for other origins.
    params.ui = params.endpoint_slots = False
    params.cors_origins = ""
    return xllamacpp.Server(params)


def parent_lives(pid: int) -> bool:
    return os.getppid() == pid


def back_off(deaths: int) -> float:
    """Seconds to wait before the next start: none after a first death, then 0.5, 1."""
    return 0.0 if deaths <= 1 else 2.0 ** (deaths - 3)


def wait_while(condition: Callable[[], bool], *, until: float = float("inf")) -> None:
    """Return when `condition` fails or the monotonic clock reaches `until`, within a tick."""
    while condition() and time.monotonic() < until:
        time.sleep(TICK)


if __name__ == "__main__":
    role, port_, model_file_, parent_ = sys.argv[1:]
    {"supervise": supervise, "serve": serve}[role](int(port_), model_file_, int(parent_))
