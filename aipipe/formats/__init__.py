"""The wire formats: how a request's bounds are read and set, and how an answer tells what it used."""

from __future__ import annotations

from aipipe.formats.base import JSON, UNREADABLE, Context, Format, Reading, Watch, parse
from aipipe.formats.chat import Chat
from aipipe.formats.completions import Completions
from aipipe.formats.embeddings import Embeddings
from aipipe.formats.messages import Messages
from aipipe.formats.responses import Responses

__all__ = [
    "JSON",
    "UNREADABLE",
    "Chat",
    "Completions",
    "Context",
    "Embeddings",
    "Format",
    "Messages",
    "Reading",
    "Responses",
    "Watch",
    "parse",
]
