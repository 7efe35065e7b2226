"""Apps that people allowed to spend, the tokens that these got, and the codes that become tokens.

An app's token is in force while its row is here: what is revoked is gone for all workers at once. Nothing of a token
is kept but its `jti`, nothing of a code but its hash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from aipipe.errors import NotAuthenticated
from aipipe.ledger.database import Database, Execute, Row
from aipipe.ledger.types import AllowedApp, AppToken, Cap, Hold, Purpose

CODE_SECONDS = 60
REMEMBER_USED = 600  # seconds that a used code is known again
MOST_TOKENS = 50  # of one app and person: an app that loses its token at every visit gets no more

_APP = "app, cap, spent, allowed, expires, last_used, revoked"


@dataclass(frozen=True, slots=True)
class Handed:
    """What a token is made of: whose it is, for which origin, until when."""

    email: str
    app: str
    expires: float


class Apps:
    """Each public method is one transaction; those that take `execute` are part of somebody's."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # What a person allowed

    def allow(self, email: str, app: str, expires: float, cap: int | None = None) -> None:
        """Lets `app` spend up to `cap` from now on. What it spent before counts no more."""
        self._database.write(
            lambda execute: execute(
                f"INSERT INTO allowed_app (email, {_APP}) VALUES (?, ?, ?, 0, ?, ?, NULL, 0)"
                " ON CONFLICT (email, app) DO UPDATE SET cap = excluded.cap, spent = 0, allowed = excluded.allowed,"
                " expires = excluded.expires, last_used = NULL, revoked = 0",
                [email, app, cap, self._clock(), expires],
            ),
            email,
        )

    def find(self, email: str, app: str) -> AllowedApp | None:
        """What the person last said about `app`, be it over or revoked."""
        rows = self._database.read(f"SELECT {_APP} FROM allowed_app WHERE email = ? AND app = ?", [email, app])
        return _allowed(rows[0]) if rows else None

    def live(self, found: AllowedApp | None) -> bool:
        """Whether it may get tokens now."""
        return found is not None and not found.revoked and found.expires > self._clock()

    def allowed(self, email: str) -> list[AllowedApp]:
        """What the person's apps may do now, by origin."""
        rows = self._database.read(
            f"SELECT {_APP} FROM allowed_app WHERE email = ? AND revoked = 0 AND expires > ? ORDER BY app",
            [email, self._clock()],
        )
        return [_allowed(row) for row in rows]

    def revoke(self, email: str, app: str) -> None:
        """Ends what the person allowed. The app's tokens are void, and its codes worth nothing."""

        def work(execute: Execute) -> None:
            execute("UPDATE allowed_app SET revoked = 1 WHERE email = ? AND app = ?", [email, app])
            execute("DELETE FROM app_token WHERE email = ? AND app = ?", [email, app])

        self._database.write(work, email)

    def end_all(self, execute: Execute, email: str) -> None:
        """Voids all the person's app tokens; each app must be allowed anew."""
        now = self._clock()
        execute("UPDATE allowed_app SET expires = ? WHERE email = ? AND expires > ?", [now, email, now])
        execute("DELETE FROM app_token WHERE email = ?", [email])

    # Tokens and codes

    def add_token(self, email: str, app: str, jti: str) -> Handed | None:
        """Puts a token in force. None when the app isn't allowed (any more)."""
        return self._database.write(lambda execute: self._add_token(execute, email, app, jti), email)

    def _add_token(self, execute: Execute, email: str, app: str, jti: str) -> Handed | None:
        now = self._clock()
        # An update, so that nobody revokes the app before this is done.
        rows = execute(
            "UPDATE allowed_app SET revoked = 0 WHERE email = ? AND app = ? AND revoked = 0 AND expires > ?"
            " RETURNING expires",
            [email, app, now],
        )
        if not rows:
            return None
        execute("INSERT INTO app_token (jti, email, app, issued) VALUES (?, ?, ?, ?)", [jti, email, app, now])
        execute(
            "DELETE FROM app_token WHERE email = ? AND app = ? AND jti NOT IN"
            " (SELECT jti FROM app_token WHERE email = ? AND app = ? ORDER BY issued DESC, jti LIMIT ?)",
            [email, app, email, app, MOST_TOKENS],
        )
        return Handed(email, app, rows[0][0])

    def in_force(self, jti: str, email: str, app: str) -> bool:
        """Whether this token was given and not revoked. When it ends is for its signed `exp` to say."""
        return self._database.read("SELECT email, app FROM app_token WHERE jti = ?", [jti]) == [(email, app)]

    def tokens(self, email: str) -> list[AppToken]:
        """The person's app tokens, newest first."""
        rows = self._database.read(
            "SELECT jti, app, issued FROM app_token WHERE email = ? ORDER BY issued DESC, jti", [email]
        )
        return [AppToken(*row) for row in rows]

    def revoke_token(self, email: str, jti: str) -> None:
        self._database.write(lambda execute: execute("DELETE FROM app_token WHERE email = ? AND jti = ?", [email, jti]))

    def add_code(self, code: str, email: str, app: str, challenge: str) -> None:
        """Remembers a code, which is good once, for a minute, for whoever knows what `challenge` is the hash of."""

        def work(execute: Execute) -> None:
            now = self._clock()
            execute("DELETE FROM app_code WHERE expires < ?", [now - REMEMBER_USED])
            execute(
                "INSERT INTO app_code (hash, email, app, challenge, expires, jti) VALUES (?, ?, ?, ?, ?, '')",
                [_hash(code), email, app, challenge, now + CODE_SECONDS],
            )

        self._database.write(work)

    def redeem(self, code: str, challenge: str, origin: str | None, jti: str) -> Handed | None:
        """Puts a token in force for a code. None when that is unknown, used or too old, or the app isn't allowed.

        Nor is it good with another challenge, or from a page of another `origin` than it was made for. Whoever shows
        a used one, with its challenge, makes what it was traded for void: two have it, and one has no right to.
        """

        def work(execute: Execute) -> Handed | None:
            this = "hash = ? AND challenge = ?"
            values = [_hash(code), challenge]
            rows = execute(f"SELECT email, app FROM app_code WHERE {this}", values)
            if not rows or origin not in (None, rows[0][1]):
                return None
            fresh = execute(
                f"UPDATE app_code SET jti = ? WHERE {this} AND jti = '' AND expires > ? RETURNING hash",
                [jti, *values, self._clock()],
            )
            if fresh:
                email, app = rows[0]
                return self._add_token(execute, email, app, jti)
            used = execute(f"SELECT jti FROM app_code WHERE {this}", values)[0][0]
            execute("DELETE FROM app_token WHERE jti = ?", [used])
            return None

        return self._database.write(work, _hash(code))

    # Money

    def cap(self, execute: Execute, purpose: Purpose) -> Cap | None:
        """The cap on what is asked for, if there is one. Raises NotAuthenticated when the app was revoked."""
        person_and_app = [purpose.email, purpose.app]
        rows = execute(f"SELECT {_APP} FROM allowed_app WHERE email = ? AND app = ?", person_and_app)
        if not rows:
            return None
        app = _allowed(rows[0])
        if not self.live(app):
            raise NotAuthenticated(f"{app.origin} may not spend from this budget any more. Sign in again.")
        if app.cap is None:
            return None
        held = execute(
            "SELECT COALESCE(SUM(amount), 0) FROM hold WHERE email = ? AND app = ? AND created >= ?",
            [*person_and_app, app.allowed],
        )
        return Cap(app.cap, app.spent, int(held[0][0]))

    def charge(self, execute: Execute, hold: Hold, cost: int) -> int | None:
        """Counts a cost that is booked against what the app may spend; returns what is left where there is a cap."""
        if not hold.purpose.app:
            return None
        rows = execute(
            "UPDATE allowed_app SET spent = spent + ?, last_used = ? WHERE email = ? AND app = ? AND allowed <= ?"
            " RETURNING cap - spent",
            [cost, self._clock(), hold.purpose.email, hold.purpose.app, hold.created],
        )
        return rows[0][0] if rows else None


def _allowed(row: Row) -> AllowedApp:
    origin, cap, spent, allowed, expires, last_used, revoked = row
    return AllowedApp(origin, cap, spent, allowed, expires, last_used, bool(revoked))


def _hash(code: str) -> str:
    return sha256(code.encode()).hexdigest()
