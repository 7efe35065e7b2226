"""The store of money: holds, entries and their daily roll-ups, in integer nanodollars."""

from __future__ import annotations

from aipipe.errors import ConfigError
from aipipe.ledger.sqlite import SQLite
from aipipe.ledger.store import Ledger
from aipipe.ledger.types import Day, Entry, Failure, Funds, Grant, Hold, Pace, Purpose, Settled, Total, Usages, Wait

__all__ = [
    "Day",
    "Entry",
    "Failure",
    "Funds",
    "Grant",
    "Hold",
    "Ledger",
    "Pace",
    "Purpose",
    "Settled",
    "Total",
    "Usages",
    "Wait",
    "open_ledger",
]


def open_ledger(url: str) -> Ledger:
    """The ledger at `url` (`sqlite:///relative.db`, `sqlite:////absolute.db`); its tables are made when missing.

    Open it after the worker has forked: neither a connection nor a worker's name survives a fork.

    Raises:
        ConfigError: the URL names a database that AI Pipe doesn't know.
        LedgerUnavailable: the database can't be opened.
    """
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise ConfigError(
            f"AIPIPE_DATABASE_URL must look like sqlite:////path/to/aipipe.db, not {url.partition(':')[0]}:…"
        )
    return Ledger(SQLite(path))
