"""The ledger: holds are made, resolved and swept here, and entries appended.

Every public method is one transaction. Nothing here knows HTTP, prices or providers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from aipipe.errors import LedgerUnavailable
from aipipe.ledger import entries
from aipipe.ledger.apps import Apps
from aipipe.ledger.books import HOLD, PURPOSE, Books, day_of, hold_of, spent_since
from aipipe.ledger.database import Database, Execute
from aipipe.ledger.entries import append, bounded
from aipipe.ledger.failures import Failures
from aipipe.ledger.pruning import Pruning
from aipipe.ledger.schema import MOST_OF_ONE
from aipipe.ledger.types import Day, Ended, Entry, Funds, Grant, Hold, Purpose, Settled, Usages, Wait
from aipipe.ledger.visits import Visits

Decide = Callable[[Funds], Grant | Wait]


class Ledger(Books):
    """Holds, entries and roll-ups of one database. Safe to share between the greenlets and threads of one process.

    Making one raises LedgerUnavailable when it can't be among the ledger's workers.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(database)
        self._clock = clock
        self._doubtful: set[tuple[str, float]] = set()  # whose admission may have been kept, and when that was tried
        self.visits = Visits(database, clock)
        self.failures = Failures(database, clock)
        self.pruning = Pruning(database)
        self.apps = Apps(database, clock)
        self.booked: Callable[[Entry], None] = lambda _entry: None  # told what every request here was charged
        try:
            self._worker = database.worker(clock)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        self._worker.close()
        self._database.close()

    # Holds

    def admit(
        self,
        purpose: Purpose,
        decide: Decide,
        *,
        limit: int,
        since: date,
        expires: float,
        ticket: int = 0,
    ) -> Hold | Wait:
        """Asks `decide` what the person's funds allow, and carries it out in the same transaction.

        A `Grant` becomes a hold: from here on the provider may bill, and if this worker dies, the hold's estimate is
        charged. A `Wait` becomes a place in line, named by its `ticket`: pass that to the
        next try, and to `release` when giving up. Whatever `decide` raises leaves the ledger as it was. After
        LedgerUnavailable nothing may be sent, and what was held all the same is given back.
        """
        tries: list[tuple[str, float]] = []

        def work(execute: Execute) -> Hold | Wait:
            now = self._clock()
            tries.append((purpose.email, now))
            decision = decide(self._funds(execute, purpose, limit, since, ticket))
            if isinstance(decision, Wait):
                place = ticket or self._insert_hold(execute, purpose, "waiting", Grant(0, 0, Usages()), now, expires)
                return Wait(place)
            if ticket:
                execute("DELETE FROM hold WHERE id = ?", [ticket])
            number = self._insert_hold(execute, purpose, "sent", decision, now, expires)
            return Hold(number, purpose, decision, now)

        try:
            return self._database.write(work, purpose.email)
        except LedgerUnavailable:
            self._doubtful.update(tries)
            raise

    def is_next(self, email: str, ticket: int) -> bool:
        """Whether nobody waits before `ticket`: a cheap look before the next `admit`."""
        rows = self._database.read(
            "SELECT COUNT(*) FROM hold WHERE email = ? AND state = 'waiting' AND id < ?", [email, ticket]
        )
        return bool(rows[0][0] == 0)

    def _funds(self, execute: Execute, purpose: Purpose, limit: int, since: date, ticket: int) -> Funds:
        email = purpose.email
        spent, oldest = spent_since(execute, email, since)
        held, ahead = execute(
            "SELECT COALESCE(SUM(amount), 0),"
            " COALESCE(SUM(CASE WHEN state = 'waiting' AND (? = 0 OR id < ?) THEN 1 ELSE 0 END), 0)"
            " FROM hold WHERE email = ?",
            [ticket, ticket, email],
        )[0]
        cap = self.apps.cap(execute, purpose) if purpose.app else None
        return Funds(limit, spent, int(held), int(ahead), oldest, cap)

    def _insert_hold(
        self, execute: Execute, purpose: Purpose, state: str, grant: Grant, now: float, expires: float
    ) -> int:
        rows = execute(
            f"INSERT INTO hold (state, {PURPOSE}, amount, estimate, input_tokens, output_tokens, worker,"
            " created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            [
                state,
                *_purpose_values(purpose),
                bounded(grant.amount),
                bounded(grant.estimate),
                grant.usages.input_tokens,
                grant.usages.output_tokens,
                self._worker.name,
                now,
                expires,
            ],
        )
        return int(rows[0][0])

    def release(self, number: int) -> bool:
        """Gives a hold, or a place in line, back without an entry. False when it was resolved before."""
        rows = self._database.write(lambda execute: execute("DELETE FROM hold WHERE id = ? RETURNING id", [number]))
        return bool(rows)

    def settle(
        self,
        hold: Hold,
        *,
        cost: int,
        usages: Usages,
        status: int,
        ended: Ended,
        answer_id: str = "",
        first_token: int | None = None,
        since: date | None = None,
    ) -> Settled | None:
        """Turns a hold into an entry. None when the hold was resolved before: then nothing is booked.

        The entry bears the date of its admission: the money leaves the budget that it was taken from.
        """

        charged = max(0, min(MOST_OF_ONE, cost))
        entry = self._entry(hold, charged, usages, status, ended, answer_id, first_token)

        def work(execute: Execute) -> Settled | None:
            if not execute("DELETE FROM hold WHERE id = ? RETURNING id", [hold.id]):
                return None
            append(execute, entry)
            cap_left = self.apps.charge(execute, hold, charged)
            first = since or date.fromisoformat(day_of(hold.created))
            return Settled(charged, spent_since(execute, hold.purpose.email, first)[0], cap_left)

        settled = self._database.write(work, hold.purpose.email)
        if settled:
            self.booked(entry)
        return settled

    def _entry(
        self,
        hold: Hold,
        cost: int,
        usages: Usages,
        status: int,
        ended: Ended,
        answer_id: str = "",
        first_token: int | None = None,
    ) -> Entry:
        now, purpose = self._clock(), hold.purpose
        return Entry(
            time=now,
            date=day_of(hold.created),
            email=purpose.email,
            app=purpose.app,
            provider=purpose.provider,
            model=purpose.model,
            endpoint=purpose.endpoint,
            input_tokens=max(0, min(MOST_OF_ONE, usages.input_tokens)),
            output_tokens=max(0, min(MOST_OF_ONE, usages.output_tokens)),
            cached_tokens=max(0, min(MOST_OF_ONE, usages.cached_tokens)),
            cost=cost,
            status=status,
            ended=ended,
            answer_id=answer_id[:200],
            duration=min(2**31 - 1, max(0, round((now - hold.created) * 1000))),
            first_token=first_token,
        )

    def sweep(self) -> int:
        """Resolves the holds of dead workers and those that have expired; returns how many.

        A place in line is released. What was sent is charged its estimate and marked `partial`. What this worker holds
        without knowing it, since its admission was told to be unavailable, was never sent.
        """
        for one in list(self._doubtful):
            self._give_back(*one)
            self._doubtful.discard(one)
        rows = self._database.read("SELECT id, email, worker, expires FROM hold")
        dead = self._worker.dead({worker for *_, worker, _ in rows})
        now = self._clock()
        lost = [(number, email) for number, email, worker, expires in rows if worker in dead or expires < now]
        swept = [self._resolve(*one) for one in lost]
        self._worker.bury()
        return sum(swept)

    def _give_back(self, email: str, created: float) -> None:
        def work(execute: Execute) -> None:
            values = [self._worker.name, email, created]
            execute("DELETE FROM hold WHERE worker = ? AND email = ? AND created = ?", values)

        self._database.write(work, email)

    def _resolve(self, number: int, email: str) -> bool:
        def work(execute: Execute) -> tuple[bool, Entry | None]:
            rows = execute(f"DELETE FROM hold WHERE id = ? RETURNING state, {HOLD}", [number])
            if not rows or rows[0][0] != "sent":
                return bool(rows), None
            hold = hold_of(rows[0][1:])
            cost, usages = hold.grant.estimate, hold.grant.usages
            entry = self._entry(hold, cost, usages, status=0, ended="partial")
            append(execute, entry)
            self.apps.charge(execute, hold, cost)
            return True, entry

        resolved, entry = self._database.write(work, email)
        if entry:
            self.booked(entry)
        return resolved

    # What no request brings about

    def adjust(self, email: str, day: date, cost: int) -> int:
        """Appends the entry that makes the day's total `cost`; returns its amount, of either sign."""
        total = Day(email, day.isoformat(), cost)
        return self._database.write(lambda execute: entries.adjust(execute, total, self._clock()), email)

    def top_up(self, days: Sequence[Day]) -> list[int]:
        """Appends what the imported entries of each person and day lack of its cost; returns these amounts.

        What was spent here doesn't count, and nothing is ever taken back. A day without imported entries gets one,
        even of 0. All in one transaction.
        """
        people = {day.email for day in days}
        return self._database.write(lambda execute: entries.top_up(execute, days, self._clock()), *people)

    def use_once(self, nonce: str, expires: float) -> bool:
        """Whether nobody, on any worker, used this nonce before. It is remembered until it `expires`."""

        def work(execute: Execute) -> bool:
            execute("DELETE FROM used_nonce WHERE expires < ?", [self._clock()])
            values = [nonce, expires]
            sql = "INSERT INTO used_nonce (nonce, expires) VALUES (?, ?) ON CONFLICT (nonce) DO NOTHING RETURNING nonce"
            return bool(execute(sql, values))

        return self._database.write(work)

    def reset_tokens(self, email: str) -> float:
        """Makes every token of `email` issued before now void, those of apps too; returns that moment."""
        now = self._clock()

        def work(execute: Execute) -> None:
            execute(
                "INSERT INTO account (email, void_before) VALUES (?, ?)"
                " ON CONFLICT (email) DO UPDATE SET void_before = excluded.void_before",
                [email, now],
            )
            self.apps.end_all(execute, email)

        self._database.write(work, email)
        return now


def _purpose_values(purpose: Purpose) -> list[Any]:
    return [purpose.email, purpose.app, purpose.provider, purpose.model, purpose.endpoint]
