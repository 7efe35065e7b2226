"""The wire formats: how a request's bounds are read and set, and how an answer tells what it used."""

from __future__ import annotations

from aipipe.formats.audio import Speech, Transcription, Translation
from aipipe.formats.base import JSON, UNREADABLE, Context, Format, Reading, Watch, check_parts, parse
from aipipe.formats.chat import Chat
from aipipe.formats.compatible_chat import CompatibleChat
from aipipe.formats.completions import Completions
from aipipe.formats.embeddings import Embeddings
from aipipe.formats.gemini_chat import GeminiChat
from aipipe.formats.gemini_embed import Embed
from aipipe.formats.gemini_generate import Generate
from aipipe.formats.images import Images
from aipipe.formats.messages import Messages
from aipipe.formats.responses import Responses

__all__ = [
    "JSON",
    "UNREADABLE",
    "Chat",
    "CompatibleChat",
    "Completions",
    "Context",
    "Embed",
    "Embeddings",
    "Format",
    "GeminiChat",
    "Generate",
    "Images",
    "Messages",
    "Reading",
    "Responses",
    "Speech",
    "Transcription",
    "Translation",
    "Watch",
    "check_parts",
    "parse",
]
