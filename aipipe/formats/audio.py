"""Speech and transcription: https://platform.openai.com/docs/api-reference/audio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aipipe.admission import BYTES_PER_TOKEN, Ask
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reading, parse, refuse_stored_voice
from aipipe.sse import Event
from aipipe.usage_parsing import Usage

TELLING = frozenset({"json", "verbose_json", "diarized_json"})

# What is presumed of a recording until the answer tells: that it was made by a browser, of somebody who speaks.
BYTES_PER_SECOND = 4_000
# gpt-4o-transcribe is said to cost $0.006 a minute, at $6 for a million audio tokens and $10 for a million of text.
AUDIO_TOKENS_PER_SECOND = 17
TEXT_TOKENS_PER_SECOND = 3
SPOKEN_TOKENS_PER_CHARACTER = 2  # of gpt-4o-mini-tts: about six for each token of the text


def audio_usage(usage: Any) -> Usage | None:
    """Seconds or tokens, as transcriptions tell them; tokens as streamed speech does."""
    if not isinstance(usage, Mapping):
        return None
    if usage.get("type") == "duration":
        return seconds(usage.get("seconds"))
    details = usage.get("input_token_details")
    counts = {
        "input_tokens": usage.get("input_tokens"),
        "input_audio_tokens": details.get("audio_tokens") if isinstance(details, Mapping) else None,
        "output_tokens": usage.get("output_tokens"),
    }
    known = {name: value for name, value in counts.items() if type(value) is int and value > 0}
    return Usage(known, raw=usage) if known else None


def seconds(duration: Any) -> Usage | None:
    """Whole seconds, as they are billed: the answer's own usage rounds its duration up."""
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < math.inf:
        return None
    return Usage(recording(math.ceil(duration)))


def recording(length: int) -> dict[str, int]:
    return {"audio_seconds": length, "input_audio_seconds": length}


def presumed_recording(size: int) -> dict[str, int]:
    """The usage of a recording of `size` bytes, by whatever it is billed."""
    length = -(-size // BYTES_PER_SECOND)
    sounds = length * AUDIO_TOKENS_PER_SECOND
    words = length * TEXT_TOKENS_PER_SECOND
    return {**recording(length), "input_tokens": sounds, "input_audio_tokens": sounds, "output_tokens": words}


class Transcription(OpenAIFamily):
    """A recording to text. How long it is, and so what it costs, is known only from the answer."""

    def ask(self, body: JSON, context: Context) -> Ask:
        if str(body.get("response_format", "json")) not in TELLING:
            raise NotAllowed(
                "AI Pipe can't see the cost of an answer in text alone: ask for response_format json or verbose_json."
            )
        return Ask(input_bytes=0, output=False, unbounded=True, presumed=presumed_recording(context.size))

    def cap(self, body: JSON, tokens: int | None) -> None:
        """There is nothing to cap."""

    def read(self, answer: JSON) -> Reading:
        return Reading(usage=audio_usage(answer.get("usage")) or seconds(answer.get("duration")))

    def watch(self) -> AudioWatch:
        return AudioWatch("transcript.text.done")


class Translation(Transcription):
    """A recording to English text, by models that are billed by the minute and tell it in one form of answer."""

    def ask(self, body: JSON, context: Context) -> Ask:
        if body.get("response_format") != "verbose_json":
            raise NotAllowed("AI Pipe can't see the cost of this: ask for response_format verbose_json.")
        return super().ask(body, context)


class Speech(Transcription):
    """Text to a recording, billed by the character; or by tokens, where the answer is a stream that tells them."""

    def ask(self, body: JSON, context: Context) -> Ask:
        text = body.get("input")
        if not isinstance(text, str) or not text:
            raise InvalidRequest('AI Pipe needs the text to speak in "input".')
        refuse_stored_voice(body)
        if body.get("stream_format") == "sse":
            spoken = len(text) * SPOKEN_TOKENS_PER_CHARACTER
            tokens = {"input_tokens": context.size // BYTES_PER_TOKEN, "output_tokens": spoken}
            return Ask(input_bytes=0, output=False, unbounded=True, presumed=tokens)
        return Ask(input_bytes=0, output=False, presumed={"input_characters": len(text)}, told=True)

    def watch(self) -> AudioWatch:
        return AudioWatch("speech.audio.done")


class AudioWatch:
    """Follows a stream whose last event carries the usage."""

    def __init__(self, last: str) -> None:
        self.reading = Reading()
        self._last = last

    def see(self, event: Event) -> bool:
        found = parse(event.data)
        if found is None:
            return event.data == b"[DONE]"
        self.reading.wrote(found.get("delta"))
        if found.get("usage"):
            self.reading.usage = audio_usage(found["usage"])
        return found.get("type") in {self._last, "error"}
