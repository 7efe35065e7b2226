"""Any provider that speaks OpenAI's formats under a base URL of its own: Groq, Mistral, Together, Ollama, …"""

from __future__ import annotations

from aipipe.formats import Chat, Completions, Embeddings, Images, Responses, Speech, Transcription, Translation
from aipipe.pricing import price_id_of
from aipipe.providers.base import Endpoint, Provider, free, metered


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
    return Provider(
        name=name,
        base=base,
        endpoints=endpoints(Chat()),
        key_variable=key_variable,
        price_id=price_id_of(base),
        bills_on=True,
    )
