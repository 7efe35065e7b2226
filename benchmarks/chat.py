"""`json` and `stream`: what a request and a chunk of a stream cost, beside those who do the same, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import median

import requests

from benchmarks import answers, load, servers, tables
from benchmarks.servers import Server

Start = Callable[[Server], AbstractContextManager[Server]]
BASELINES: tuple[Start, ...] = (servers.bare, servers.flask)


def json(
    peers: Sequence[Start] = (), *, rounds: int = 9, count: int = 600, connections: int = 16, warm: int = 1_500
) -> None:
    """A metered JSON request, everything on: token, hold, price, ledger."""
    with ExitStack() as stack:
        everyone = started(stack, peers)
        for server in everyone:
            load.requests(server, answers.question(), warm, connections)  # JavaScript is compiled as it runs
        found = [
            [load.requests(server, answers.question(), count, connections) for server in everyone]
            for _ in range(rounds)
        ]
        ours = next(server for server in everyone if server.name == "AI Pipe")
        check_charged(ours, (warm + rounds * count) * answers.COST)
    cpu = turns(everyone, [[1e3 * one.cpu / count for one in each] for each in found])
    rate = turns(everyone, [[count / one.seconds for one in each] for each in found])
    middle = turns(everyone, [[1e3 * median(one.latencies) for one in each] for each in found])
    tables.show(
        f"A JSON request: {rounds} turns of {count} on {connections} connections, one process each",
        ["", "CPU per request", "AI Pipe's is × this", "requests/s", "median wait"],
        [
            [name, *against(name, cpu, 2, " ms"), tables.spread(rate[name], 0), tables.spread(middle[name], 1, " ms")]
            for name in cpu
        ],
    )


def stream(
    peers: Sequence[Start] = (), *, rounds: int = 3, count: int = 100, chunks: int = 40, pause: int = 100
) -> None:
    """A chunk of a stream, on a hundred of them at once."""
    body = answers.question(stream=True, user=f"{chunks}x{pause}ms")
    with ExitStack() as stack:
        everyone = started(stack, peers)
        found = [
            [load.streams(server, [load.request(server, body)] * count, chunks) for server in everyone]
            for _ in range(rounds)
        ]
        ours = next(server for server in everyone if server.name == "AI Pipe")
        check_charged(ours, rounds * count * answers.COST)
    cpu = turns(everyone, [[1e6 * one.cpu / one.chunks for one in each] for each in found])
    delay = turns(everyone, [[1e3 * median(one.delays) for one in each] for each in found])
    slow = turns(everyone, [[1e3 * sorted(one.delays)[len(one.delays) * 99 // 100] for one in each] for each in found])
    tables.show(
        f"A stream's chunk: {rounds} turns of {count} streams at once, {chunks} chunks each, one every {pause} ms",
        ["", "CPU per chunk", "AI Pipe's is × this", "on its way, median", "99 %", "added at the median"],
        [
            [
                name,
                *against(name, cpu, 0, " µs"),
                tables.spread(delay[name], 2, " ms"),
                tables.spread(slow[name], 1, " ms"),
                added(name, delay),
            ]
            for name in cpu
        ],
    )


def started(stack: ExitStack, peers: Sequence[Start]) -> list[Server]:
    """The provider, and everyone in front of it."""
    provider = stack.enter_context(servers.upstream())
    return [provider, *(stack.enter_context(start(provider)) for start in (*BASELINES, servers.aipipe, *peers))]


def turns(everyone: Sequence[Server], found: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """What was found of each server, turn by turn."""
    return {server.name: [each[at] for each in found] for at, server in enumerate(everyone)}


def against(name: str, cpu: dict[str, list[float]], digits: int, unit: str) -> list[str]:
    """A server's CPU, and how many times it AI Pipe takes."""
    ratio = "" if name in ("direct", "AI Pipe") else tables.ratio(cpu["AI Pipe"], cpu[name])
    return [tables.spread(cpu[name], digits, unit), ratio]


def added(name: str, delay: dict[str, list[float]]) -> str:
    """What a gateway adds to the way from the provider: the others are providers themselves."""
    gateway = name in ("AI Pipe", "Portkey")
    return (
        tables.spread([a - b for a, b in zip(delay[name], delay["direct"], strict=True)], 2, " ms") if gateway else ""
    )


def check_charged(server: Server, cost: int) -> None:
    """Raises Failed unless just that was booked, in nanodollars, so that speed isn't measured on mistakes."""
    found = requests.get(f"http://{servers.HOST}:{server.port}/usage", headers=server.headers, timeout=60).json()
    if round(found["cost"] * 1e9) != cost:
        raise servers.Failed(f"{found['cost']} dollars were booked instead of {cost / 1e9}")
