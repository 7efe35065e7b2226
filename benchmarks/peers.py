"""`peers`: the same work done by Portkey's gateway, which forwards and does nothing else (no token, budget or cost)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from benchmarks import chat, servers

FOLDER = servers.ROOT / ".venv/peers"
# Later versions of these two break its streaming.
PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"hono": "4.9.7", "@hono/node-server": "1.13.7"},
}


def run() -> None:
    """`json` and `stream` with Portkey's gateway on the same work, where npm can get it."""
    reason = unavailable()
    if reason:
        print(f"\nPortkey is not measured: {reason}")
    peers = [] if reason else [servers.portkey]
    chat.json(peers)
    chat.stream(peers)


def unavailable() -> str | None:
    """Installs Portkey's gateway, once; or tells why it can't be had."""
    if servers.PORTKEY.exists():
        return None
    if not (npm := shutil.which("npm")):
        return "there is no npm, which brings Portkey's gateway"
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text(json.dumps(PACKAGE))
    print("Getting Portkey's gateway from npm, this once.", file=sys.stderr)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    return f"npm can't get Portkey's gateway: {done.stderr.strip()[-300:]}" if done.returncode else None
