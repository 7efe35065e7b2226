"""What is printed: the machine, and tables that can be pasted into a document."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median


def machine() -> str:
    """The machine and what runs on it, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("gunicorn", "gevent", "flask"))
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}, {packages}"
    )


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table in Markdown, its columns aligned."""
    lines = [columns, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    print(f"\n{title}\n")
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """The median, and in parentheses the least and the greatest."""
    middle, least, most = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle}{unit} ({least}-{most})"


def ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """How many times the others' the values are, turn by turn. The system's clock may see nothing of a short turn."""
    return spread([one / other if other else inf for one, other in zip(values, others, strict=True)])
