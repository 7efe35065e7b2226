"""OpenAI: https://platform.openai.com/docs/api-reference."""

from __future__ import annotations

from dataclasses import dataclass

from aipipe.formats import Chat, Completions, Embeddings, Images, Responses, Speech, Transcription, Translation
from aipipe.providers.base import Provider, free, metered


@dataclass(frozen=True)
class OpenAI(Provider):
    """OpenAI, billed to the operator's organisation where it has one."""

    organization: str | None = None

    def shared_headers(self, public_url: str) -> dict[str, str]:
        own = {"OpenAI-Organization": self.organization} if self.organization else {}
        return {**super().shared_headers(public_url), **own}


def openai(organization: str | None) -> OpenAI:
    return OpenAI(
        name="openai",
        base="https://api.openai.com",
        key_variable="OPENAI_API_KEY",
        price_id="openai",
        organization=organization,
        endpoints=(
            metered("/v1/chat/completions", Chat(cap_field="max_completion_tokens")),
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
        ),
    )
