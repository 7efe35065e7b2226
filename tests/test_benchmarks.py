"""The benchmarks themselves: that they still work. How fast anything is, no test says."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as bench
from benchmarks import chat


@pytest.mark.parametrize("name", bench.NAMES)
def test_every_benchmark_says_what_it_measures(name: str) -> None:
    assert bench.measure(name).__doc__


@pytest.mark.e2e
def test_a_few_requests_are_measured_and_found_to_be_charged(capsys: pytest.CaptureFixture[str]) -> None:
    chat.json(rounds=1, count=6, connections=2, warm=1)
    printed = capsys.readouterr().out
    assert all(f"| {name} " in printed for name in ("direct", "gunicorn alone", "Flask alone", "AI Pipe"))
