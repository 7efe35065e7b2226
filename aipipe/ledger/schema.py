"""The ledger's tables, in SQL that SQLite and PostgreSQL both speak but for `{key}`, the counting key."""

from __future__ import annotations

VERSION = 1

# No request's cost, and no adjustment, is allowed near the end of a 64-bit integer: a billion dollars is enough.
MOST = 10**18
# What a provider says of one request counts up to here: thousands of its lies must still add up.
MOST_OF_ONE = 10**15

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
    """
    CREATE TABLE IF NOT EXISTS spend (
        email TEXT NOT NULL,
        date TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        app TEXT NOT NULL,
        cost BIGINT NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        requests BIGINT NOT NULL,
        PRIMARY KEY (email, date, provider, model, app)
    )""",
    "CREATE INDEX IF NOT EXISTS spend_by_date ON spend (date DESC, email)",
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
)

# The columns of the service that AI Pipe is compatible with: one line a person and day, in dollars.
COST_VIEW = (
    "CREATE VIEW {if_missing} cost AS SELECT email, date, SUM(cost) / 1e9 AS cost FROM spend GROUP BY email, date"
)
