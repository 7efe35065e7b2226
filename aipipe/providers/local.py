"""The embedded model of `aipipe dev`, or any llama.cpp server: no key, nothing leaves the machine."""

from __future__ import annotations

from aipipe.formats import Chat, Completions, Embeddings, Messages, Responses
from aipipe.providers.base import Provider, free, metered


def local(base: str) -> Provider:
    """llama.cpp's server at `base`. It stops writing when we hang up."""
    return Provider(
        name="local",
        base=base,
        endpoints=(
            metered("/v1/chat/completions", Chat()),
            metered("/v1/completions", Completions()),
            metered("/v1/responses", Responses()),
            metered("/v1/messages", Messages()),
            metered("/v1/embeddings", Embeddings()),
            free("GET", "/v1/models"),
        ),
    )
