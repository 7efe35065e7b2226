"""Static files under names that hold a hash of their content, so that browsers may keep them for ever."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

STATIC = Path(__file__).with_name("static")


@cache
def names() -> frozenset[str]:
    """The static files that there are."""
    return frozenset(file.relative_to(STATIC).as_posix() for file in STATIC.rglob("*") if file.is_file())


@cache
def fingerprint(name: str) -> str:
    """The hash of a static file's content. Raises FileNotFoundError when there is no such file."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


@cache
def content(name: str, *, packed: bool) -> bytes:
    """A static file, gzipped if `packed`. Raises FileNotFoundError when there is no such file."""
    plain = (STATIC / name).read_bytes()
    return gzip.compress(plain, mtime=0) if packed else plain


def hashed(name: str) -> str:
    """The path under which pages name a static file: `app.css` is at `/assets/app-0123456789ab.css`."""
    stem, dot, ending = name.rpartition(".")
    return f"/assets/{stem}-{fingerprint(name)}{dot}{ending}"


def plain(path: str) -> str | None:
    """The static file that `path`, the end of what `hashed` gave, names; None unless its content is still the same."""
    stem, dot, ending = path.rpartition(".")
    stem, _, found = stem.rpartition("-")
    name = f"{stem}{dot}{ending}"
    # Looked up, not opened: what a path leads to may be anything, and without end.
    return name if name in names() and fingerprint(name) == found else None
