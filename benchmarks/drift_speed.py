"""
Speed of the drift watch, CPU time of one core.

    python benchmarks/drift_speed.py                  a year of 1,000,000 calls
    python benchmarks/drift_speed.py --full           of 10,000,000
"""

from __future__ import annotations

import argparse
import resource
import time
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift import fit_reference
from agentguard.drift._evidence import SIZES, add, no_sums
from agentguard.drift._quiet import REFERENCE_DAYS
from agentguard.drift._reference import fit_tiers
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, simulate, summary_of
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._streams import possible_streams
from agentguard.drift._summary import between
from agentguard.drift._tier import begin, step

NS = 10**9
HOURS_REFERENCE = REFERENCE_DAYS * DAY_HOURS


class _Column(NamedTuple):
    values: memoryview
    dictionary: tuple[str, ...] = ()


class _Block(NamedTuple):
    rows: int
    columns: dict[str, _Column]


class YearStore:
    """A year of calls that is made while it is read: nothing of it is kept."""

    def __init__(self, n: int) -> None:
        """Say how many calls the year has."""
        self._n, self.made_s = n, 0.0

    def query(self) -> YearStore:
        """Itself."""
        return self

    def sealed_blob(self, name: str) -> None:
        """Nothing is kept."""

    def features(self, *_names: Any, **_times: Any) -> Iterator[_Block]:
        """Yield 65,536 calls at a time, whatever was asked for."""
        size = 65_536
        step_ns = 365 * 86_400 * NS // self._n
        for i in range(0, self._n, size):
            start = time.process_time()
            n, rng = min(size, self._n - i), np.random.default_rng(i)
            when = (MONDAY_S * NS + (i + np.arange(n)) * step_ns).astype(np.int64)
            numbers = {
                "start_unix_ns": when, "duration_ns": (rng.lognormal(20, 0.5, n)).astype(np.int64),
                "time_to_first_chunk_ns": np.full(n, -1), "input_tokens": rng.poisson(400, n),
                "output_tokens": rng.poisson(80, n), "retries": rng.poisson(0.1, n),
                "is_error": (rng.random(n) < 0.02).astype(np.int64), "is_usage_missing": np.zeros(n, dtype=np.int64),
            }  # fmt: skip
            texts = {"kind": ("model",), "agent": ("a",), "tool": ("",), "model": ("m1", "m2"), "prompt_version": ("1",),
                     "tenant": ("",), "finish_reason": ("stop",), "error_type": ("",), "schema": ("s",)}  # fmt: skip
            columns = {k: _Column(np.ascontiguousarray(v, dtype=np.int64).data) for k, v in numbers.items()}
            for name, entries in texts.items():
                codes = rng.integers(0, len(entries), n).astype(np.uint16)
                columns[name] = _Column(memoryview(array("H", codes.tobytes())), entries)
            self.made_s += time.process_time() - start
            yield _Block(n, columns)


def speed_table(n_year: int) -> None:
    """CPU time of update, step and fit, on one core."""
    print("\nCPU time, one core\n\n| work | time |\n|---|---:|")
    rng, n = np.random.default_rng(0), 65_536
    ones, unknown = np.ones(n, dtype=np.int64), np.full(n, -1)
    rows = Rows(
        np.sort(rng.integers(0, 57 * HOUR_S, n)) * NS + 10**18, ones, rng.lognormal(20, 0.5, n).astype(np.int64), unknown,
        rng.poisson(500, n), rng.poisson(0.1, n), (rng.random(n) < 0.02).astype(np.int64), 0 * ones,
    )  # fmt: skip
    start = time.process_time()
    for _ in range(20):
        summarise_rows(rows, HOUR_S)
    took = (time.process_time() - start) / 20 / n / 5
    print(f"| update, per span and feature | {1e6 * took:.3f} us |")
    many = 1_000
    sums, sided = no_sums(many, 0), rng.normal(size=(50, many))
    start = time.process_time()
    for t in range(50):
        sums = add(
            sums, normal_scores=sided[t], distance=sided[t], rows=np.full(many, 60.0), pace=np.ones(many),
            pool=np.full(many, 672.0), window=t + 1,
        )  # fmt: skip
    evidence_ms = 1e3 * (time.process_time() - start) / 50
    print(f"| evidence of 1,000 streams, {len(SIZES)} sizes, one window | {evidence_ms:.1f} ms |")
    print(f"| a whole step of 1,000 streams | {1e3 * step_of_many(many):.1f} ms |")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = YearStore(n_year)
    start = time.process_time()
    fit_reference(store)
    took = time.process_time() - start - store.made_s
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    print(
        f"| a year of {n_year:,} calls fitted, without making them | {took:.1f} s, {grown_mb:.0f} MB more |"
    )


def step_of_many(n_streams: int) -> float:
    """Seconds of CPU time that one window of so many streams takes."""
    telemetry = simulate(3, days=REFERENCE_DAYS + 3)
    summary = summary_of(telemetry, start_s=MONDAY_S)
    border = MONDAY_S // HOUR_S + HOURS_REFERENCE
    kinds = [s for s in possible_streams() if s.kind == "model"][:5]
    streams = tuple(kinds[i % 5]._replace(segment=f"s{i}") for i in range(n_streams))
    model, _ = fit_tiers(
        between(summary, 0, border), MONDAY_S * NS, border * HOUR_S * NS, promise_per_year=1.0, key=b"k", streams=streams
    )  # fmt: skip
    assert model is not None
    state = begin(model, border - 1)
    scores = np.tile(model.level, (24, 1)) + np.random.default_rng(0).normal(
        0, 0.01, (24, len(model.streams))
    )
    rows = np.full(len(model.streams), 60.0)
    start = time.process_time()
    for t in range(24):
        step(model, state, scores[t], rows, b"k")
    return (time.process_time() - start) / 24 * n_streams / len(model.streams)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed of the drift watch.")
    parser.add_argument("--full", action="store_true", help="A year of 10,000,000 calls.")
    speed_table(10_000_000 if parser.parse_args().full else 1_000_000)


if __name__ == "__main__":
    main()
