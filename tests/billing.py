"""What a provider would charge its customer for: the usage that its answer tells, whether or not anybody heard."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from wire import Received

USAGE = re.compile(rb'"usage": ?(\{(?:[^{}]|\{[^{}]*\})*\})')
KEY_HEADERS = ("Authorization", "x-api-key", "x-goog-api-key")
MODEL = re.compile(rb'"model": ?"([^"]*)"')


@dataclass(frozen=True)
class Billed:
    """Input and output tokens of one answer by a model."""

    model: str
    input_tokens: int
    output_tokens: int


def billed(request: Received, told: bytes) -> Billed | None:
    """What the answer to `request`, as far as it was `told`, says last; None while it says nothing that makes sense.

    In the shapes of OpenAI's chat completions and embeddings, at most two braces deep. What is asked with a caller's
    own key (`sk-...`, `AIza...`) is charged to that.
    """
    keys = [value.removeprefix("Bearer ") for name in KEY_HEADERS for value in request.all(name)]
    if any(key.startswith(("sk-", "AIza")) for key in keys):
        return None
    found, model = USAGE.findall(told), MODEL.search(request.body)
    if not found or not model:
        return None
    try:
        usage = json.loads(found[-1])
    except ValueError:
        return None
    counts = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if not all(type(count) is int and count >= 0 for count in counts):
        return None
    return Billed(model[1].decode(errors="replace"), *counts)
