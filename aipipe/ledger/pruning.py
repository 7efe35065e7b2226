"""Old entries make room: what they came to stays in the daily sums, and the books balance as before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from aipipe.ledger.database import Database, Execute, Row
from aipipe.ledger.schema import ROLLUPS

BATCH = 200  # entries a transaction: some 10 ms in which a server that runs on the same ledger can't write
COLUMNS = ROLLUPS["spend"]


class Pruning:
    """Folds entries into the roll-ups, which have their sums already, and note how much of these has no entry now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fold(self, before: float) -> int:
        """Deletes the entries from before that moment, but for imported ones; returns how many.

        What was imported stays, so that it isn't imported again. May be stopped at any time, and run again.
        """
        younger = self._database.read("SELECT id FROM entry WHERE time >= ? ORDER BY id LIMIT 1", [before])
        end = younger[0][0] if younger else 2**63 - 1
        at, folded = 0, 0
        while rows := self._database.write(partial(fold, after=at, end=end), "pruning"):
            at, folded = rows[-1][0], folded + len(rows)
            time.sleep(0.002)  # lets a server that waits for the ledger have its turn
        return folded


def fold(execute: Execute, after: int, end: int) -> Sequence[Row]:
    """Folds the next entries by their number, between these two; returns them."""
    these = "id > ? AND id < ? AND ended <> 'imported'"
    rows = execute(
        f"SELECT id, cost, {', '.join(COLUMNS)} FROM entry WHERE {these} ORDER BY id LIMIT ?", [after, end, BATCH]
    )
    for table, keys in ROLLUPS.items():
        sums: Counter[tuple[str, ...]] = Counter()
        for _, cost, *values in rows:
            sums[tuple(values[COLUMNS.index(key)] for key in keys)] += cost
        where = " AND ".join(f"{key} = ?" for key in keys)
        for key, cost in sums.items():
            execute(f"UPDATE {table} SET pruned = pruned + ? WHERE {where}", [cost, *key])
    if rows:
        execute(f"DELETE FROM entry WHERE {these}", [after, rows[-1][0] + 1])
    return rows
