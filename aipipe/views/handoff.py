"""`/login?redirect=…`: an app asks for a token, its user decides, and the app gets it.

Nothing is handed over but by `hand_over`, and that follows on one of three: the user's word just given, their word
remembered, or the operator's in TRUSTED_APPS. Why so: docs/decisions/012-hand-off.md
"""

from __future__ import annotations

import secrets
import time
from fnmatch import fnmatchcase

from flask import Blueprint, Response, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from aipipe import redirects
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.money import show, to_nano
from aipipe.redirects import Asked
from aipipe.services import services, window
from aipipe.tokens import DAY_SECONDS, Identity
from aipipe.views import guards, session
from aipipe.views.responses import page, widen
from aipipe.views.targets import raw_query

bp = Blueprint("handoff", __name__)

PATH = "/login/allow"
TICKET_SECONDS = 600  # from the question to its answer
MOST_VISITS = 10  # of one person to one app in a minute: each makes a token, and there are only so many
LEAST_CAP = 1000  # nanodollars: below a millionth of a dollar no answer is to be had


def asked() -> Asked | None:
    """What the sign-in page is asked for. Raises InvalidRequest or NotAllowed where nobody is sent there."""
    found = read(raw_query())
    if found and found.target.origin and not found.challenge and not services().config["TOKEN_IN_URL"]:
        raise NotAllowed(
            "This AI Pipe gives apps no token in their address. Tell the app's maker to use signIn() of aipipe.js."
        )
    return found


def read(query: str) -> Asked | None:
    return redirects.read(query, services().public_url().lower())


def answer(user: Identity, asked: Asked) -> Response:
    """Where the user was going: at once if that is on this site or allowed, else by way of the question."""
    origin = asked.target.origin
    if not origin:
        return going(asked.target.url)
    if request.headers.get("Sec-Fetch-Dest", "document") != "document":
        raise NotAllowed("AI Pipe hands tokens only to a page of its own window. Open the app by itself.")
    apps = services().ledger.apps
    found = apps.find(user.email, origin)
    if "prefetch" in request.headers.get("Sec-Purpose", ""):
        return question(user, asked)  # which makes nothing
    services().throttle.count("visits to the same app", f"{user.email} {origin}", MOST_VISITS)
    if apps.live(found):
        return hand_over(user.email, asked)
    if trusted(origin) and not (found and found.revoked):
        apps.allow(user.email, origin, ends())
        return hand_over(user.email, asked)
    return question(user, asked)


def question(user: Identity, asked: Asked) -> Response:
    budget = services().budgets.find(user.email)
    return let_go(
        page(
            "handoff/consent.html",
            asked=asked,
            budget=budget,
            left=max(0, budget.limit - services().ledger.spent(user.email, window(budget)[0])),
            ends=ends(),
            least=LEAST_CAP,
            loopback=asked.target.origin.startswith("http:"),
            foreign="xn--" in asked.target.origin,
            ticket=tickets().dumps([user.email, asked.path, secrets.token_urlsafe(16)]),
        ),
        asked,
    )


@bp.post(PATH)
def allow() -> Response:
    """The user says yes to the page that they were shown, once."""
    guards.require_same_origin()
    user = session.person()
    asked, nonce = read_ticket(request.form.get("ticket", ""), user.email)
    cap = read_cap(request.form.get("cap", ""))
    if not services().ledger.use_once(f"consent {nonce}", time.time() + TICKET_SECONDS):
        raise NotAllowed("You have answered this already. Open the app again.")
    services().ledger.apps.allow(user.email, asked.target.origin, ends(), cap)
    return hand_over(user.email, asked)


def read_ticket(ticket: str, email: str) -> tuple[Asked, str]:
    """What the user saw, and the word that is good once. Raises NotAllowed."""
    try:
        shown_to, path, nonce = tickets().loads(ticket, max_age=TICKET_SECONDS)
    except BadSignature:
        raise NotAllowed("This page was open for too long, or is not AI Pipe's. Open the app again.") from None
    asked = read(path.partition("?")[2])
    if shown_to != email or asked is None:
        raise NotAllowed("This was asked of somebody else. Open the app again.")
    return asked, nonce


def read_cap(text: str) -> int | None:
    """The most that the app may spend, in nanodollars. Raises InvalidRequest."""
    if not text.strip():
        return None
    try:
        cap = to_nano(text.strip())
    except ValueError:
        cap = 0
    if cap < LEAST_CAP:
        raise InvalidRequest(
            f"The most that an app may spend is at least {show(LEAST_CAP)} dollars, as 0.05. Go back and write it so."
        )
    return cap


def hand_over(email: str, asked: Asked) -> Response:
    """Sends the browser to the app, with a code for whoever has the verifier, or with the token itself."""
    target = asked.target
    if asked.challenge:
        code = secrets.token_urlsafe(32)
        services().ledger.apps.add_code(code, email, target.origin, asked.challenge)
        return going(target.carrying(code=code))
    token = services().app_token(email, target.origin)
    if token is None:
        raise NotAllowed("You revoked this app a moment ago. Open it again.")
    return going(target.carrying(aipipe_token=token, aipipe_email=email))


def going(url: str) -> Response:
    """A redirect that leaves no trace of where it came from, and that nothing keeps."""
    headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(status=303, headers=headers)


def let_go(shown: Response, asked: Asked) -> Response:
    """Lets the page's form end at the app: browsers hold every step of the way against its policy."""
    origin = asked.target.origin
    if origin:
        widen(shown, form_action="http:" if "[" in origin else origin)  # a policy can't name an IPv6 address
    return shown


def trusted(origin: str) -> bool:
    return any(origin == glob or fnmatchcase(origin, glob) for glob in services().config["TRUSTED_APPS"])


def ends() -> float:
    """When the time of an app that is allowed now is over."""
    return float(int(time.time()) + services().config["APP_TOKEN_DAYS"] * DAY_SECONDS)


def tickets() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(services().config["AIPIPE_SECRET"], salt="aipipe consent")
