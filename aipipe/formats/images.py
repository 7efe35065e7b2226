"""Images: https://platform.openai.com/docs/api-reference/images. What one costs is known only from the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aipipe.admission import BYTES_PER_TOKEN, Ask
from aipipe.errors import NotAllowed
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reader, Reading, count, parse
from aipipe.sse import Event
from aipipe.usage_parsing import Flavour, Usage

IMAGES = Flavour("openai", "images")

# The output tokens of an image at the size that takes the most: gpt-image-1.5's at low and medium quality,
# gpt-image-2's at high, which is what a quality that isn't told may turn out to be.
# https://developers.openai.com/api/docs/guides/image-generation#calculating-costs
IMAGE_TOKENS = {"low": 408, "medium": 1_584}
DEAREST_IMAGE_TOKENS = 7_024
GIVEN_IMAGE_TOKENS = 6_240  # of an image to be edited, in high fidelity


def image_usage(usage: Any) -> Usage | None:
    """The usage, all of its output taken for images where the answer doesn't divide it."""
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("input_tokens_details") or {"text_tokens": usage.get("input_tokens", 0), "image_tokens": 0}
    found = IMAGES.read({"usage": {**usage, "input_tokens_details": details}})
    if found is None or usage.get("output_tokens_details"):
        return found
    return replace(found, counts={**found.counts, "output_image_tokens": found.output_tokens})


def presumed_images(body: JSON, wanted: int, size: int) -> dict[str, int]:
    """The usage of `wanted` images, made after a text and perhaps after images among the form's files."""
    given = sum(len(value) for value in body.values() if isinstance(value, list)) * GIVEN_IMAGE_TOKENS
    made = IMAGE_TOKENS.get(str(body.get("quality")), DEAREST_IMAGE_TOKENS)
    text = min(size, len(str(body.get("prompt"))) // BYTES_PER_TOKEN)
    return {
        "input_tokens": (given + text) * wanted,
        "input_image_tokens": given * wanted,
        "output_tokens": made * wanted,
        "output_image_tokens": made * wanted,
    }


class Images(OpenAIFamily):
    def ask(self, body: JSON, context: Context) -> Ask:
        told = str(body.get("n"))
        wanted = count({"n": int(told)} if told.isdecimal() and len(told) < 9 else body, "n", most=100) or 1
        if body.get("output_format") == "svg" or body.get("svg"):
            raise NotAllowed("AI Pipe can't price SVG, for which another model is billed as well: ask for png or webp.")
        if wanted > 1 and body.get("stream") not in (None, False, "false"):
            raise NotAllowed("AI Pipe can't price a stream of several images: leave out stream, or n.")
        return Ask(input_bytes=0, output=False, unbounded=True, presumed=presumed_images(body, wanted, context.size))

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
