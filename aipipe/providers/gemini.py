"""Gemini: https://ai.google.dev/api, in its own form and in OpenAI's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats import JSON, Embed, Embeddings, Format, GeminiChat, Generate
from aipipe.formats.gemini import fields, messages
from aipipe.providers.base import Endpoint, Provider, free, metered

MODEL = r"/models/(?P<model>[\w.-]+)"
# All that a query may say. Others choose which fields of an answer come, or wrap it: the usage must come, and as JSON.
# https://cloud.google.com/apis/docs/system-parameters
QUERY = frozenset({"alt", "prettyPrint", "pageSize", "page_size", "pageToken", "page_token"})
GENERATE = Generate()


@dataclass(frozen=True)
class Gemini(Provider):
    def credentials(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def check_query(self, query: str) -> None:
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "key":
                raise NotAllowed("AI Pipe takes a token in a header, never in the address: leave out ?key=.")
            if name not in QUERY or (name == "alt" and value not in {"sse", "json"}):
                raise NotAllowed(f"AI Pipe doesn't allow {name[:40]}={value[:40]} on its shared Gemini key.")

    def model_of(self, endpoint: Endpoint, path: str, body: JSON) -> object:
        """The model in the path, or in the body of a request in OpenAI's form."""
        found = endpoint.path.fullmatch(path)
        model = found and found.groupdict().get("model")
        told = fields(body)
        named = [item.get("model") for item in (told, *messages(told.get("requests"), "requests"))]
        plain = [name.removeprefix("models/") if isinstance(name, str) else name for name in named if name is not None]
        if model and any(name != model for name in plain):
            raise InvalidRequest(f"AI Pipe expected {model} in the body's model, as in the path.")
        return model or (plain[0] if plain else None)


def method(name: str, format: Format, *, array: bool = False) -> Endpoint:
    """A method of a model: its name follows the model's after a colon."""
    return Endpoint("POST", re.compile(f"{MODEL}:{name}", re.ASCII), name, format, array=array)


GEMINI = Gemini(
    name="geminiv1beta",
    base="https://generativelanguage.googleapis.com/v1beta",
    key_variable="GEMINI_API_KEY",
    price_id="google",
    bills_on=True,
    comments=False,
    endpoints=(
        method("generateContent", GENERATE),
        method("streamGenerateContent", GENERATE, array=True),
        method("embedContent", Embed()),
        method("batchEmbedContents", Embed()),
        metered("/openai/chat/completions", GeminiChat()),
        metered("/openai/embeddings", Embeddings()),
        free("GET", "/models"),
        free("GET", "/models/{}"),
        Endpoint("POST", re.compile(f"{MODEL}:countTokens", re.ASCII), "countTokens", check=GENERATE.refuse),
    ),
)
