"""What the views call: made once by `create_app`, and found through the app."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, cast

from flask import current_app, request

from aipipe import tokens
from aipipe.budgets import Budget, Budgets, more_is_free, window_start
from aipipe.catalog import Catalog
from aipipe.errors import InvalidRequest, NotAuthenticated
from aipipe.fetching import Fetcher
from aipipe.google import Google
from aipipe.ledger import Handed, Ledger
from aipipe.metering import Metering
from aipipe.metrics import Metrics
from aipipe.pricing import Prices
from aipipe.providers import Registry
from aipipe.throttle import Throttle
from aipipe.tokens import Identity
from aipipe.upstream import Pool

USED_UP = 0.99  # of a budget: hardly any request is admitted with what is left


@dataclass(frozen=True)
class Services:
    """One app's parts. `dev` is true only in `aipipe dev`."""

    config: Mapping[str, Any]
    dev: bool
    ledger: Ledger
    metering: Metering
    providers: Registry
    prices: Prices
    budgets: Budgets
    pool: Pool
    google: Google
    catalog: Catalog
    fetcher: Fetcher
    throttle: Throttle
    metrics: Metrics | None

    def close(self) -> None:
        """Ends what the parts keep open. The app is of no use afterwards."""
        self.metering.close()
        self.throttle.close()
        self.pool.close()
        self.ledger.close()
        if self.metrics:
            self.metrics.close()

    def public_url(self) -> str:
        """The origin under which users see this AI Pipe, without a slash at its end.

        Raises InvalidRequest where nothing but the request tells it, and that tells no host.
        """
        try:
            return str(self.config["AIPIPE_PUBLIC_URL"] or request.url_root).rstrip("/")
        except UnicodeError:
            raise InvalidRequest("AI Pipe can't read the host that this request is for.") from None

    def issue_token(self, email: str) -> str:
        """A new personal token. Raises ValueError when `email` isn't a plausible address."""
        return tokens.issue(
            email,
            secret=self.config["AIPIPE_SECRET"],
            now=time.time(),
            days=self.config["TOKEN_DAYS"],
            salt=self.config["SALT"].get(email.lower()),
        )

    def app_token(self, email: str, app: str) -> str | None:
        """A new token for an app, that ends when its time does; None where its user doesn't allow it (any more)."""
        jti = tokens.new_jti()
        handed = self.ledger.apps.add_token(email, app, jti)
        return self._signed(handed, jti) if handed else None

    def redeem(self, code: str, challenge: str, origin: str | None) -> tuple[Handed, str] | None:
        """What a code is traded for, and the token itself; None where it is worth nothing (see `Apps.redeem`)."""
        jti = tokens.new_jti()
        handed = self.ledger.apps.redeem(code, challenge, origin, jti)
        return (handed, self._signed(handed, jti)) if handed else None

    def _signed(self, handed: Handed, jti: str) -> str:
        return tokens.issue(
            handed.email,
            secret=self.config["AIPIPE_SECRET"],
            now=time.time(),
            expires=handed.expires,
            salt=self.config["SALT"].get(handed.email),
            app=handed.app,
            jti=jti,
        )

    def secrets(self) -> list[str]:
        """Those that may have signed a token, the present one first."""
        return [secret for name in ("AIPIPE_SECRET", "AIPIPE_SECRET_PREVIOUS") if (secret := self.config[name])]

    def identify(self, token: str) -> Identity:
        """Who a token speaks for. Raises NotAuthenticated when it is, for whatever reason, not in force."""
        claims = tokens.verify(token, secrets=self.secrets(), salts=self.config["SALT"], now=time.time())
        if claims.app is not None:
            if not self.ledger.apps.in_force(claims.jti or "", claims.email, claims.app):
                raise NotAuthenticated(f"This AI Pipe token for {claims.app} was revoked by its owner. Sign in again.")
            return tokens.identify(claims, self.config["ADMIN_EMAILS"])
        void_before = self.ledger.void_before(claims.email)
        if void_before is not None and (claims.issued is None or claims.issued < void_before):
            raise NotAuthenticated("This AI Pipe token was reset by its owner. Get a new one at /login.")
        return tokens.identify(claims, self.config["ADMIN_EMAILS"])


def services() -> Services:
    """The parts of the app that handles the present request."""
    return cast(Services, current_app.extensions["aipipe"])


def window(budget: Budget) -> tuple[date, date]:
    """The first and the last date that count against a budget now."""
    today = datetime.now(UTC).date()
    return window_start(today, budget.days), today


class Standing(NamedTuple):
    """Somebody's budget, what they spent of it, and a sentence that says when there is more, once it is used up."""

    budget: Budget
    spent: int
    more: str


def standing(email: str) -> Standing:
    """What pages tell about somebody's budget."""
    budget = services().budgets.find(email)
    spent, oldest = services().ledger.spending(email, window(budget)[0])
    used_up = budget.limit and spent >= budget.limit * USED_UP
    return Standing(budget, spent, more_is_free(oldest, budget.days) if used_up else "")
