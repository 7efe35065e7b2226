"""`script/bench NAME...`, `script/bench all`, `script/bench --list`."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable

from benchmarks import tables

# Each is a function without arguments that prints its table, and raises when an answer is wrong.
NAMES = {
    "json": "benchmarks.chat:json",
    "stream": "benchmarks.chat:stream",
    "streams": "benchmarks.crowd:run",
    "similarity": "benchmarks.similarity:run",
    "ledger": "benchmarks.ledger:run",
    "start": "benchmarks.start:serve",
    "first-run": "benchmarks.start:first_run",
    "peers": "benchmarks.peers:run",
}
NOT_IN_ALL = {"json", "stream", "first-run"}  # what `peers` does too, and what installs everything anew


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description="Measures AI Pipe, and what it is compared with.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of: {', '.join(NAMES)}")
    parser.add_argument("--list", action="store_true", help="tell the names, and what each measures")
    told = parser.parse_args()
    names = [name for name in NAMES if name not in NOT_IN_ALL] if told.names == ["all"] else told.names
    if unknown := set(names) - set(NAMES):
        parser.error(f"there is no {unknown.pop()}; there are {', '.join(NAMES)}")
    if told.list or not names:
        for name in NAMES:
            print(f"{name:12}{(measure(name).__doc__ or '').splitlines()[0]}")
        return
    print(f"On {tables.machine()}", flush=True)
    failed = [name for name in names if not measured(name)]
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}")


def measured(name: str) -> bool:
    """Whether it could be measured: where it couldn't, that is told, and the others go on."""
    try:
        measure(name)()
    except Exception:
        print(f"\n{name} failed:\n{traceback.format_exc()}", flush=True)
        return False
    return True


def measure(name: str) -> Callable[[], None]:
    module, _, function = NAMES[name].partition(":")
    found: Callable[[], None] = getattr(importlib.import_module(module), function)
    return found


if __name__ == "__main__":
    main()
