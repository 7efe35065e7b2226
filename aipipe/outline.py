"""Reads what matters of a JSON object that is too large to be read whole, or too odd.

Answers hold what a model wrote, and with it what parsers choke on: half a character, numbers beyond measure, a
thousand lists in each other. The usage beside that is good all the same.
"""

from __future__ import annotations

import json
import re
from mmap import mmap
from typing import Any

LARGE = 2**16  # bytes of a member's list or object, from which on it is left out

# Up to the next bracket that isn't in a string.
_BRACKET = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+"|[^"\[\]{}]++)*+([\[\]{}])', re.DOTALL)


def outline(body: bytes | mmap) -> dict[str, Any] | None:
    """The object in `body` with null in the place of each member's list or object that is large or can't be read.

    None where there is no object; an empty one where it is cut short, or isn't JSON at all.
    """
    pieces: list[bytes] = []
    depth = at = kept = start = 0
    while mark := _BRACKET.match(body, at):
        at = mark.end()
        opens = mark[1] in b"[{"
        if depth == 0 and mark[0].lstrip() != b"{":
            return None
        depth += 1 if opens else -1
        if depth == 2 and opens:
            start = at - 1
        elif depth == 1 and not opens and (at - start > LARGE or _loaded(body[start:at]) is None):
            pieces += (body[kept:start], b"null")
            kept = at
        elif depth == 0:
            return _loaded(b"".join((*pieces, body[kept:at]))) or {}
    return {} if depth else None


def _loaded(text: bytes) -> Any:
    """What the text says, read generously, in texts and numbers that can be kept; None where it says nothing."""
    try:
        found = json.loads(text.decode("utf-8", "replace"), parse_int=_number)
        return json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"), parse_int=_number)
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 else float(digits)
