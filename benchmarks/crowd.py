"""`streams`: a thousand streams open at once in one worker, and what memory each takes."""

from __future__ import annotations

from benchmarks import answers, load, servers, tables

COLUMNS = (
    "",
    "answers cut or refused",
    "PSS each",
    "RSS each",
    "USS each",
    "PSS before",
    "CPU per chunk",
    "99 % within",
)


def run(*, people: int = 1_000, rounds: int = 2, chunks: int = 12, pause: int = 500) -> None:
    """A thousand people with a stream each, at once, in one worker: errors, and memory for each."""
    everyone = [servers.authorization(number) for number in range(people)]
    rows = []
    with servers.upstream() as provider:
        for start in (servers.bare, servers.flask, servers.aipipe):
            with start(provider) as server:
                load.streams(server, [asked(server, 2, 100, servers.authorization(0))], 2)  # what one needs is loaded
                requests = [asked(server, chunks, pause, each) for each in everyone]
                rows.append(measured(server, requests, chunks, rounds))
    tables.show(
        f"{rounds} turns of {people:,} streams at once, one worker, a chunk every {pause} ms; all of them were whole",
        COLUMNS,
        rows,
    )


def asked(server: servers.Server, chunks: int, pause: int, headers: dict[str, str]) -> bytes:
    return load.request(server, answers.question(stream=True, user=f"{chunks}x{pause}ms"), headers)


def measured(server: servers.Server, requests: list[bytes], chunks: int, rounds: int) -> list[str]:
    """A row of the table. An answer that is refused or cut ends it all."""
    before = server.memory()
    memories: list[dict[str, int]] = []
    found = [load.streams(server, requests, chunks, lambda: memories.append(server.memory())) for _ in range(rounds)]
    # Memory that a turn has freed stays with the process for the next: only the first one shows what it takes.
    each = [f"{(memories[0][kind] - before[kind]) / len(requests) / 1000:.0f} KB" for kind in ("pss", "rss", "uss")]
    # While all of them are being opened, chunks wait for that: how it is afterwards is what counts.
    delays = sorted(delay for one in found for delay in one.delays[one.chunks // 2 :])
    return [
        server.name,
        "0",
        *each,
        f"{before['pss'] / 1e6:.0f} MB",
        tables.spread([1e6 * one.cpu / one.chunks for one in found], 0, " µs"),
        f"{1e3 * delays[len(delays) * 99 // 100]:.0f} ms",
    ]
