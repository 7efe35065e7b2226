"""Which models there are to talk with: the providers' own lists, kept for a while, with the prices that we know."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aipipe.errors import ProviderError
from aipipe.formats import JSON, parse
from aipipe.forwarding import request_headers
from aipipe.kept import Kept
from aipipe.money import readable
from aipipe.pricing import Prices
from aipipe.providers import Provider
from aipipe.upstream import Pool

LARGEST = 16 * 2**20  # bytes of a list; OpenRouter's is half a megabyte
PATIENCE = 4.0  # seconds that a page waits for lists that nobody has asked for yet
STARTING = 3.0  # seconds until a server of the operator's own, which has no key, is asked again: it may be starting
LISTS = ("v1/models", "models")
# How to get all of a list that comes in pages otherwise.
# https://docs.anthropic.com/en/api/models-list, https://ai.google.dev/api/models#method:-models.list
QUERIES = {"anthropic": "?limit=1000", "geminiv1beta": "?pageSize=1000"}
TEXT: frozenset[str] = frozenset()  # that is: nothing but text
VERSION = ("anthropic-version", "2023-06-01")  # https://docs.anthropic.com/en/api/versioning

# Names of what is listed among the others, and doesn't chat, for lists that tell no more than names.
NO_CHAT = re.compile(
    r"embed|whisper|tts|transcribe|dall-e|image|moderation|realtime|audio|imagen|rerank|babbage|davinci|computer-use"
    r"|codex|deep-research|robotics|turbo-instruct|search-(preview|api)|-live-|^(sora|veo|aqa)|^(o\d|gpt-5[\w.]*)-pro"
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model to talk with, and its prices in nanodollars for a million tokens of text in and out."""

    provider: str
    id: str
    input: int
    output: int

    @property
    def price(self) -> str:
        """Dollars for a million tokens in and out, as pages show them."""
        return f"{readable(self.input)} / {readable(self.output)}" if self.input or self.output else "free"


class Catalog:
    """The lists of the providers that work here. A list that can't be had is left out until it can."""

    def __init__(self, providers: Iterable[Provider], prices: Prices, pool: Pool) -> None:
        self._prices, self._pool = prices, pool
        self._lists = {
            provider: provider.listed
            or Kept(
                f"The list of models of {provider.name}",
                partial(self._fetched, provider, path),
                again=60 if provider.key_variable else STARTING,
            )
            for provider in providers
            if (path := list_path(provider)) and (provider.key or not provider.key_variable)
        }
        self._models: dict[str, tuple[Mapping[str, JSON], list[Model]]] = {}  # by provider, and what they come from

    def models(self, patience: float = PATIENCE) -> dict[str, list[Model]]:
        """Models by provider, in the providers' order, those without a price left out.

        `patience` is how many seconds it waits for lists that nobody has asked for yet.
        """
        until = time.monotonic() + patience
        for kept in self._lists.values():
            kept.refresh()
        lists = {provider: kept.get(max(0, until - time.monotonic())) or {} for provider, kept in self._lists.items()}
        found = {provider.name: self._of(provider, entries) for provider, entries in lists.items()}
        return {name: models for name, models in found.items() if models}

    def _of(self, provider: Provider, entries: Mapping[str, JSON]) -> list[Model]:
        """The models of a list. Four hundred prices take a moment: they are kept for as long as the list is."""
        source, models = self._models.get(provider.name, (None, []))
        if source is not entries:
            names = sorted(name for name, entry in entries.items() if chats(name, entry))
            models = [model for name in names if (model := self._priced(provider, name))]
            self._models[provider.name] = entries, models
        return models

    def _fetched(self, provider: Provider, path: str) -> dict[str, JSON]:
        """What the provider lists, by name. Raises ProviderError, or what reading nonsense raises."""
        credentials = provider.credentials(provider.key) if provider.key else {}
        headers = request_headers([VERSION], credentials, shared=True)
        answer = self._pool.send(provider.name, provider.base, "GET", path, headers, None)
        body = b""
        try:
            while chunk := answer.read():
                body += chunk
                if len(body) > LARGEST:
                    raise ProviderError(f"{provider.name}'s list of models is too long.")
        finally:
            answer.close()
        if answer.status != 200:
            raise ProviderError(f"{provider.name} doesn't tell its models ({answer.status}).")
        found = parse(body) or {}
        entries = found.get("data") or found["models"]
        return {name_of(entry): entry for entry in entries if isinstance(entry, dict)}

    def _priced(self, provider: Provider, name: str) -> Model | None:
        rate = provider.rate(self._prices, name, TEXT)
        if rate is None:
            return None
        # Of a thousand tokens, since a million may be priced as a long prompt is.
        prices = (1000 * rate.cost({kind: 1000}) for kind in ("input_tokens", "output_tokens"))
        return Model(provider.name, name, *prices)


def list_path(provider: Provider) -> str | None:
    """Where a provider lists its models, if it offers that."""
    names = {endpoint.name for endpoint in provider.endpoints if endpoint.method == "GET"}
    return next((f"/{path}{QUERIES.get(provider.name, '')}" for path in LISTS if path in names), None)


def name_of(entry: JSON) -> str:
    return str(entry.get("id") or entry["name"]).removeprefix("models/")


def chats(name: str, entry: JSON) -> bool:
    """Whether a model in a list is there to talk with, from what the list tells (OpenRouter, Gemini) or its name."""
    architecture: Any = entry.get("architecture")
    if isinstance(architecture, dict):
        return "text" in (architecture.get("output_modalities") or ())
    if "generateContent" not in entry.get("supportedGenerationMethods", ["generateContent"]):
        return False
    return not NO_CHAT.search(name.lower())
