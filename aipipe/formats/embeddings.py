"""Embeddings: https://platform.openai.com/docs/api-reference/embeddings."""

from __future__ import annotations

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reading
from aipipe.formats.chat import ChoicesWatch
from aipipe.usage_parsing import Flavour

EMBEDDINGS = Flavour("openai", "embeddings")


class Embeddings(OpenAIFamily):
    """Nothing is written, so the input is all there is to pay."""

    def ask(self, body: JSON, context: Context) -> Ask:
        if body.get("stream"):
            raise InvalidRequest("Embeddings can't be streamed: leave out stream.")
        return Ask(input_bytes=context.size, output=False)

    def cap(self, body: JSON, tokens: int | None) -> None:
        """There is nothing to cap."""

    def read(self, answer: JSON) -> Reading:
        return self.watch().whole(answer)

    def watch(self) -> ChoicesWatch:
        return ChoicesWatch(EMBEDDINGS)
