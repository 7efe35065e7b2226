"""`similarity`: a thousand documents by a thousand topics, beside the least that anybody can do for that."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from benchmarks import chat, load, servers, tables, upstream


def run(*, size: int = 1_000, rounds: int = 7, times: int = 3) -> None:
    """`/similarity`, 1,000 x 1,000 documents of 1,536 dimensions, beside reading, a bare product, and writing."""
    docs, topics = (list(map(str, range(start, start + size))) for start in (0, size))
    made = upstream.embeddings(orjson.dumps({"input": docs + topics}))
    question = json.dumps({"docs": docs, "topics": topics}).encode()
    with servers.upstream() as provider, servers.aipipe(provider) as gateway:
        gateway = replace(gateway, path="/similarity")
        took: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            least, parts = bare(made, size)
            found = load.requests(gateway, question, times, connections=1)
            if turn:  # the first is for warming up
                for name, seconds in [*parts, ("all of that", least), ("AI Pipe", found.cpu / times)]:
                    took.setdefault(name, []).append(1e3 * seconds)
        answer = load.one(gateway, question)
        check(orjson.loads(answer)["similarity"], made, size)
        chat.check_charged(
            gateway, ((rounds + 1) * times + 1) * 2 * size * 20
        )  # $0.02 a million tokens, and a text is one here
    tables.show(
        f"{size:,} x {size:,} documents of {upstream.DIMENSIONS:,} dimensions: {rounds} turns",
        ["", "CPU", "AI Pipe's is × this"],
        [
            [name, tables.spread(each, 0, " ms"), tables.ratio(took["AI Pipe"], each) if name == "all of that" else ""]
            for name, each in took.items()
        ],
    )


def bare(made: bytes, size: int) -> tuple[float, list[tuple[str, float]]]:
    """The CPU seconds of the least that answers the question, altogether and step by step."""
    times = [time.process_time()]
    vectors = read(made)
    times.append(time.process_time())
    table = vectors[:size] @ vectors[size:].T
    times.append(time.process_time())
    orjson.dumps(np.round(table, 5), option=orjson.OPT_SERIALIZE_NUMPY)
    times.append(time.process_time())
    steps = ("reading", "a numpy product", "rounding and writing")
    return times[-1] - times[0], [(name, b - a) for name, a, b in zip(steps, times, times[1:], strict=False)]


def read(made: bytes) -> NDArray[np.float32]:
    data = orjson.loads(made)["data"]
    return np.array([np.frombuffer(pybase64.b64decode(each["embedding"], validate=True), "<f4") for each in data])


def check(table: Sequence[Sequence[float]], made: bytes, size: int) -> None:
    """Raises Failed unless these are the cosines."""
    vectors = read(made).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    if not np.allclose(np.array(table), vectors[:size] @ vectors[size:].T, atol=2e-5):
        raise servers.Failed("similarities that are wrong")
