"""The documents as tests read them: blocks of code, the calls in them, and the answers that they promise.

A call is `curl …` in a block of `sh`. Its answer is the block that follows: `http` with a status, the headers that
matter and the body, or `json` with the body alone.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "tests" / "README.md"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONTINUED = re.compile(r"\\\n\s*")
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(path.read_text(encoding="utf-8"))]


def code(path: Path, language: str) -> list[str]:
    """The texts of all blocks of a language."""
    return [block.text for block in blocks(path) if block.language == language]


def commands(text: str) -> list[str]:
    """The lines of a shell block, those joined that a backslash continues, without comments."""
    lines = _CONTINUED.sub(" ", text).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Answer:
    """What a document promises."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def streams(self) -> bool:
        return self.headers.get("Content-Type") == "text/event-stream"


@dataclass
class Call:
    """A request as curl would send it. `forms` are the fields of `-F`, a file as `@name`."""

    method: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    forms: list[tuple[str, str]] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Path and query."""
        return "/" + self.url.split("://", 1)[1].partition("/")[2]


def calls(path: Path, variables: Mapping[str, str]) -> Iterator[tuple[Call, Answer]]:
    """Every documented call with its answer."""
    for block, following in pairwise(blocks(path)):
        told = [line for line in commands(block.text) if line.startswith("curl ")] if block.language == "sh" else []
        if told and following.language in ("http", "json"):
            assert len(told) == 1, f"One call before an answer: {told}"
            yield curl(told[0], variables), answer(following)


def answer(block: Block) -> Answer:
    if block.language == "json":
        return Answer(200, {}, block.text)
    head, _, body = block.text.partition("\n\n")
    first, *lines = head.splitlines()
    return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)


def curl(command: str, variables: Mapping[str, str]) -> Call:
    """What a command line asks for. Raises KeyError for an option or a variable that isn't known here."""
    words = iter(shlex.split(_VARIABLE.sub(lambda name: variables[name[1]], command))[1:])
    call = Call()
    for word in words:
        if word in ("-N", "-s"):
            continue
        if not word.startswith("-"):
            call.url = word
            continue
        value = next(words)
        if word == "-H":
            name, _, text = value.partition(": ")
            call.headers[name] = text
        elif word == "-F":
            call.forms.append((value.partition("=")[0], value.partition("=")[2]))
        else:
            setattr(call, {"-X": "method", "-d": "data"}[word], value)
    call.method = call.method or ("GET" if call.data is None and not call.forms else "POST")
    if call.data is not None:
        call.headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return call


def shape(value: Any) -> Any:
    """What two answers have in common if they mean the same: names, kinds, and how deep their lists are."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
