"""Who is alive on several machines: a worker keeps a lock in the database, with a connection of its own.

The database lets go of it when the connection ends, and so within seconds of the worker's death. A connection may also
be lost while its worker lives: then the worker takes the lock anew, at its next look, and has some time for that.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import psycopg

from aipipe.ledger.database import unavailable

GRACE = 30.0  # seconds without its lock until a worker of another machine is dead: two looks of its own, and more

_UNLOCKED = """
    SELECT name FROM unnest(%s::text[], %s::bigint[]) AS asked (name, key) WHERE NOT EXISTS (
        SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
        AND (classid::bigint << 32) | objid::bigint = key
    )"""


class LockWorker:
    """This process, as other workers of the same ledger see it. Make one after the fork. Raises psycopg.Error."""

    def __init__(
        self,
        connect: Callable[[Callable[[psycopg.Connection[Any]], object]], psycopg.Connection[Any]],
        key_of: Callable[[str], int],
        clock: Callable[[], float],
    ) -> None:
        self._machine = socket.gethostname()
        self.name = f"{self._machine}/{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._connect, self._key_of, self._clock = connect, key_of, clock
        self._missed: dict[str, float] = {}
        self._connection = self._locked()

    def _locked(self) -> psycopg.Connection[Any]:
        number = self._key_of(self.name)
        return self._connect(lambda connection: connection.execute("SELECT pg_advisory_lock(%s)", [number]))

    def dead(self, names: Collection[str]) -> set[str]:
        """Those without their lock: at once where they ran here and their process is gone, after a while elsewhere."""
        others = [name for name in names if name != self.name]
        try:
            unlocked = self._unlocked(others)
        except psycopg.OperationalError:
            self._return()
            unlocked = []
        now = self._clock()
        self._missed = {name: self._missed.get(name, now) for name in unlocked}
        return {name for name, since in self._missed.items() if now - since >= GRACE or self._ended_here(name)}

    def _unlocked(self, names: list[str]) -> list[str]:
        rows = self._connection.execute(_UNLOCKED, [names, list(map(self._key_of, names))]).fetchall()
        return [name for (name,) in rows]

    def _return(self) -> None:
        """Takes the lock anew after its connection was lost. Whatever took that may have taken others' too."""
        self._connection.close()
        try:
            self._connection = self._locked()
        except psycopg.Error as error:
            raise unavailable(error) from error

    def _ended_here(self, name: str) -> bool:
        machine, _, process = name.rpartition("/")
        return machine == self._machine and not runs(int(process.partition("-")[0]))

    def bury(self) -> None:
        """Nothing is left of the dead but their holds."""

    def close(self) -> None:
        self._connection.close()


def runs(process: int) -> bool:
    """Whether there is such a process on this machine, and more of it than a dead one that nobody has collected."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or a system that has no such files
        return True
