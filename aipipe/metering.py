"""The only place where money moves: a request is admitted with a hold, and its hold is resolved exactly once."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TypeVar

from aipipe.admission import BYTES_PER_TOKEN, LONGEST_LINE, TYPICAL_ANSWER, needed, share
from aipipe.budgets import Budget, more_is_free, window_start
from aipipe.errors import AppError, BudgetExceeded, LedgerUnavailable, RateLimited
from aipipe.formats import Reading
from aipipe.ledger import Funds, Grant, Hold, Ledger, Purpose, Settled, Usages, Wait
from aipipe.ledger.types import Ended
from aipipe.money import told
from aipipe.observing import Observer, Sight, present
from aipipe.providers import Call
from aipipe.tokens import Identity
from aipipe.usage_parsing import Usage

RETRY_AFTER = 2
LOOK_AGAIN = 0.05  # seconds between two looks at the line
SWEEP_EVERY = 15.0  # seconds: a dead worker's holds come back well within a minute

T = TypeVar("T")
log = logging.getLogger(__name__)


class ClientGone(AppError):
    """The caller left while waiting in line; nobody reads this."""

    status = 499


@dataclass(frozen=True, slots=True)
class Bill:
    """What a request cost and what is left of its owner's budget, in nanodollars, as its entry says it."""

    cost: int
    remaining: int
    usages: Usages
    ended: Ended


class Metering:
    """Admission for one process. `patience` is how long, in seconds, a request waits for money that others hold."""

    def __init__(
        self, ledger: Ledger, *, patience: float, request_limit: float, observers: Sequence[Observer] = ()
    ) -> None:
        self.ledger, self._observers = ledger, observers
        self._patience = patience
        self._request_limit = request_limit
        self._keeper = Keeper(ledger)

    def sweep(self) -> None:
        """Resolves what dead workers held: at once or, where the ledger is locked or its disk full, when it can."""
        self._keeper.carry_out(self.ledger.sweep)

    def close(self) -> None:
        self._keeper.stop()

    def admit(self, identity: Identity, budget: Budget, call: Call, gone: Callable[[], bool]) -> Charge:
        """Sets the money for a request aside, waiting in line where that helps. `gone` tells that the caller left.

        Raises:
            BudgetExceeded: the budget can't pay for the request, even with nothing else under way.
            RateLimited: other requests hold the money.
        """
        self._keeper.start()
        purpose = Purpose(identity.email, identity.app or "", call.provider.name, call.model, call.endpoint.name)
        today = datetime.now(UTC).date()
        since = window_start(today, budget.days)
        patience = time.monotonic() + self._patience
        ticket = 0
        try:
            while True:
                if not ticket or self.ledger.is_next(identity.email, ticket):
                    outcome = self.ledger.admit(
                        purpose,
                        lambda funds: decide(call, budget, funds),
                        limit=budget.limit,
                        since=since,
                        expires=time.time() + self._request_limit + self._patience + 60,
                        ticket=ticket,
                    )
                    if isinstance(outcome, Hold):
                        ticket = 0
                        return Charge(self.ledger, self._keeper, call, outcome, budget, since, self._observers)
                    ticket = outcome.ticket
                if gone():
                    raise ClientGone("The client left.")
                if time.monotonic() > patience:
                    raise busy()
                time.sleep(LOOK_AGAIN)
        finally:
            if ticket:
                self._keeper.carry_out(lambda: self.ledger.release(ticket))


def decide(call: Call, budget: Budget, funds: Funds) -> Grant | Wait:
    """What a request gets of its owner's funds. Pure, but for what it raises (see `Metering.admit`)."""
    idle = funds.held <= 0 and not funds.ahead
    found = None if funds.ahead and not call.card.free else share(call.ask, call.card, funds.available, alone=idle)
    if found:
        return grant(call, found.amount, found.tokens)
    if not idle and share(call.ask, call.card, funds.unspent, alone=True):
        # An app that waits for its own cap is not to stand in the way of the person's others.
        own_doing = funds.cap is not None and not share(call.ask, call.card, funds.cap.available, alone=False)
        if own_doing or funds.ahead >= LONGEST_LINE:
            raise busy()
        return Wait()
    raise exhausted(call, budget, funds)


def grant(call: Call, amount: int, tokens: int) -> Grant:
    ask = call.ask
    likely = call.guess(min(TYPICAL_ANSWER, tokens) * ask.choices)
    # The cap travels unless it changes nothing: it is the caller's own, or stands for a maximum that we don't know.
    same = tokens == ask.cap or (ask.cap is None and ask.most is None and tokens == ask.want)
    cap = tokens if ask.output and not call.card.free and not same else None
    return Grant(
        amount=amount,
        estimate=worth(call, likely),
        usages=Usages(likely.input_tokens, likely.output_tokens),
        cap=cap,
        capped=cap is not None and cap < (ask.want if ask.cap is None else ask.cap),
        tokens=tokens,
    )


def worth(call: Call, guess: Usage) -> int:
    """What a guess costs: nothing where it holds nothing that has a price, as an empty answer to a free question."""
    try:
        return call.cost(guess)
    except ValueError:
        return 0


def busy() -> RateLimited:
    return RateLimited(
        "AI Pipe is holding the rest of your budget for your other requests, which have not finished. Try again soon.",
        retry_after=RETRY_AFTER,
    )


