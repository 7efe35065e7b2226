"""The ledger's tables, in SQL that SQLite and PostgreSQL both speak but for `{key}`, the counting key, and
`{clustered}`, a table that is kept in the order of its primary key.

`SCHEMA` is what a new ledger gets, and how all of them are in the end. A ledger that is there already gets what it
lacks of it by itself; whatever else is to become of its tables is an upgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aipipe.errors import ConfigError
from aipipe.ledger.database import Execute

# No request's cost, and no adjustment, is allowed near the end of a 64-bit integer: a billion dollars is enough.
MOST = 10**18
# What a provider says of one request counts up to here: thousands of its lies must still add up.
MOST_OF_ONE = 10**15

SUMS = ("cost", "input_tokens", "output_tokens", "cached_tokens", "requests")
# Sums of the entries by these columns, the table with the fewest rows first.
ROLLUPS = {
    "spend_by_model": ("date", "provider", "model", "app"),
    "spend_by_person": ("email", "date"),
    "spend": ("email", "date", "provider", "model", "app"),
}

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)",
    f"""
    CREATE TABLE IF NOT EXISTS entry (
        id {{key}},
        time DOUBLE PRECISION NOT NULL,
        date TEXT NOT NULL,
        email TEXT NOT NULL,
        app TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost BIGINT NOT NULL CHECK (cost BETWEEN -{MOST} AND {MOST}),
        status INTEGER NOT NULL,
        ended TEXT NOT NULL CHECK (ended IN ('complete', 'partial', 'adjusted', 'imported')),
        answer_id TEXT NOT NULL,
        duration INTEGER NOT NULL,
        first_token INTEGER,
        CHECK (cost >= 0 OR ended = 'adjusted')
    )""",
    "CREATE INDEX IF NOT EXISTS entry_by_person ON entry (email, time)",
    "CREATE INDEX IF NOT EXISTS entry_by_answer ON entry (answer_id) WHERE answer_id <> ''",
    "CREATE INDEX IF NOT EXISTS entry_imported ON entry (email, date) WHERE ended = 'imported'",
    *(
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(f'{key} TEXT NOT NULL' for key in keys)},"
        f" {', '.join(f'{column} BIGINT NOT NULL' for column in SUMS)},"
        f" pruned BIGINT NOT NULL DEFAULT 0, PRIMARY KEY ({', '.join(keys)})) {{clustered}}"
        for table, keys in ROLLUPS.items()
    ),
    # All that is asked of many people's days, so that they are read in one go.
    "CREATE INDEX IF NOT EXISTS spend_by_person_by_date ON spend_by_person"
    " (date DESC, email, cost, requests, input_tokens, output_tokens)",
    """
    CREATE TABLE IF NOT EXISTS hold (
        id {key},
        state TEXT NOT NULL CHECK (state IN ('waiting', 'sent')),
        email TEXT NOT NULL,
        app TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        amount BIGINT NOT NULL CHECK (amount >= 0),
        estimate BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        worker TEXT NOT NULL,
        created DOUBLE PRECISION NOT NULL,
        expires DOUBLE PRECISION NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS hold_by_person ON hold (email, state)",
    "CREATE TABLE IF NOT EXISTS account (email TEXT PRIMARY KEY, void_before DOUBLE PRECISION NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS provider_error (
        provider TEXT PRIMARY KEY,
        time DOUBLE PRECISION NOT NULL,
        status INTEGER NOT NULL,
        message TEXT NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS visit (id {key}, name TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS visit_by_name ON visit (name, expires)",
    "CREATE INDEX IF NOT EXISTS visit_by_expiry ON visit (expires)",
    "CREATE TABLE IF NOT EXISTS used_nonce (nonce TEXT PRIMARY KEY, expires DOUBLE PRECISION NOT NULL)",
    f"""
    CREATE TABLE IF NOT EXISTS allowed_app (
        email TEXT NOT NULL,
        app TEXT NOT NULL,
        cap BIGINT CHECK (cap BETWEEN 0 AND {MOST}),
        spent BIGINT NOT NULL,
        allowed DOUBLE PRECISION NOT NULL,
        expires DOUBLE PRECISION NOT NULL,
        last_used DOUBLE PRECISION,
        revoked INTEGER NOT NULL,
        PRIMARY KEY (email, app)
    )""",
    """
    CREATE TABLE IF NOT EXISTS app_token (
        jti TEXT PRIMARY KEY,
        email TEXT NOT NULL,
        app TEXT NOT NULL,
        issued DOUBLE PRECISION NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS app_token_by_app ON app_token (email, app, issued)",
    """
    CREATE TABLE IF NOT EXISTS app_code (
        hash TEXT PRIMARY KEY,
        email TEXT NOT NULL,
        app TEXT NOT NULL,
        challenge TEXT NOT NULL,
        expires DOUBLE PRECISION NOT NULL,
        jti TEXT NOT NULL
    )""",
    # The columns of the service that AI Pipe is compatible with: one line a person and day, in dollars.
    "CREATE VIEW cost AS SELECT email, date, CAST(cost AS DOUBLE PRECISION) / 1e9 AS cost FROM spend_by_person",
)

# The statements that turn a ledger of version 1 into one of version 2, and so on.
UPGRADES: tuple[tuple[str, ...], ...] = ()

_CREATED = re.compile(r"\s*CREATE (?:UNIQUE )?(?:TABLE|INDEX|VIEW) (?:IF NOT EXISTS )?(\w+)")


def newest() -> int:
    """The version of the tables that this AI Pipe knows."""
    return 1 + len(UPGRADES)


def prepare(execute: Execute, names: str, dialect: Mapping[str, str]) -> None:
    """Makes what the ledger lacks, and upgrades an older one, in a transaction that no other is beside.

    `names` is the query for what is there. `dialect` is what the database calls some words of ours.

    Raises ConfigError for the ledger of an AI Pipe that is newer than this one.
    """

    def carry_out(statement: str) -> None:
        for ours, theirs in dialect.items():
            statement = statement.replace(ours, theirs)
        execute(statement)

    there = {name for (name,) in execute(names)}
    rows = execute("SELECT version FROM schema_version") if "schema_version" in there else []
    version = int(rows[0][0]) if rows else newest()
    if version > newest():
        raise ConfigError(
            f"The ledger was written by a newer AI Pipe: its tables have version {version}, and this one knows"
            f" {newest()}. Upgrade AI Pipe, or give it another ledger with AIPIPE_DATABASE_URL."
        )
    for upgrade in UPGRADES[version - 1 :]:
        for statement in upgrade:
            carry_out(statement)
    there = {name for (name,) in execute(names)}
    for statement in SCHEMA:
        if made(statement) not in there:
            carry_out(statement)
    if not rows:
        execute("INSERT INTO schema_version VALUES (?)", [newest()])
    elif version < newest():
        execute("UPDATE schema_version SET version = ?", [newest()])


def made(statement: str) -> str:
    """The name of what a statement of `SCHEMA` makes."""
    found = _CREATED.match(statement)
    assert found, statement  # noqa: S101
    return found[1]
