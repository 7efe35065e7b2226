"""Any provider that speaks OpenAI's formats under a base URL of its own: Groq, Mistral, Together, Ollama, …"""

from __future__ import annotations

from aipipe.formats import (
    Chat,
    CompatibleChat,
    Completions,
    Embeddings,
    Images,
    Responses,
    Speech,
    Transcription,
    Translation,
)
from aipipe.pricing import price_id_of
from aipipe.providers.base import Endpoint, Provider, free, metered

OPENAI = ("openai", "azure")  # whose models that think refuse max_tokens


def endpoints(chat: Chat) -> tuple[Endpoint, ...]:
    """What OpenAI's API has for an operator's shared key; only how an answer's length is bounded differs."""
    return (
        metered("/v1/chat/completions", chat),
        metered("/v1/completions", Completions()),
        metered("/v1/responses", Responses()),
        metered("/v1/embeddings", Embeddings()),
        metered("/v1/audio/speech", Speech()),
        metered("/v1/audio/transcriptions", Transcription(), form=True),
        metered("/v1/audio/translations", Translation(), form=True),
        metered("/v1/images/generations", Images()),
        metered("/v1/images/edits", Images(), form=True),
        free("GET", "/v1/models"),
        free("GET", "/v1/models/{}"),
        free("POST", "/v1/moderations"),
    )


def compatible(name: str, base: str, key_variable: str | None) -> Provider:
    """A provider of the operator's own. Few of them stop billing when we hang up, so all are read to the end."""
    price_id = price_id_of(base)
    return Provider(
        name=name,
        base=base,
        endpoints=endpoints(CompatibleChat("max_completion_tokens" if price_id in OPENAI else "max_tokens")),
        key_variable=key_variable,
        price_id=price_id,
        bills_on=True,
    )
