"""Who is calling, and may they? API routes read the token alone, never a session."""

from __future__ import annotations

from flask import request

from aipipe.errors import BudgetExceeded, NotAllowed, NotAuthenticated
from aipipe.services import services
from aipipe.tokens import Identity, is_native_key, token_from


def credential() -> str:
    """The token, or native key, that the request carries. Raises NotAuthenticated when there is none."""
    found = token_from(request.headers)
    if found is None:
        raise NotAuthenticated("AI Pipe needs a token: send `Authorization: Bearer <token>` with a token from /login.")
    return found


def caller() -> Identity:
    """The person behind the request's token.

    Raises:
        NotAuthenticated: no AI Pipe token, or one that is not in force.
        NotAllowed: an app's token, used from another origin.
    """
    token = credential()
    if is_native_key(token):
        raise NotAuthenticated("This needs an AI Pipe token, not a provider's key. Get one at /login.")
    return identified(token)


def identified(token: str) -> Identity:
    identity = services().identify(token)
    origin = request.headers.get("Origin")
    if identity.app is not None and origin is not None and origin.lower() != identity.app.lower():
        raise NotAllowed(f"This token was made for {identity.app} and can't be used from elsewhere.")
    return identity


def require_same_origin() -> None:
    """Raises NotAllowed unless the browser says that the request comes from a page of ours."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site == "same-origin" or (site is None and origin == services().public_url()):
        return
    raise NotAllowed("This is for AI Pipe's own pages. Open the page again and use its form.")


def funded(identity: Identity) -> None:
    """Raises BudgetExceeded when the person has no budget at all: then nothing is for them, not even what is free."""
    if services().budgets.find(identity.email).limit <= 0:
        raise BudgetExceeded("AI Pipe has no budget for you. Ask its operator for one.")
