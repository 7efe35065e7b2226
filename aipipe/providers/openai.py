"""OpenAI: https://platform.openai.com/docs/api-reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aipipe.formats import Chat
from aipipe.providers.base import Provider
from aipipe.providers.compatible import endpoints


@dataclass(frozen=True)
class OpenAI(Provider):
    """OpenAI, billed to the operator's organisation where it has one."""

    organization: str | None = None

    def shared_headers(self, public_url: Callable[[], str]) -> dict[str, str]:
        own = {"OpenAI-Organization": self.organization} if self.organization else {}
        return {**super().shared_headers(public_url), **own}


def openai(organization: str | None) -> OpenAI:
    return OpenAI(
        name="openai",
        base="https://api.openai.com",
        key_variable="OPENAI_API_KEY",
        price_id="openai",
        organization=organization,
        endpoints=endpoints(Chat(cap_field="max_completion_tokens")),
    )
