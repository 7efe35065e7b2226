"""A ledger in SQLite is copied into PostgreSQL: whole, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

import apsw
import psycopg
from psycopg import sql

from aipipe.errors import ConfigError, InvalidRequest
from aipipe.ledger.database import unavailable
from aipipe.ledger.postgres import Connection, Postgres, cleaned
from aipipe.ledger.schema import SCHEMA
from aipipe.ledger.sqlite import SQLite

UNBOUNDED = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"


def migrate(source: str, target: str) -> Iterator[tuple[str, int]]:
    """Copies the ledger at one URL to another, and tells of each table how many rows it has.

    While it runs, nobody can write to either. It is one transaction over there: if it is broken off, nothing was done.

    Raises:
        ConfigError: these are no ledgers, or the other way round.
        InvalidRequest: somebody writes to the source, the target isn't empty, or the totals differ afterwards.
        LedgerUnavailable: one of them can't be opened.
    """
    if not source.startswith("sqlite:///") or not target.startswith("postgresql://"):
        raise ConfigError(
            "A ledger is copied from sqlite:///... (AIPIPE_DATABASE_URL) to postgresql://... (the argument)."
        )
    path = source.removeprefix("sqlite:///")
    SQLite(path).close()  # upgraded, so that both have the same tables
    try:
        with closing(Postgres(target)) as made, locked(path) as here, made.connect() as there, there.transaction():
            there.execute(UNBOUNDED, prepare=False)
            there.execute(sql.SQL("LOCK TABLE {}").format(sql.SQL(", ").join(map(sql.Identifier, tables()))))
            check_empty(there)
            for table in tables():
                yield table, copy(here, there, table)
    except psycopg.Error as error:
        raise unavailable(error) from error


def tables() -> list[str]:
    """All tables of a ledger but the one that tells its version."""
    found = [re.match(r"\s*CREATE TABLE IF NOT EXISTS (\w+)", statement) for statement in SCHEMA]
    return [name[1] for name in found if name and name[1] != "schema_version"]


@contextmanager
def locked(path: str) -> Iterator[apsw.Connection]:
    """The ledger in a file, which nobody else can write to meanwhile."""
    with closing(apsw.Connection(path)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            raise InvalidRequest("Somebody is writing to the ledger: stop AI Pipe first.") from None
        yield connection
        connection.execute("ROLLBACK")


def check_empty(there: Connection) -> None:
    for table in tables():
        if there.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))).fetchone():
            raise InvalidRequest(f"The ledger over there is in use: its table {table} has rows. Nothing was copied.")


def copy(here: apsw.Connection, there: Connection, table: str) -> int:
    """Copies a table, goes on counting where it ended, and compares; returns how many rows it has."""
    columns = {name: kind for _, name, kind, *_ in here.execute(f"SELECT * FROM pragma_table_info('{table}')")}
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with there.cursor() as cursor, cursor.copy(into) as writing:
        for row in here.execute(f"SELECT {', '.join(columns)} FROM {table}"):
            writing.write_row(cleaned(row))
    if "id" in columns:
        there.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), MAX(id)) FROM {}").format(
                table, sql.Identifier(table)
            )
        )
    numbers = [name for name, kind in columns.items() if kind in ("INTEGER", "BIGINT")]
    question = f"SELECT {', '.join(['COUNT(*)', *(f'COALESCE(SUM({name}), 0)' for name in numbers)])} FROM {table}"
    before, after = (list(map(int, rows)) for rows in (*here.execute(question), *there.execute(question)))
    if before != after:
        raise InvalidRequest(
            f"The table {table} has other totals over there: {after}, not {before}. Nothing was copied."
        )
    return before[0]
