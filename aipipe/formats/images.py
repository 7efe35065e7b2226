"""Images: https://platform.openai.com/docs/api-reference/images. What one costs is known only from the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aipipe.admission import Ask
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reader, Reading, parse
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour, Usage

IMAGES = Flavour("openai", "images")


def image_usage(usage: Any) -> Usage | None:
    """The usage, all of its output taken for images where the answer doesn't divide it."""
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("input_tokens_details") or {"text_tokens": usage.get("input_tokens", 0), "image_tokens": 0}
    found = IMAGES.read({"usage": {**usage, "input_tokens_details": details}})
    if found is None or usage.get("output_tokens_details"):
        return found
    return replace(found, counts={**found.counts, "output_image_tokens": found.output_tokens})


class Images(OpenAIFamily):
    def ask(self, body: JSON, context: Context) -> Ask:
        return Ask(input_bytes=0, output=False, unbounded=True)

    def cap(self, body: JSON, tokens: int | None) -> None:
        """There is nothing to cap: quality and size decide, and they are the caller's."""

    def read(self, answer: JSON) -> Reading:
        return Reading(usage=image_usage(answer.get("usage")))

    def watch(self) -> ImagesWatch:
        return ImagesWatch(IMAGES)


class ImagesWatch(Reader):
    """Follows a stream that ends with `image_generation.completed`, or `image_edit.completed`."""

    def see(self, event: Event) -> bool:
        found = parse(event.data)
        if found is None:
            return event.data == b"[DONE]"
        if found.get("usage"):
            self.reading.usage = image_usage(found["usage"])
        kind = str(found.get("type"))
        return kind.endswith(".completed") or kind == "error"
