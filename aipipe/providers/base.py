"""What a provider is: where it is, which endpoints it offers on the operator's key, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import orjson

from aipipe.admission import Ask
from aipipe.budgets import Budget
from aipipe.errors import InvalidRequest, NotAllowed, NotConfigured, UnknownPrice
from aipipe.formats import JSON, Context, Format, check_parts, parse
from aipipe.kept import Kept
from aipipe.models import limits
from aipipe.pricing import Prices
from aipipe.rates import Card, Rate
from aipipe.usage_parsing import Usage

# A name in a path, as models are named: no escape but those of "/", ":" and "@", and no "." or ".." in between.
_DOTS = r"(?!\.{1,2}(?:/|%2F|$))"
NAME = rf"{_DOTS}(?:[\w.:@~+-]|%2F{_DOTS}|%3A|%40)+"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and path that the operator's key is good for: metered where it has a format, else free.

    With an `array`, an answer in JSON comes element by element. A free one's `check` raises NotAllowed for a body.
    """

    method: str
    path: re.Pattern[str]
    name: str
    format: Format | None = None
    form: bool = False
    array: bool = False
    check: Callable[[JSON], None] | None = None


def metered(path: str, format: Format, *, form: bool = False) -> Endpoint:
    """An endpoint that costs. `form`: its request is a form with files, not JSON."""
    return Endpoint("POST", re.compile(re.escape(path), re.ASCII), path.lstrip("/"), format, form)


def free(method: str, path: str, check: Callable[[JSON], None] | None = None) -> Endpoint:
    """An endpoint that costs nothing. `{}` in its path stands for one name. See `Endpoint` for `check`."""
    pattern = NAME.join(re.escape(piece) for piece in path.split("{}"))
    return Endpoint(method, re.compile(pattern, re.ASCII), path.lstrip("/"), check=check)


@dataclass(frozen=True, slots=True)
class Call:
    """A metered request: priced, bounded, and not yet admitted. `body` may be changed on its way upstream."""

    provider: Provider
    endpoint: Endpoint
    format: Format
    model: str
    body: JSON
    rate: Rate
    card: Card
    ask: Ask
    thinks: bool
    tier: str | None

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def cost(self, usage: Usage) -> int:
        """What the usage costs, in nanodollars, at the service tier that it tells or else the one asked for.

        Raises:
            ValueError: it contradicts itself, or tells nothing that has a price.
        """
        return self.provider.cost(self.rate, usage if usage.tier or not self.tier else replace(usage, tier=self.tier))

    def guess(self, written: int, spoken: int = 0) -> Usage:
        """What was probably used, if so many tokens of text were written and of sound spoken, for want of a usage."""
        plain = {"input_tokens": self.ask.likely, "output_tokens": written + spoken}
        return Usage(self.ask.presumed or ({**plain, "output_audio_tokens": spoken} if spoken else plain))


