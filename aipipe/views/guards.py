"""Who is calling, and may they? API routes read the token alone, never a session."""

from __future__ import annotations

from flask import request

from aipipe import observing, throttle
from aipipe.errors import BudgetExceeded, NotAllowed, NotAuthenticated
from aipipe.providers import Provider
from aipipe.services import services
from aipipe.tokens import Identity, is_native_key, token_from


def credential() -> str:
    """The token, or native key, that the request carries. Raises NotAuthenticated when there is none."""
    found = token_from(request.headers)
    if found is None or found in ("null", "undefined"):  # as pages without one write it; that is no guess
        raise NotAuthenticated("AI Pipe needs a token: send `Authorization: Bearer <token>` with a token from /login.")
    return found


def caller() -> Identity:
    """The person behind the request's token.

    Raises:
        NotAuthenticated: no AI Pipe token, or one that is not in force.
        NotAllowed: an app's token, used from another origin.
        RateLimited: there were too many bad tokens from this address.
    """
    token = credential()
    if is_native_key(token):
        raise NotAuthenticated("This needs an AI Pipe token, not a provider's key. Get one at /login.")
    return identified(token)


def own_key(token: str, provider: Provider) -> bool:
    """Whether the credential is the caller's own key to the provider.

    Raises NotAuthenticated where a provider has no keys: nothing there would tell a real one from one made up.
    """
    if not is_native_key(token):
        return False
    if provider.key_variable is None:
        count_bad_token()
        raise NotAuthenticated(f"{provider.name} has no keys of its own: send an AI Pipe token, from /login.")
    return True


def identified(token: str) -> Identity:
    parts = services()
    try:
        identity = parts.identify(token)
    except NotAuthenticated:
        count_bad_token()
        raise
    origin = request.headers.get("Origin")
    if identity.app is not None and origin is not None and origin.lower() != identity.app.lower():
        raise NotAllowed(f"This token was made for {identity.app} and can't be used from elsewhere.")
    if parts.config["LOG_EMAILS"]:
        observing.present().email = identity.email
    return identity


def count_bad_token() -> None:
    """Counts a token, or a code for one, that is worth nothing. Raises RateLimited for too many from one address.

    Counted when it fails, not looked for before: others behind the same address have good ones.
    """
    parts, address = services(), throttle.client(request.remote_addr)
    parts.throttle.count("bad tokens from your address", address, parts.config["BAD_TOKENS_PER_MINUTE"])


def require_same_origin() -> None:
    """Raises NotAllowed unless the browser says that the request comes from a page of ours."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site == "same-origin" or (site is None and origin == services().public_url()):
        return
    raise NotAllowed("This is for AI Pipe's own pages. Open the page again and use its form.")


def funded(identity: Identity) -> None:
    """Lets pass who may use the operator's key now. Whatever becomes of the request, it counts.

    Raises:
        BudgetExceeded: the person has no budget at all: then nothing is for them, not even what is free.
        RateLimited: they come more often than their budget's `rpm` allows.
    """
    budget = services().budgets.find(identity.email)
    if budget.limit <= 0:
        raise BudgetExceeded("AI Pipe has no budget for you. Ask its operator for one.")
    if budget.rpm is not None:
        services().throttle.count("requests of yours", identity.email, budget.rpm)


def may_sign_in() -> None:
    """Counts an attempt to sign in. Raises RateLimited for too many from one address."""
    parts, address = services(), throttle.client(request.remote_addr)
    parts.throttle.count("sign-ins from your address", address, parts.config["SIGN_INS_PER_MINUTE"])
