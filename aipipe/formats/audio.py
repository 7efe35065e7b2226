"""Speech and transcription: https://platform.openai.com/docs/api-reference/audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipipe.admission import Ask
from aipipe.errors import InvalidRequest, NotAllowed
from aipipe.formats.base import JSON, Context, OpenAIFamily, Reading, parse
from aipipe.sse import Event
from aipipe.usage_parsing import Usage

TELLING = frozenset({"json", "verbose_json", "diarized_json"})


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
    if isinstance(duration, bool) or not isinstance(duration, int | float) or duration <= 0:
        return None
    return Usage({"audio_seconds": duration, "input_audio_seconds": duration})


class Transcription(OpenAIFamily):
    """A recording to text. How long it is, and so what it costs, is known only from the answer."""

    def ask(self, body: JSON, context: Context) -> Ask:
        if body.get("response_format", "json") not in TELLING:
            raise NotAllowed(
                "AI Pipe can't see the cost of an answer in text alone: ask for response_format json or verbose_json."
            )
        return Ask(input_bytes=0, output=False, unbounded=True)

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
        if body.get("stream_format") == "sse":
            return Ask(input_bytes=context.size, output=False, unbounded=True)
        return Ask(input_bytes=context.size, output=False, told={"input_characters": len(text)})

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
