"""One error tree: every refusal is an `AppError` with a status, a kind and a sentence.

`views/responses.py` is the only place that turns one into an answer.
"""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration can't be used. The message says what to write instead; nothing starts."""


class AppError(Exception):
    """A refusal that the caller sees.

    `message` is a sentence that says who refused, what the limit is and what to do next. It never
    holds a token, a key or an internal address. `headers` go out with the answer.
    """

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}


class InvalidRequest(AppError):
    status, kind = 400, "invalid_request_error"


class UnknownPrice(InvalidRequest):
    code = "model_price_unknown"


class TooSlow(InvalidRequest):
    status, code = 408, "request_too_slow"


class TooLarge(InvalidRequest):
    status, code = 413, "request_too_large"


class MethodNotAllowed(InvalidRequest):
    status, code = 405, "method_not_allowed"


class NotAuthenticated(AppError):
    status, kind, code = 401, "authentication_error", "invalid_token"


class NotAllowed(AppError):
    status, kind = 403, "permission_error"


class NotFound(AppError):
    status, kind = 404, "not_found_error"


class BudgetExceeded(AppError):
    """Final until the budget's window frees some money: SDKs are told not to try again."""

    status, kind, code = 429, "budget_exceeded", "budget_exceeded"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"x-should-retry": "false"})


class RateLimited(AppError):
    """Temporary: the same request may pass after `retry_after` seconds."""

    status, kind, code = 429, "rate_limit_exceeded", "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class ProviderError(AppError):
    """The provider could not be reached, or broke off."""

    status, kind = 502, "provider_error"


class ProviderTimeout(ProviderError):
    """`billable`: the whole request had reached the provider, which may charge for it."""

    status = 504

    def __init__(self, message: str, *, billable: bool = False) -> None:
        super().__init__(message)
        self.billable = billable


class NotConfigured(AppError):
    status, code = 503, "not_configured"


class SignInUnavailable(AppError):
    """Whoever vouches for people can't be asked. Temporary."""

    status, code = 503, "sign_in_unavailable"

    def __init__(self) -> None:
        super().__init__("AI Pipe can't reach Google to verify who you are. Try again.", headers={"Retry-After": "5"})


class LedgerUnavailable(AppError):
    """The store of costs does not answer: nothing may be spent until it does."""

    status, code = 503, "ledger_unavailable"

    def __init__(self, message: str = "AI Pipe can't reach its ledger. Nothing was spent; try again.") -> None:
        super().__init__(message, headers={"Retry-After": "2"})
