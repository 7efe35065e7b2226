"""Counts what goes by for Prometheus, over all workers of this machine and all of their lives.

Each worker counts in files of its own, which outlive it: prometheus_client reads them all together.
https://prometheus.github.io/client_python/multiprocess/ has a hook in the server's master for workers that died; here
a lock tells that, which also survives a `kill -9` of all, and isn't fooled by a process id that comes again.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from aipipe.errors import LedgerUnavailable
from aipipe.ledger import Entry, Ledger
from aipipe.ledger.workers import FileWorker
from aipipe.money import NANO
from aipipe.observing import Sight

PAST = "past"  # in the names of the files that have what dead workers counted
KINDS = ("counter", "histogram", "gauge_livesum")
ROOM = 2**18  # bytes of a file: over a thousand labelled counts
SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60, 120)
# Dollars are counted in nanodollars, whole numbers that a float holds exactly up to nine million dollars.
COST = "aipipe_cost_nanodollars"


log = logging.getLogger(__name__)


def build(folder: Path, ledger: Ledger) -> Metrics | None:
    """Metrics of this worker; `folder` is for the workers of one server. Make them after the fork.

    None, with a word in the log, when there can't be any: that is no reason not to serve.
    """
    try:
        return Metrics(folder, ledger)
    except OSError as error:
        log.error("There are no metrics until the next start: %s can't be written (%s).", folder, error.strerror)
        return None


class Metrics:
    """An observer of this worker's calls. Making one raises OSError."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._ledger = folder, ledger
        self._worker = FileWorker(folder / "workers")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        self._machine, _, name = self._worker.name.rpartition("/")
        values.ValueClass = values.MultiProcessValue(lambda: name)
        for kind in KINDS:
            allocate(folder / f"{kind}_{name}.db")
        self._requests = counter("requests", "Answers by route and HTTP status", "route", "status")
        self._errors = counter("errors", "Refusals and failures by kind", "kind")
        self._calls = counter("calls", "Calls of providers, by how they ended", "provider", "ended")
        self._failures = counter("provider_errors", "Times that a provider failed or refused us", "provider", "status")
        self._tokens = counter("tokens", "Tokens as booked", "provider", "model", "direction")
        self._cost = counter("cost_nanodollars", "Dollars as booked", "provider", "model")
        self._first_byte = Histogram(
            "aipipe_first_byte_seconds", "From asking a provider until it answers", ["provider"], registry=None,
            buckets=SECONDS,
        )  # fmt: skip
        self._streams = Gauge(
            "aipipe_open_streams", "Metered streams that are open", ["provider"], registry=None,
            multiprocess_mode="livesum",
        )  # fmt: skip
        ledger.booked = self.booked
        self.inherit()

    # What it is told

    def answered(self, route: str, status: int, error: str | None) -> None:
        """A request to us has its answer."""
        self._requests.labels(route, str(status)).inc()
        if error:
            self._errors.labels(error).inc()

    def answers(self, sight: Sight) -> None:
        self._first_byte.labels(sight.provider).observe(sight.first_byte or 0)
        if sight.streams:
            self._streams.labels(sight.provider).inc()

    def fails(self, sight: Sight, status: int) -> None:
        self._failures.labels(sight.provider, str(status)).inc()

    def ends(self, sight: Sight) -> None:
        self._calls.labels(sight.provider, sight.ended).inc()
        if sight.streams:
            self._streams.labels(sight.provider).dec()

    def booked(self, entry: Entry) -> None:
        """An entry was booked here, be it for a request of a worker that died."""
        self._cost.labels(entry.provider, entry.model).inc(entry.cost)
        self._tokens.labels(entry.provider, entry.model, "input").inc(entry.input_tokens)
        self._tokens.labels(entry.provider, entry.model, "output").inc(entry.output_tokens)

    # What it tells

    def text(self) -> bytes:
        """All of it, in Prometheus' text format; without what is held while the ledger is away."""
        self.inherit()
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        with suppress(LedgerUnavailable):
            holds = self._ledger.holds()
            yield GaugeMetricFamily("aipipe_holds", "Requests under way, of all machines of this ledger", len(holds))
            held = sum(hold.grant.amount for hold in holds) / NANO
            yield GaugeMetricFamily("aipipe_held_dollars", "What is set aside for them", held)
        with self._alone():
            found = list(MultiProcessCollector(None, str(self._folder)).collect())
        for metric in found:
            yield in_dollars(metric) if metric.name == COST else metric

    def inherit(self) -> None:
        """Takes over what dead workers counted, and forgets the streams that were open there."""
        with self._alone():
            for path in self._folder.glob("*.db"):
                kind, _, name = path.stem.rpartition("_")
                if name == PAST or not self._worker.is_dead(f"{self._machine}/{name}"):
                    continue
                if not kind.startswith("gauge"):
                    past = path.with_name(f"{kind}_{PAST}.db")
                    if not past.exists():
                        allocate(past)
                    add(path, past)
                path.unlink()
            self._worker.bury()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        self._worker.close()


def counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"aipipe_{name}", help, labels, registry=None)


def allocate(path: Path) -> None:
    """Makes one of prometheus_client's files, all at once and with room on the disk: where that is full, writing to a
    file with holes that is mapped into memory would end the process."""
    new = path.with_suffix(".new")
    new.write_bytes(bytes(ROOM))
    new.rename(path)


def add(path: Path, total: Path) -> None:
    """Adds what is counted in one of prometheus_client's files to another."""
    sums = MmapedDict(str(total))
    for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
        sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
    sums.close()


def in_dollars(cost: Metric) -> Metric:
    dollars = CounterMetricFamily("aipipe_cost_dollars", cost.documentation, labels=("provider", "model"))
    for sample in cost.samples:
        dollars.add_metric((sample.labels["provider"], sample.labels["model"]), sample.value / NANO)
    return dollars
