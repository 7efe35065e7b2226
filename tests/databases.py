"""PostgreSQL for tests: a database for each run, and an empty one for each test.

It is looked for at AIPIPE_TEST_POSTGRES_URL, else on this machine. Without one its tests are skipped, and fail where
CI=true.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

SERVER = os.environ.get("AIPIPE_TEST_POSTGRES_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"
PREFIX = "aipipe_test_"
OLD = 3600  # seconds: a run that left a database behind has surely ended


def connect(url: str = SERVER) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url, autocommit=True, connect_timeout=5)


@contextmanager
def database() -> Iterator[str]:
    """The URL of a new database, which is gone afterwards, whoever still uses it."""
    try:
        server = connect()
    except psycopg.OperationalError as error:
        reason = f"There is no PostgreSQL at AIPIPE_TEST_POSTGRES_URL, nor on this machine: {error}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with server:
        for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{PREFIX}%"]):
            if int(name.removeprefix(PREFIX).partition("_")[0]) < time.time() - OLD:
                drop(server, name)
        name = f"{PREFIX}{time.time():.0f}_{secrets.token_hex(4)}"
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        server.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
        try:
            yield address(name)
        finally:
            drop(server, name)


def drop(server: psycopg.Connection[Any], name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def gone(url: str) -> Iterator[None]:
    """The database of a run takes no connections, and has ended those that there were."""
    name = conninfo_to_dict(url)["dbname"]
    with connect() as server:
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))


def address(name: str) -> str:
    """The URL of another database of the same server."""
    given = conninfo_to_dict(SERVER)
    login = ":".join(str(given[part]) for part in ("user", "password") if given.get(part))
    return f"postgresql://{login}@{given['host']}:{given.get('port') or 5432}/{name}"


def empty(url: str) -> None:
    """Takes all rows out of a ledger, if there is one."""
    with connect(url) as connection:
        names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        # Not TRUNCATE, which makes new files, and takes a tenth of a second for that.
        connection.execute(sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in names))
