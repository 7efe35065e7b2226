"""Run by `test_ledger_postgres.py`, patched as gunicorn's workers are: tells whether others run while a query waits."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from contextlib import closing  # noqa: E402

import gevent  # noqa: E402
import psycopg  # noqa: E402

from aipipe.ledger import open_database  # noqa: E402

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [os.dup(0) for _ in range(1100)]  # as with a thousand streams; select() knows no more than 1,024

with closing(open_database(sys.argv[1])) as database, psycopg.connect(sys.argv[1], autocommit=True) as other:
    other.execute("SELECT pg_advisory_lock(1)")
    unlocks = gevent.spawn(other.execute, "SELECT pg_advisory_unlock(1)")
    # Were the whole process to wait here, nobody would unlock it, and the database would end the query.
    database.read("SELECT 1 FROM pg_advisory_lock(1)")
    unlocks.get()
    print("others ran")
