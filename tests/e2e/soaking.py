"""`script/soak [MINUTES] [SEED] [DATABASE]`: everything at once on a real server, whose workers are killed every 20 s.

Prints what was asked and what came of it, the money booked beside the money that the provider charged, and memory.
Exits with 1 when a cent is missing, a hold is left, or something failed that should not have.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from aipipe.money import show
from e2e.answers import CHAT, question
from e2e.calls import ask, calling
from e2e.conftest import Site, running
from e2e.moody import Moody
from e2e.server import Caller, Server, eventually

AT_ONCE = 24
PEOPLE = 12
KILL_EVERY = 20.0
NEAR = 3.0  # seconds around a kill in which connections may break
PAGES = (
    "/",
    "/docs",
    "/docs/operations",
    "/usage",
    "/admin",
    "/admin?days=30&sort=cost",
    "/admin/people.csv",
    "/playground",
)
TARGET = f"/openai{CHAT}"


@dataclass
class Soak:
    site: Site
    random: Random
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)  # when connections broke
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.server: Server = self.site.server
        self.dana = self.server.caller("dana@example.com")
        self.people = [self.server.caller() for _ in range(PEOPLE)]
        self.poor = self.server.caller("bob@poor.example")
        self.actions: list[tuple[Callable[[Caller], str], str, set[str], int]] = [
            (lambda who: self.chat(who, "well", stream=True), "stream", {"200"}, 30),
            (lambda who: self.chat(who, "well"), "whole answer", {"200"}, 20),
            (lambda who: self.chat(who, "dawdle", stream=True), "slow stream", {"200"}, 8),
            (lambda who: self.leave(who, "openai"), "leaves a stream", {"left"}, 10),
            (lambda who: self.leave(who, "patient"), "leaves, billed on", {"left"}, 5),
            (lambda who: self.chat(who, "drop", stream=True), "provider drops", {"cut"}, 4),
            (lambda who: self.chat(who, "reset", stream=True), "provider resets", {"cut"}, 4),
            (lambda who: self.chat(who, "refuse"), "provider refuses", {"400", "401", "429", "500", "503"}, 4),
            (lambda who: self.chat(who, "nonsense"), "provider's nonsense", {"200"}, 3),
            (lambda who: self.chat(self.poor, "well"), "no money left", {"429"}, 3),
            (lambda who: self.chat(Caller("", "x.y.z"), "well"), "bad token", {"401"}, 2),
            (self.similarity, "similarity", {"200"}, 4),
            (lambda who: str(ask(self.server, "/usage", who).status), "/usage as JSON", {"200"}, 4),
            (
                lambda who: str(ask(self.server, "/proxy/http://127.0.0.1/").status),
                "/proxy to itself",
                {"400", "403"},
                2,
            ),
            (self.page, "page or dashboard", {"200"}, 12),
        ]

    def chat(self, who: Caller, mood: str, *, stream: bool = False) -> str:
        asked = question(stream=stream, max_tokens=50, messages=[{"role": "user", "content": mood}])
        received = ask(self.server, TARGET, who, asked)
        if not stream or received.status != 200:
            return str(received.status)
        return (
            "200" if received.body.endswith(b"data: [DONE]\n\n") else "cut" if b'"error"' in received.body else "torn"
        )

    def leave(self, who: Caller, provider: str) -> str:
        asked = question(stream=True, max_tokens=50, messages=[{"role": "user", "content": "dawdle"}])
        with calling(self.server, f"/{provider}{CHAT}", who, asked) as call:
            if call.response.status != 200:
                return str(call.response.status)
            call.line()
            call.leave(reset=self.random.random() < 0.5)
        return "left"

    def similarity(self, who: Caller) -> str:
        docs = [f"document {number}" for number in range(self.random.randint(2, 300))]
        return str(ask(self.server, "/similarity", who, {"docs": docs, "model": "small"}).status)

    def page(self, _who: Caller) -> str:
        headers = {"Accept": "text/html", "Cookie": self.server.signed_in(self.dana)}
        return str(ask(self.server, self.random.choice(PAGES), headers=headers).status)

    def work(self) -> None:
        while not self.over.is_set():
            act, name, expected, _ = self.random.choices(self.actions, [each[3] for each in self.actions])[0]
            try:
                outcome = act(self.random.choice(self.people))
            except (OSError, HTTPException) as error:
                outcome = f"broken: {type(error).__name__}"
            if outcome.startswith(("broken", "torn")):
                self.broken.append(time.monotonic())
            elif outcome not in expected:
                self.odd.append(f"{name}: {outcome}")
            self.outcomes[name, outcome] += 1

    def kill(self) -> None:
        """A worker every 20 seconds, by its process id."""
        while not self.over.wait(KILL_EVERY):
            victim = self.random.choice(self.server.workers())
            self.kills.append(time.monotonic())
            victim.kill()

    def unexplained(self) -> int:
        """Connections that broke when nobody had just been killed."""
        return sum(all(not 0 <= moment - kill <= NEAR for kill in self.kills) for moment in self.broken)


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(2**31)
    print(f"Soaking for {minutes:g} minutes, {AT_ONCE} requests at once, with seed {seed}.", flush=True)
    settings: dict[str, Any] = {"AIPIPE_BUDGET": {"*": {"limit": 1_000}, "@poor.example": {"limit": 0.000_01}}}
    if len(sys.argv) > 3:
        settings["AIPIPE_DATABASE_URL"] = sys.argv[3]  # of an empty database
    with (
        TemporaryDirectory() as folder,
        running(Path(folder), Moody(seed), **settings, ADMIN_EMAILS="dana+1@example.com") as site,
    ):
        soak = Soak(site, Random(seed))
        before = memory(site.server)
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            under_way = [pool.submit(soak.work) for _ in range(AT_ONCE)] + [pool.submit(soak.kill)]
            soak.over.wait(minutes * 60)
            soak.over.set()
            for one in under_way:
                one.result(120)
        eventually(lambda: not site.server.ledger.holds(), "all holds are resolved")
        failed = report(soak, before)
        site.balance()
    print("The log holds no traceback, no token and no key.")
    sys.exit(failed)


def memory(server: Server) -> str:
    everyone = [server._master(), *server.workers()]
    return ", ".join(f"{one.memory_info().rss / 2**20:.0f}" for one in everyone if psutil.pid_exists(one.pid))


def report(soak: Soak, before: str) -> bool:
    """Prints the tables; whether anything is wrong."""
    server, worth = soak.server, soak.site.provider.worth  # type: ignore[attr-defined]
    print("\n| what was asked | came of it | times |\n|---|---|---:|")
    for (name, outcome), times in sorted(soak.outcomes.items()):
        print(f"| {name} | {outcome} | {times} |")
    entries = [one for caller in server.callers for one in server.ledger.entries(caller.email, 10_000_000)]
    complete = [one for one in entries if one.ended == "complete" and one.endpoint.endswith("completions")]
    partial = [one for one in entries if one.ended == "partial"]
    wrong = [one for one in complete if worth.get(one.answer_id) != one.cost]
    named = [one for one in partial if one.answer_id in worth]
    rows = [
        ("requests", sum(soak.outcomes.values())),
        ("workers killed", len(soak.kills)),
        ("connections broken by that, or unexplained", f"{len(soak.broken)}, {soak.unexplained()}"),
        ("other surprises", Counter(soak.odd).most_common(8) or 0),
        ("complete answers booked", f"{len(complete)}: ${show(sum(one.cost for one in complete))}"),
        ("the provider charged for these", f"${show(sum(worth.get(one.answer_id, 0) for one in complete))}"),
        ("of another cost than charged, or booked twice",
         f"{len(wrong)}, {len(complete) - len({one.answer_id for one in complete})}"),
        ("partial entries", f"{len(partial)}: ${show(sum(one.cost for one in partial))}"),
        ("of these with an answer's id; whole, these cost",
         f"{len(named)}: ${show(sum(one.cost for one in named))}; ${show(sum(worth[one.answer_id] for one in named))}"),
        ("holds left", len(server.ledger.holds())),
        ("entries equal roll-ups", server.ledger.balanced()),
        ("MB of the master and its workers, before", before),
        ("and after", memory(server)),
    ]  # fmt: skip
    print("\n| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    return bool(soak.odd or wrong or soak.unexplained() or server.ledger.holds() or not server.ledger.balanced())


if __name__ == "__main__":
    main()
