"""Runs AI Pipe under gunicorn: `aipipe serve` and `aipipe dev`.

Both replace this process by gunicorn rather than call it: gevent must patch the standard library before
the app is imported, so only gunicorn's workers may import the app, and its master must not have done so.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from flask import Flask
from gunicorn.errors import AppImportError

from aipipe import create_app, settings
from aipipe.errors import AppError, ConfigError
from aipipe.local_model import HOST, MODEL, LocalModel, unavailable_reason

GUNICORN_SETTINGS = Path(__file__).parent.parent / "gunicorn.conf.py"
READABLE = "%(t)s %(m)s %(U)s %(s)s %(B)s bytes %(M)s ms"  # a request in the log of `aipipe dev`
LOCAL_BASE = "AIPIPE_PROVIDERS__local__base"


def serve(*, dev: bool) -> NoReturn:
    """Become gunicorn, which serves the app until a signal ends it.

    With `dev`: on loopback only, whatever HOST says, and with the embedded model where that runs.
    Raises ConfigError, before anything starts, when a setting, PORT or WEB_CONCURRENCY can't be used.
    """
    config = settings.load(os.environ, dev=dev)
    port = whole_number("PORT", 8787)
    whole_number("WEB_CONCURRENCY", 2)
    command = gunicorn_command(dev=dev, port=port)
    model = LocalModel()
    if dev:
        check_free(port)
        print(banner(port, offer_model(model)), flush=True)
    elif not config["GOOGLE_CLIENT_ID"]:
        print("GOOGLE_CLIENT_ID is not set: nobody can sign in; tokens made already go on working.", flush=True)
    os.execv(sys.executable, command)  # noqa: S606


def application(*, dev: bool = False) -> Flask:
    """`create_app` for gunicorn's workers. Raises AppImportError where that can't be: its sentence ends the server."""
    try:
        return create_app(dev=dev)
    except (ConfigError, AppError) as error:
        raise AppImportError(f"AI Pipe can't start: {error}") from error


def gunicorn_command(*, dev: bool, port: int) -> list[str]:
    if not GUNICORN_SETTINGS.is_file():
        raise ConfigError(
            f"{GUNICORN_SETTINGS} is missing: install AI Pipe from its repository with `pip install --editable .`."
        )
    command = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_SETTINGS)]
    if dev:
        command += ["--bind", f"{HOST}:{port}", "--log-level", "warning", "--access-logformat", READABLE]
    return [*command, f"aipipe.serving:application(dev={dev})"]


def offer_model(model: LocalModel) -> str:
    """Give the app a `local` provider, unless the environment names one, and say what it is."""
    if base := os.environ.get(LOCAL_BASE):
        return f"provider local at {base}"
    if reason := unavailable_reason():
        return f"none: {reason}"
    os.environ[LOCAL_BASE] = model.start()
    return f"{MODEL} of provider local, on this machine, with no key"


def banner(port: int, model: str) -> str:
    return (
        f"AI Pipe, for development, on http://localhost:{port}\n"
        "  Sign in  with any email; nothing is checked\n"
        f"  Model    {model}\n"
        "  Stop     with Ctrl-C"
    )


def check_free(port: int) -> None:
    """Raise ConfigError when the loopback port is taken, or not for this user."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = f"Port {port} can't be used ({error.strerror})"
            raise ConfigError(f"{reason}: stop what runs there, or choose another with PORT=8788.") from None


def whole_number(name: str, default: int) -> int:
    """A number of the environment that gunicorn reads too, where a bad one would end in a traceback."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"{name} must be a whole number from 1 to 65535, not {text!r}.")
    return int(text)
