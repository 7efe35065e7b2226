"""OpenRouter: https://openrouter.ai/docs/api-reference/overview. It tells itself what a request cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property, partial
from typing import Any

from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats import JSON, Chat, Completions, Embeddings, Messages, Responses
from aipipe.kept import Kept
from aipipe.models import limits
from aipipe.money import MAX_DOLLARS
from aipipe.pricing import Prices, barred
from aipipe.providers import model_list
from aipipe.providers.base import Call, Provider, free, metered
from aipipe.rates import NANO, Rate, nano
from aipipe.usage_parsing import Usage


@dataclass(frozen=True)
class OpenRouter(Provider):
    def shared_headers(self, public_url: Callable[[], str]) -> dict[str, str]:
        """Requests are told to come from this AI Pipe: https://openrouter.ai/docs/app-attribution."""
        return {**super().shared_headers(public_url), "HTTP-Referer": public_url(), "X-Title": "AI Pipe"}

    @cached_property
    def listed(self) -> Kept[dict[str, JSON]]:
        return Kept(f"{self.name}'s list of models", partial(model_list.fetch_models, self.name, self.base))

    def rate(self, prices: Prices, model: str, modalities: frozenset[str]) -> Rate | None:
        """The price that is known here, else the one in OpenRouter's list, which the first to need it waits for.

        What genai-prices 0.2.3 knows of OpenRouter's models is the price of text alone.
        """
        known = super().rate(prices, model, modalities)
        if barred(self.price_id, model) or (known and not modalities - known.modalities):
            return known
        listed = self.listed.get(model_list.SECONDS) or {}
        return model_list.listed_rate(model, listed[model]["pricing"]) if model in listed else None

    def cost(self, rate: Rate, usage: Usage) -> int:
        """OpenRouter's own `usage.cost`; with a key of the operator's at the provider, plus what that one bills.

        https://openrouter.ai/docs/use-cases/usage-accounting
        """
        told = _dollars(usage.raw.get("cost"))
        if told is None:
            return super().cost(rate, usage)
        details = usage.raw.get("cost_details")
        if usage.raw.get("is_byok") and isinstance(details, dict):
            told += _dollars(details.get("upstream_inference_cost")) or 0
        return nano(told)

    def refuse(self, body: JSON) -> None:
        if body.get("models"):
            raise NotAllowed("AI Pipe prices one model a request: leave out models, or try them one by one.")
        own_ceiling(body)

    def confine(self, call: Call) -> None:
        """Tells the prices above which no endpoint may serve it: docs/decisions/017-dearer-endpoints.md."""
        if call.card.free:
            return
        chosen = call.body.get("provider") or {}
        room = 1 if chosen else UNCHOSEN
        ceiling = {name: price * room for name, price in held_prices(call).items()}
        for name, own in own_ceiling(call.body).items():
            ceiling[name] = min(own, ceiling.get(name, own))
        call.body["provider"] = {**chosen, "max_price": {name: float(price) for name, price in ceiling.items()}}


# How far above the held prices an endpoint may be that the caller had no say in.
UNCHOSEN = 2


def held_prices(call: Call) -> dict[str, Decimal]:
    """What was held, in dollars: for a million tokens in and out, for a request, for an image.

    https://openrouter.ai/docs/features/provider-routing#max-price
    """
    card = call.card
    found = {
        "prompt": card.input / 1000,
        "request": card.request / NANO,
        "image": card.input * limits(call.model).image / NANO,
    }
    return {**found, "completion": card.output / 1000} if call.ask.output else found


def own_ceiling(body: JSON) -> dict[str, Decimal]:
    """The caller's own `max_price`. Raises InvalidRequest where it, or the object around it, can't be read."""
    chosen = body.get("provider") or {}
    prices = (chosen.get("max_price") or {}) if isinstance(chosen, dict) else None
    if not isinstance(prices, dict):
        raise InvalidRequest("AI Pipe expected an object in provider, and one in its max_price.")
    found = {}
    for name, value in prices.items():
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            price = Decimal(-1)
        if not price.is_finite() or not 0 <= price <= MAX_DOLLARS or isinstance(value, bool):
            raise InvalidRequest(f"AI Pipe can't use max_price {name[:40]}={str(value)[:40]}: send dollars.")
        found[name] = price
    return found


def _dollars(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return Decimal(str(value))


OPENROUTER = OpenRouter(
    name="openrouter",
    base="https://openrouter.ai/api",
    key_variable="OPENROUTER_API_KEY",
    price_id="openrouter",
    bills_on=True,
    endpoints=(
        metered("/v1/chat/completions", Chat()),
        metered("/v1/completions", Completions()),
        metered("/v1/responses", Responses()),
        metered("/v1/messages", Messages()),
        metered("/v1/embeddings", Embeddings()),
        free("GET", "/v1/models"),
        free("GET", "/v1/models/{}/{}/endpoints"),
        free("GET", "/v1/providers"),
    ),
)
