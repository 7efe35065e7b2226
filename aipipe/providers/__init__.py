"""The registry of providers. A new one is a file beside this one, and a line below."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aipipe.errors import ConfigError, NotFound
from aipipe.providers.anthropic import ANTHROPIC
from aipipe.providers.base import Call, Endpoint, Provider, free
from aipipe.providers.compatible import compatible
from aipipe.providers.gemini import GEMINI
from aipipe.providers.local import local
from aipipe.providers.openai import openai
from aipipe.providers.openrouter import OPENROUTER

__all__ = ["Call", "Endpoint", "Provider", "Registry", "build"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
RESERVED = frozenset({
    "admin", "apps", "docs", "healthz", "login", "logout", "metrics", "models", "playground", "proxy", "similarity",
    "static", "token", "usage",
})  # fmt: skip
OPENED = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/\S+)")


class Registry(dict[str, Provider]):
    """Providers by the first segment of the path."""

    def named(self, name: str) -> Provider:
        """Raises NotFound when there is no such provider."""
        if name not in self:
            raise NotFound(f"Unknown provider: {name[:40]}")
        return self[name]


def build(config: Mapping[str, Any]) -> Registry:
    """All providers: the built-in ones, and what `PROVIDERS` changes or adds, with the operator's keys.

    Raises:
        ConfigError: `PROVIDERS` can't be used.
    """
    registry = Registry({one.name: one for one in (openai(config["OPENAI_ORG_ID"]), OPENROUTER, GEMINI, ANTHROPIC)})
    for name, setting in config["PROVIDERS"].items():
        registry[name] = _configured(registry.get(name), name, setting)
    return Registry({name: _with_key(provider, config["KEYS"]) for name, provider in registry.items()})


def _configured(known: Provider | None, name: str, setting: Mapping[str, Any]) -> Provider:
    if not NAME.fullmatch(name) or name in RESERVED:
        raise ConfigError(f"PROVIDERS: {name!r} can't name a provider: use a-z, 0-9, - and _, and no page of ours.")
    base = str(setting.get("base") or (known.base if known else "")).rstrip("/")
    if not re.match(r"https?://[^/\s]+", base):
        raise ConfigError(f'PROVIDERS[{name!r}] needs a "base" such as "https://api.example.com".')
    variable = setting.get("key")
    if known:
        provider = replace(known, base=base, key_variable=variable or known.key_variable)
    elif name == "local":
        provider = local(base)
    else:
        provider = compatible(name, base, variable)
    opened = [_opened(name, line) for line in setting.get("free", ())]
    return replace(provider, endpoints=(*provider.endpoints, *opened))


def _opened(name: str, line: str) -> Endpoint:
    found = OPENED.fullmatch(line)
    if not found:
        raise ConfigError(f'PROVIDERS[{name!r}]["free"]: write a method and a path, such as "GET /v1/files/{{}}".')
    return free(found[1], found[2])


def _with_key(provider: Provider, keys: Mapping[str, str]) -> Provider:
    return replace(provider, key=keys.get(provider.key_variable)) if provider.key_variable else provider
