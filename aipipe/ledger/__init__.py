"""The store of money: holds, entries and their daily roll-ups, in integer nanodollars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aipipe.errors import ConfigError
from aipipe.ledger.apps import Handed
from aipipe.ledger.database import Database
from aipipe.ledger.sqlite import SQLite
from aipipe.ledger.store import Ledger
from aipipe.ledger.types import (
    AllowedApp,
    AppToken,
    Cap,
    Day,
    Entry,
    Failure,
    Funds,
    Grant,
    Hold,
    Pace,
    Purpose,
    Settled,
    Total,
    Usages,
    Wait,
)

__all__ = [
    "AllowedApp",
    "AppToken",
    "Cap",
    "Day",
    "Entry",
    "Failure",
    "Funds",
    "Grant",
    "Handed",
    "Hold",
    "Ledger",
    "Pace",
    "Purpose",
    "Settled",
    "Total",
    "Usages",
    "Wait",
    "copying",
    "open_database",
    "open_ledger",
]


def open_ledger(url: str) -> Ledger:
    """The ledger at `url` (see `open_database`); its tables are made or upgraded when need be.

    Open it after the worker has forked: neither a connection nor a worker's name survives a fork.

    Raises:
        ConfigError: the URL names a database that AI Pipe doesn't know, or the ledger of a newer AI Pipe.
        LedgerUnavailable: the database can't be opened.
    """
    return Ledger(open_database(url))


def open_database(url: str) -> Database:
    """The database at `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user:password@host/name`.

    Raises as `open_ledger`.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return SQLite(rest[1:])
    if scheme == "postgresql" and separator:
        return _postgresql(url)
    raise ConfigError(
        "AIPIPE_DATABASE_URL must look like sqlite:////path/to/aipipe.db or postgresql://user:password@host/name,"
        f" not {url.partition(':')[0]}:…"
    )


def copying(source: str, target: str) -> Iterator[tuple[str, int]]:
    """Copies a ledger from SQLite into PostgreSQL: see `migrating.migrate`."""
    with _driver():
        from aipipe.ledger.migrating import migrate
    return migrate(source, target)


def _postgresql(url: str) -> Database:
    with _driver():
        from aipipe.ledger.postgres import Postgres
    return Postgres(url)


@contextmanager
def _driver() -> Iterator[None]:
    """A driver that few need is imported only by who does, and may be missing."""
    try:
        yield
    except ImportError:
        raise ConfigError("PostgreSQL needs a driver: `pip install -c constraints.txt -e '.[postgres]'`.") from None
