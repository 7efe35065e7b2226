"""Gemini's own way to embed content, one or many at once: https://ai.google.dev/api/embeddings."""

from __future__ import annotations

from aipipe.admission import Ask
from aipipe.formats.base import JSON, Context, Reading
from aipipe.formats.gemini import fields, media, message, messages, refuse_others
from aipipe.formats.gemini_generate import Generate, GenerateWatch

ONE = frozenset({"model", "content", "taskType", "title", "outputDimensionality"})
MANY = frozenset({"model", "requests"})


class Embed(Generate):
    """Nothing is written, so the input is all there is to pay. Older models tell no usage: it is estimated."""

    def ask(self, body: JSON, context: Context) -> Ask:
        asked = fields(body)
        requests = [asked]
        if "requests" in asked:
            refuse_others(asked, MANY, "requests")
            requests = [*messages(asked["requests"], "requests")]
        for request in requests:
            refuse_others(request, ONE, "embeddings")
        found = media(message(request.get("content"), "content") for request in requests)
        return found.ask(context, output=False)

    def cap(self, body: JSON, tokens: int | None) -> None:
        """There is nothing to cap."""

    def read(self, answer: JSON) -> Reading:
        watch = GenerateWatch()
        watch.take(answer)
        return watch.reading