def exhausted(call: Call, budget: Budget, funds: Funds) -> BudgetExceeded:
    least = needed(call.ask, call.card)
    sentence = f"AI Pipe refused this request: it needs at least ${told(least)}, and "
    if funds.cap and funds.cap.limit - funds.cap.spent < min(least, funds.limit - funds.spent):
        left = told(max(0, funds.cap.limit - funds.cap.spent))
        sentence += f"${left} is left of the ${told(funds.cap.limit)} that you let this app spend."
        return BudgetExceeded(f"{sentence} To let it spend more, revoke it at /apps and sign in to it again.")
    left = told(max(0, funds.limit - funds.spent))
    sentence += f"${left} is left of your budget of ${told(budget.limit)} in {budget.days} days."
    return BudgetExceeded(f"{sentence} {more_is_free(funds.oldest, budget.days)}".rstrip())


class Charge:
    """An admitted request, which is sent at once. Whoever holds it must `release` or `settle` it; the first counts."""

    def __init__(
        self, ledger: Ledger, keeper: Keeper, call: Call, hold: Hold, budget: Budget, since: date,
        observers: Sequence[Observer] = (),
    ) -> None:  # fmt: skip
        self.call = call
        self.grant = hold.grant
        self._ledger, self._keeper, self._hold = ledger, keeper, hold
        self._limit, self._since = budget.limit, since
        self.sight = Sight(observers, present(), call)

    def failed(self, status: int, message: str) -> None:
        """The provider refused the operator, or broke; `message` is a sentence of ours. It changes nothing else."""
        self.sight.fails(status)
        self._ledger.failures.note(self.call.provider.name, status, message)

    def release(self) -> None:
        """Nothing was billed."""
        self._keeper.carry_out(lambda: self._ledger.release(self._hold.id))
        self.sight.ends("released")

    def settle(self, reading: Reading, *, status: int, interrupted: bool = False) -> Bill | None:
        """Books what the answer cost, from its usage where it told one, else from what was read and written.

        None when the ledger can't be reached (it is tried again until it can) or the hold was swept before.
        """
        counts, cost, sure = assess(self.call, reading, interrupted, self.grant.amount)
        usages = Usages(*(int(counts.get(name, 0)) for name in ("input_tokens", "output_tokens", "cache_read_tokens")))
        ended: Ended = "complete" if sure else "partial"

        def book() -> Settled | None:
            return self._ledger.settle(
                self._hold,
                cost=cost,
                usages=usages,
                status=status,
                ended=ended,
                answer_id=reading.answer_id,
                first_token=self.sight.first_token,
                since=self._since,
            )

        settled = self._keeper.carry_out(book)
        self.sight.settles(settled.cost if settled else cost, usages, reading, ended)
        if not settled:
            return None
        left = self._limit - settled.spent
        left = left if settled.cap_left is None else min(left, settled.cap_left)
        return Bill(settled.cost, max(0, left), usages, ended)


def assess(call: Call, reading: Reading, interrupted: bool, held: int) -> tuple[dict[str, int], int, bool]:
    """Counts, cost in nanodollars, and whether they are the provider's own rather than counted here.

    What is counted here for want of a usage is never dearer than what was `held`, the bound of what can have been made:
    not all the bytes of an answer are text.
    """
    interrupted = interrupted or reading.unfinished
    written = max(reading.pieces, -(-reading.text_bytes // BYTES_PER_TOKEN))
    usage = reading.usage or (call.guess(0) if call.ask.told else None)
    if usage is not None:
        counts = dict(usage.counts)
        if interrupted and usage.output_tokens < written:
            counts["output_tokens"] = written
            usage = replace(usage, counts=counts)
        try:
            return counts, call.cost(usage), not interrupted
        except (ValueError, ArithmeticError):
            log.warning("A usage of %s/%s makes no sense: %s", call.provider.name, call.model, counts)
            written = max(written, usage.output_tokens)
    guess = call.guess(written, reading.sound_tokens)
    return dict(guess.counts), min(worth(call, guess), held), False


class Keeper:
    """Puts right what went wrong: holds of dead workers, and settlements that the ledger couldn't take at once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owed: deque[Callable[[], object]] = deque()
        self._started = self._stopped = False
        self._wake = threading.Event()
        self._looking = threading.Lock()

    def start(self) -> None:
        """Starts to look after the ledger, once, from the first request or debt on: under gevent, in a greenlet."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="aipipe-keeper", daemon=True).start()

    def carry_out(self, action: Callable[[], T]) -> T | None:
        """Does what must be done, now or, where the ledger can't be reached, as soon as it can (then: None)."""
        try:
            return action()
        except LedgerUnavailable:
            log.error("The ledger did not take a settlement; it is kept and tried again.")
            self._owed.append(action)
            self.start()
            self._wake.set()
            return None

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.look_after()
            except LedgerUnavailable:
                pass
            except Exception:
                log.exception("The ledger's keeper stumbled; it goes on.")
            self._wake.wait(1 if self._owed else SWEEP_EVERY)
            self._wake.clear()

    def stop(self) -> None:
        """Lets go of the ledger, which may then be closed."""
        self._stopped = True
        self._wake.set()

    def look_after(self) -> None:
        """Settles what is owed, then sweeps. Raises LedgerUnavailable, with nothing lost."""
        with self._looking:
            while self._owed:
                try:
                    self._owed[0]()
                except LedgerUnavailable:
                    raise
                except Exception:  # it must not keep the others from being settled; its hold expires
                    log.exception("A settlement can't be booked.")
                self._owed.popleft()
        self._ledger.sweep()
