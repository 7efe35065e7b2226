"""What became of processes that a test started or killed."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def left_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that don't end within ten seconds. A dead one that nobody collects, as in a container, has ended."""
    _, alive = psutil.wait_procs(list(processes), timeout=10)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
