"""What is documented of models beside their prices: how long an answer may be, who thinks first, what an image costs.

Sources: https://platform.openai.com/docs/models, https://platform.openai.com/docs/guides/images-vision,
https://docs.anthropic.com/en/docs/about-claude/models/overview, https://ai.google.dev/gemini-api/docs/models,
https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

IMAGE_TOKENS = 5_000  # more than any model below takes for an image, but where it says so
PATCHES = 10_000  # of an image at its original size, by OpenAI's newer models, which count each by a factor
TILES = 24 * 258  # as many tiles as an image of at most 3,072 pixels a side is cut into by Gemini


@dataclass(frozen=True, slots=True)
class Limits:
    """`most` output tokens (None: not known), whether the model `thinks` before it writes, tokens of an `image`,
    whether it `draws` what it answers."""

    most: int | None = None
    thinks: bool = False
    image: int = IMAGE_TOKENS
    draws: bool = False


# The first pattern that matches the whole name decides; dates and the like may follow a name.
FAMILIES: tuple[tuple[str, Limits], ...] = (
    (r"gpt-3\.5-turbo(?!-instruct).*", Limits(4_096)),
    (r"gpt-4-(turbo|1106|0125|vision).*", Limits(4_096)),
    (r"gpt-4o-2024-05-13", Limits(4_096)),
    (r"gpt-4o-mini.*", Limits(16_384, image=48_169)),
    (r"(gpt|chatgpt)-4o.*|gpt-4\.5.*", Limits(16_384)),
    (r"gpt-4\.1.*", Limits(32_768)),
    (r"gpt-5[\w.]*-chat.*", Limits(16_384)),
    (r"gpt-5[\w.]*-image.*", Limits(128_000, thinks=True, draws=True)),
    (r"gpt-(5\.[2-9]|6).*-nano.*", Limits(128_000, thinks=True, image=int(PATCHES * 2.46))),
    (r"gpt-(5\.[2-9]|6).*-mini.*", Limits(128_000, thinks=True, image=int(PATCHES * 1.62))),
    (r"gpt-(5\.[2-9]|6).*", Limits(128_000, thinks=True, image=int(PATCHES * 1.2))),
    (r"gpt-[56].*", Limits(128_000, thinks=True)),
    (r"o1-mini.*", Limits(65_536, thinks=True)),
    (r"o1-preview.*", Limits(32_768, thinks=True)),
    (r"o[134](-.*)?", Limits(100_000, thinks=True)),
    (r"claude-3-(opus|sonnet|haiku).*", Limits(4_096)),
    (r"claude-3[.-]5.*", Limits(8_192)),
    (r"claude-opus-4(-[01])?(-\d{8})?|claude-opus-4\.1", Limits(32_000)),
    (r"claude-(opus-4[.-][678]|sonnet-4[.-]6).*", Limits(128_000)),
    (r"claude-(3[.-]7|sonnet-4|opus-4|haiku-4).*", Limits(64_000)),
    (r"claude-(opus|sonnet|haiku|fable|mythos)-5.*", Limits(128_000, thinks=True)),
    (r"gemini-(1\.5|2\.0).*", Limits(8_192, image=TILES)),
    (r"gemini-.*tts.*", Limits(16_384)),
    (r"gemini-.*(image|banana).*", Limits(32_768, thinks=True, image=TILES, draws=True)),
    (r"gemini-(2\.5|3|4|flash|pro).*", Limits(65_536, thinks=True, image=TILES)),
    (r"deepseek-(r1|reasoner).*", Limits(thinks=True)),
    (r"smollm2-.*", Limits(8_192)),
)
PATTERNS = tuple((re.compile(pattern), limits) for pattern, limits in FAMILIES)


@lru_cache(maxsize=2048)  # names come from callers
def limits(model: str) -> Limits:
    """The limits of a model, named as its provider or as OpenRouter (`openai/gpt-4o:free`) names it."""
    name = model.lower().rpartition("/")[2].partition(":")[0]
    return next((limits for pattern, limits in PATTERNS if pattern.fullmatch(name)), Limits())