@dataclass(frozen=True)
class Provider:
    """An upstream LLM API, here one that speaks OpenAI's formats; the others override what differs.

    `key` is the operator's, found in the environment under `key_variable`; a provider that needs none has no
    variable. `price_id` is its name in genai-prices. One that `bills_on` makes the rest of an answer, and charges
    for it, even when we hang up. It charges at most its `margin` times its prices, for where or how it works. Into
    its streams may go `comments` of ours, or not.
    """

    name: str
    base: str
    endpoints: tuple[Endpoint, ...]
    key_variable: str | None = None
    key: str | None = field(default=None, repr=False)
    price_id: str | None = None
    bills_on: bool = False
    margin: Decimal = Decimal(1)
    comments: bool = True

    def credentials(self, key: str) -> dict[str, str]:
        """The header in which this provider reads a key, the operator's or a caller's own."""
        return {"Authorization": f"Bearer {key}"}

    def shared_headers(self, public_url: Callable[[], str]) -> dict[str, str]:  # noqa: ARG002 - for those who tell it on
        """What goes upstream for a caller who uses the operator's key, at the AI Pipe that users see at `public_url()`.

        Raises:
            NotConfigured: the operator has given no key.
        """
        if self.key_variable is None:
            return {}
        if not self.key:
            raise NotConfigured(f"AI Pipe has no key for {self.name}: its operator should set {self.key_variable}.")
        return self.credentials(self.key)

    def find(self, method: str, path: str) -> Endpoint:
        """The endpoint for a path as it came, not decoded: another spelling of the same path is not the same.

        Raises:
            NotAllowed: the operator's key is not for that.
        """
        for endpoint in self.endpoints:
            if endpoint.method == ("GET" if method == "HEAD" else method) and endpoint.path.fullmatch(path):
                return endpoint
        raise NotAllowed(
            f"AI Pipe doesn't allow {method} {path[:100]} on its shared {self.name} key, where it could show or change"
            " what belongs to others. Use a provider key of your own for that."
        )

    @property
    def listed(self) -> Kept[dict[str, JSON]] | None:
        """Its own list of models, by name, where its prices are in there; None where they are not."""
        return None

    def rate(self, prices: Prices, model: str, modalities: frozenset[str]) -> Rate | None:  # noqa: ARG002
        """What a model costs here, for text and the given modalities; None where that isn't known."""
        return prices.find(self.name, self.price_id, model)

    def cost(self, rate: Rate, usage: Usage) -> int:
        """See `Call.cost`."""
        cost = rate.cost(usage.counts, usage.tier)
        if not cost and usage.counts and not rate.free:
            raise ValueError("nothing of this usage has a price")
        return cost

    def reads_on(self, call: Call) -> bool:
        """Whether an answer is read to its end, and paid, after the one who asked has left."""
        return self.bills_on or call.thinks

    def check_query(self, query: str) -> None:
        """Raises NotAllowed for a query that asks for what a shared key is not for."""

    def features(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:  # noqa: ARG002
        """The caller's headers that ask for features of this provider's, which else stay behind on a shared key.

        Raises:
            NotAllowed: a feature may change what a request costs.
        """
        return {}

    def model_of(self, endpoint: Endpoint, path: str, body: JSON) -> object:  # noqa: ARG002
        """The model that a request names, if it does. Raises InvalidRequest when it names two."""
        return body.get("model")

    def refuse(self, body: JSON) -> None:
        """Raises NotAllowed for what this provider, beyond its formats, must not be asked on a shared key."""

    def confine(self, call: Call) -> None:
        """Changes a call's body for its way upstream, so that what it asks for costs no more than was held."""

    def prepare(
        self,
        endpoint: Endpoint,
        format: Format,
        path: str,
        body: JSON,
        size: int,
        prices: Prices,
        budget: Budget,
        answer_tokens: Callable[[str], int | None],
    ) -> Call:
        """Reads a metered request of `size` bytes to `path`: everything that decides about money, and nothing else.

        Raises:
            InvalidRequest: no model, no price for it, or a field that can't be read.
            NotAllowed: the budget or the shared key is not for that.
        """
        check_names(body)
        model = self.model_of(endpoint, path, body)
        if not isinstance(model, str) or not model or len(model) > 200 or not model.isprintable():
            raise InvalidRequest('AI Pipe needs a "model" in the request, to know its price.')
        if not budget.allows(self.name, model):
            raise NotAllowed(f"Your budget doesn't allow {self.name}/{model}, only {', '.join(budget.models or ())}.")
        self.refuse(body)
        known = limits(model)
        ask = format.ask(body, Context(known, size, answer_tokens))
        rate = self.rate(prices, model, ask.modalities)
        if rate is None:
            raise UnknownPrice(f"Model {model} pricing unknown")
        tier = service_tier(body, rate, model)
        if ask.presumed:
            card = Card(Decimal(0), Decimal(0), Decimal(rate.cost(ask.presumed)), other=not rate.free)
        else:
            card = rate.card(ask.bound, modalities=ask.modalities, tier=tier)
            if self.margin != 1:
                card = replace(card, input=card.input * self.margin, output=card.output * self.margin)
        if card.unpriced:
            telling = ", unless it tells what it used (stream_format sse)" if ask.told else ""
            raise UnknownPrice(f"Model {model} pricing unknown for this kind of request{telling}")
        return Call(self, endpoint, format, model, body, rate, card, ask, known.thinks, tier)


DEEPEST = 254


def read_body(raw: bytes) -> JSON:
    """The JSON object that a request consists of. Raises InvalidRequest when it isn't one, or is of too many parts."""
    check_parts(raw)
    body = parse(raw)
    if body is None:
        raise InvalidRequest("AI Pipe expected a JSON object as the request's body.")
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        try:
            orjson.dumps(body)  # it reads deeper objects than it writes
        except TypeError:
            raise InvalidRequest(f"AI Pipe reads JSON of at most {DEEPEST} levels.") from None
    return body


def check_names(body: JSON) -> None:
    """Raises InvalidRequest for another spelling of a name that decides about money.

    Some servers read names whatever their case, or `model[]` as `model`: they must not see what we don't.
    """
    for name in body:
        plain = name.partition("[")[0].lower()
        if name != plain and plain in DECIDING:
            raise InvalidRequest(f"AI Pipe expected {plain!r}, not {name[:40]!r}.")


DECIDING = frozenset({
    "model", "models", "stream", "stream_options", "n", "best_of", "tools", "service_tier", "background",
    "max_tokens", "max_completion_tokens", "max_output_tokens", "previous_response_id", "prompt", "modalities",
    "conversation", "web_search_options", "plugins", "preset", "thinking", "messages", "input", "mcp_servers",
    "container", "audio", "voice", "stream_format", "response_format", "output_format", "svg", "quality",
    "context_management", "background_options", "prompt_cache_options", "multi_agent", "provider", "search_parameters",
    "deferred", "enable_search", "search_options", "enable_code_interpreter", "compound_custom", "search_settings",
    "web_search", "venice_parameters", "data_sources",
})  # fmt: skip


def service_tier(body: JSON, rate: Rate, model: str) -> str | None:
    tier: Any = body.get("service_tier")
    if tier is None:
        return None
    if not isinstance(tier, str) or not rate.has_tier(tier):
        raise UnknownPrice(f"Model {model} pricing unknown for service_tier {str(tier)[:40]!r}")
    return tier
