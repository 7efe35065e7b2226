"""Who spent what, and how much of their budget is gone. Each person's budget has a window of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from aipipe.budgets import Budget, Budgets, window_start
from aipipe.ledger import Ledger, Total


@dataclass(frozen=True, slots=True)
class Person:
    """`total` is what they did on the days that were asked for, `spent` what counts against their budget now."""

    email: str
    total: Total
    budget: Budget
    spent: int

    @property
    def share(self) -> float:
        """Of their budget that is spent: 1.0 is all of it, and so is any part of nothing."""
        return self.spent / self.budget.limit if self.budget.limit else 1.0

    @property
    def blocked(self) -> bool:
        """Whether nothing that costs is for them now."""
        return self.spent >= self.budget.limit


ORDERS: Mapping[str, Callable[[Person], Any]] = {
    "cost": lambda person: (-person.total.cost, person.email),
    "requests": lambda person: (-person.total.requests, person.email),
    "share": lambda person: (-person.share, -person.total.cost, person.email),
    "email": lambda person: person.email,
}


def everybody(ledger: Ledger, budgets: Budgets, first: date, today: date, *, search: str = "") -> list[Person]:
    """Who did anything from `first` until today, or has spent in their budget's window, with `search` in their email.

    One query, however many the people and the lengths of their windows.
    """
    lengths = sorted({budget.days for budget in budgets.by_key.values()} | {Budget(limit=0).days})
    windows = [window_start(today, days) for days in lengths]
    place = {days: number for number, days in enumerate(lengths)}
    found = []
    for total, active, spent in ledger.people(first, today, windows, search=search):
        email = total.key[0]
        budget = budgets.find(email)
        in_window = spent[place[budget.days]]
        if active or in_window:
            found.append(Person(email, total, budget, in_window))
    return found


def gathered(totals: Iterable[Total], *places: int) -> list[Total]:
    """Sums of `totals` by these places of their keys, dearest first."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for total in totals:
        into = sums.setdefault(tuple(total.key[place] for place in places), [0, 0, 0, 0])
        for place, value in enumerate((total.cost, total.requests, total.input_tokens, total.output_tokens)):
            into[place] += value
    return sorted((Total(key, *values) for key, values in sums.items()), key=lambda total: (-total.cost, total.key))


def by_app(totals: Iterable[Total], personal: str) -> list[Total]:
    """Sums of `totals`, whose keys begin with the provider and end with the app, by app: `personal` is who had none.

    What admins set, and what was imported, was for no app and no token: it has a line of its own.
    """
    named = (
        replace(total, key=(total.key[-1] or (personal if total.key[0] else "adjusted or imported"),))
        for total in totals
    )
    return gathered(named, 0)


def nothing(email: str) -> Total:
    return Total((email,), 0, 0, 0, 0)
