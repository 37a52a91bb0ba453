"""
Other detectors on the very data of the drift watch: Evidently, river and dedrift.

    pip install -r requirements/bench-drift.txt           in an environment of its own
    python benchmarks/drift_rivals.py                     one quiet month of each kind, about twenty minutes
    python benchmarks/drift_rivals.py --only speed        seconds

Each is set as it comes. Evidently's report with its preset for drift is asked once an hour, as a monitor would:
the hour against the seven days before. The detectors of river see the calls one by one. dedrift's lasting mode and
the watch see the same canaries, at the scale that dedrift publishes its figures for. `benchmarks/drift.py --rivals RUNS` prints
the first table beside the watch, the usual tests and the dummies.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import time
import warnings
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from agentguard import drift
from agentguard.drift._power import ARMING_YEARS, raised
from agentguard.drift._quiet import KS_REFERENCE_DAYS, REFERENCE_DAYS, _key
from agentguard.drift._reference import fit_tiers
from agentguard.drift._rehearse import Days
from agentguard.drift._season import DAY_S
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, Telemetry, simulate, summary_of
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._streams import Stream
from agentguard.drift._summary import KINDS, between, coarsen, merge, summarise
from agentguard.drift._tier import begin, run
from agentguard.errors import BaselineTooSmallError

NOT_INSTALLED = "not installed: pip install -r requirements/bench-drift.txt, in an environment of its own"
QUIET_DAYS = 30
COLUMNS = ("latency_ms", "tokens", "retries", "is_error")
BORDER = REFERENCE_DAYS * DAY_HOURS


class World(NamedTuple):
    """A world without any change."""

    name: str
    with_season: bool
    with_load: bool

    def month(self, seed: int) -> Telemetry:
        """Simulate a reference and thirty quiet days."""
        days = REFERENCE_DAYS + QUIET_DAYS
        return simulate(seed, days=days, with_season=self.with_season, with_load=self.with_load)


WORLDS = (
    World("independent", False, False),
    World("season", True, False),
    World("season and load", True, True),
)
os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently counts its use over the network unless told not to


class Evidently:
    """Evidently's preset for drift as it comes: thresholds, methods and the share of columns are its own."""

    def __init__(self) -> None:
        """
        Load it, which takes seconds.

        Raises:
            ImportError: It is not installed.
        """
        warnings.simplefilter("ignore")  # a dozen kinds, in every report
        evidently: Any = importlib.import_module("evidently")
        self._preset: Any = importlib.import_module("evidently.presets").DataDriftPreset
        self._frame: Any = importlib.import_module("pandas").DataFrame
        self._report, self._dataset = evidently.Report, evidently.Dataset
        self._definition = evidently.DataDefinition(
            numerical_columns=list(COLUMNS[:3]), categorical_columns=[COLUMNS[3]]
        )

    def table(self, columns: dict[str, np.ndarray]) -> Any:
        """Return columns as Evidently takes them."""
        return self._dataset.from_pandas(self._frame(columns), data_definition=self._definition)

    def drifted(self, reference: Any, current: Any) -> tuple[int, bool]:
        """Return how many columns drifted, and whether that is drift of the table: half of them or more."""
        report = self._report([self._preset()]).run(current, reference)
        counted = report.dict()["metrics"][0]
        assert counted["metric_name"].startswith("DriftedColumnsCount"), counted
        return int(counted["value"]["count"]), counted["value"]["share"] >= counted["config"]["drift_share"]


def evidently_hours(telemetry: Telemetry) -> tuple[int, int]:
    """Hours in which Evidently finds a column that drifted, and a table that did, each hour against seven days."""
    evidently = Evidently()

    def rows(keep: np.ndarray | slice) -> Any:
        return evidently.table({name: getattr(telemetry, name)[keep] for name in COLUMNS})

    first, border = np.searchsorted(telemetry.hour, [BORDER - KS_REFERENCE_DAYS * DAY_HOURS, BORDER])
    reference, of_column, of_table = rows(slice(first, border)), 0, 0
    hours = np.unique(telemetry.hour[border:])
    starts = np.searchsorted(telemetry.hour, hours)
    ends = np.searchsorted(telemetry.hour, hours, side="right")
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        n_columns, is_table = evidently.drifted(reference, rows(slice(start, end)))
        of_column += n_columns > 0
        of_table += is_table
    return of_column, of_table


def river_alarms(telemetry: Telemetry, name: str, seed: int) -> int:
    """
    Alarms of a detector of river on the calls after the reference, one by one, one detector for each column.

    Raises:
        ImportError: It is not installed.
    """
    make = getattr(importlib.import_module("river.drift"), name)
    is_later, alarms = telemetry.hour >= BORDER, 0
    for column in (
        np.log(telemetry.latency_ms), np.log1p(telemetry.tokens), telemetry.retries, telemetry.is_error
    ):  # fmt: skip
        known = column[~is_later].astype(float)
        detector = make(seed=seed) if name == "KSWIN" else make()
        for value in ((column[is_later] - known.mean()) / known.std()).tolist():
            detector.update(value)
            alarms += bool(detector.drift_detected)
    return alarms


def quiet_head(runs: int) -> None:
    """Print the head of the table of alarms in thirty quiet days."""
    print(f"\nAlarms in {QUIET_DAYS} days without any change, mean of {runs} runs\n")
    print(f"| method | {' | '.join(world.name for world in WORLDS)} |\n|---|{'---:|' * len(WORLDS)}")


def quiet_rows(runs: int) -> None:
    """Print rows of the table of alarms in thirty quiet days: what is installed of the rivals."""

    def row(title: str, count: Callable[[Telemetry, int], int]) -> None:
        cells = [np.mean([count(world.month(seed), seed) for seed in range(runs)]) for world in WORLDS]
        print(f"| {title} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |", flush=True)

    for name in ("ADWIN", "PageHinkley", "KSWIN"):
        try:
            row(f"{name} (alarms)", lambda calls, seed, name=name: river_alarms(calls, name, seed))  # type: ignore[misc]
        except ImportError:
            print(f"| {name} | {NOT_INSTALLED} | | |")
    found: list[tuple[float, float]] = []
    try:
        for world in WORLDS:
            counts = [evidently_hours(world.month(seed)) for seed in range(runs)]
            found.append((float(np.mean([a for a, _ in counts])), float(np.mean([b for _, b in counts]))))
    except ImportError:
        print(f"| Evidently | {NOT_INSTALLED} | | |")
        return
    for title, place in (("a column drifted", 0), ("its headline: half of the columns", 1)):
        cells = " | ".join(f"{one[place]:.1f}" for one in found)
        print(f"| Evidently's default, {title} (hours with an alarm) | {cells} |", flush=True)


REFUSALS = (0.05, 0.05, 0.10, 0.02, 0.15, 0.08)
RATES = (
    *REFUSALS, 0.98, 0.99, 0.97, 0.99, 0.95, 0.98, 0.97, 0.96, 0.98, 0.94, 0.97, 0.99, 0.01, 0.02, 0.01, 0.03, 0.01, 0.02
)  # fmt: skip
"""Four rates of each of six families of canaries, the scale that dedrift publishes its figures at."""
FAMILIES, A_CYCLE, GOLDEN_CYCLES = 6, 21, 5


def canaries(rng: np.random.Generator, n: int, *, at: int = 0, points: float = 0.0) -> np.ndarray:
    """
    Return how many of 21 canaries came out one way, by cycle and rate.

    The rates of a family are of the same answers, so they correlate. An offset that all share lingers from cycle
    to cycle: AR(1), sigma 0.25, phi 0.9. Refusals rise by *points* from cycle *at* on.
    """
    offset = np.empty(n)
    offset[0] = rng.normal(0, 0.25)
    for t in range(1, n):
        offset[t] = 0.9 * offset[t - 1] + rng.normal(0, 0.25 * math.sqrt(1 - 0.9**2))
    answers = rng.normal(size=(FAMILIES, n, A_CYCLE))
    counts = np.empty((n, len(RATES)), dtype=np.int64)
    quantile = NormalDist().inv_cdf
    for i, rate in enumerate(RATES):
        level = np.full(n, quantile(rate))
        if points and i < len(REFUSALS):
            level[at:] = quantile(rate + points)
        mixed = 0.5 * answers[i % FAMILIES] + math.sqrt(0.75) * rng.normal(size=(n, A_CYCLE))
        counts[:, i] = (mixed < (level + offset)[:, None]).sum(axis=1)
    return counts


def dedrift_alarm(golden: np.ndarray, counts: np.ndarray) -> float:
    """
    Return the cycle in which dedrift's rule first alerts, infinite where it never does.

    Its e-process for each rate, those of a rate over all families together, and its e-BH at its level.

    Raises:
        ImportError: It is not installed.
    """
    bet: Any = importlib.import_module("dedrift.evalues.twosample").log_beta_binomial_evalue
    ebh: Any = importlib.import_module("dedrift.evalues.ebh").ebh_from_logs
    prior: Any = importlib.import_module("dedrift.evalues").PriorState
    level: float = importlib.import_module("dedrift.config").AnytimeConfig().alpha_prime
    known, wealth, seen = (
        golden.sum(axis=0).tolist(),
        np.zeros(len(RATES)),
        np.zeros(len(RATES), dtype=np.int64),
    )
    for t, now in enumerate(counts):
        for i, count in enumerate(now.tolist()):
            wealth[i] += bet(
                count, A_CYCLE, prior(t, int(seen[i]), t * A_CYCLE, known[i], len(golden) * A_CYCLE)
            )
        seen += now
        together = wealth.reshape(-1, FAMILIES).sum(axis=1)
        if ebh([*wealth.tolist(), *together.tolist()], alpha=level).n_rejected:
            return t + 1
    return math.inf


def watch_alarm(reference: np.ndarray, counts: np.ndarray, key: bytes) -> float:
    """Return the cycle in which the hourly watch first alarms on the same canaries, infinite where it never does."""
    everything = np.concatenate([reference, counts])
    n, first = len(everything), MONDAY_S // HOUR_S
    # Each rate in each family, and each rate over all families, as dedrift has them too.
    together = everything.reshape(n, -1, FAMILIES).sum(axis=2)
    parts, streams = [], []
    for place, (ones, size) in enumerate(
        [(one, A_CYCLE) for one in everything.T] + [(one, A_CYCLE * FAMILIES) for one in together.T], start=1
    ):
        stream = Stream("model", "error", "share", segment=f"rate {place}", place=place, has_falls=True)
        bits = (np.arange(size) < ones[:, None]).astype(np.int64)
        window = np.repeat(first + np.arange(n), size)
        parts.append(summarise(window, np.full(len(window), stream.code), bits.ravel(), HOUR_S))
        streams.append(stream)
    summary = merge(parts, HOUR_S)
    border = first + len(reference)
    model, _ = fit_tiers(
        between(summary, 0, border), MONDAY_S * 10**9, border * HOUR_S * 10**9,
        promise_per_year=1.0, key=key, streams=tuple(streams),
    )  # fmt: skip
    assert model is not None
    days = Days(between(summary, 0, border), first // DAY_HOURS, border // DAY_HOURS)
    with contextlib.suppress(BaselineTooSmallError):  # a user would be told; here the last threshold stands
        model, _ = raised(days, model, key, promise_per_year=1.0, years=ARMING_YEARS, seed=0)
    alarms = run(model, begin(model, border - 1), summary, until=first + n, key=key)
    return alarms[0].window - border + 1 if alarms else math.inf


def dedrift_table(runs: int, horizon: int = 400) -> None:
    """Print what dedrift's rule and the watch do on the same canaries, at dedrift's scale."""
    print(
        f"\n24 rates of {A_CYCLE} canaries a cycle, offset AR(1) sigma 0.25 phi 0.9, {horizon} cycles ({runs} runs)\n"
    )
    print("| | change of refusals | runs with an alarm | median |\n|---|---|---:|---:|")
    for points in (0.0, 0.1, 0.2):
        delays: dict[str, list[float]] = {}
        for seed in range(60_000, 60_000 + runs):
            counts = canaries(np.random.default_rng(seed), BORDER + horizon, at=BORDER, points=points)
            before, after = counts[:BORDER], counts[BORDER:]
            name = f"the watch, hours, {BORDER} cycles of reference"
            delays.setdefault(name, []).append(watch_alarm(before, after, _key(seed)))
            for golden in (GOLDEN_CYCLES, BORDER):
                name = f"dedrift, golden baseline of {golden} cycles"
                try:
                    delays.setdefault(name, []).append(dedrift_alarm(before[-golden:], after))
                except ImportError:
                    delays.pop(name)
        for name, found in delays.items():
            median = f"{np.median(found):.0f} cycles" if np.isfinite(np.median(found)) else "-"
            print(
                f"| {name} | {f'+{100 * points:.0f} points' if points else 'none'} | {np.isfinite(found).mean():.1%} | {median} |",
                flush=True,
            )


def speed_table() -> None:
    """Print rates on the same four columns: Evidently's report, `compare`, and the update of the checker."""
    try:
        evidently = Evidently()
    except ImportError:
        print(f"\nEvidently is {NOT_INSTALLED}")
        return
    print("\nCPU time, one core, the same four columns\n")
    print(
        "| rows a side | Evidently's report | agentguard.drift.compare | update of the checker | its rate, of Evidently's |"
    )
    print("|---:|---:|---:|---:|---:|")
    for n in (2_500, 25_000, 250_000, 1_000_000):
        rng = np.random.default_rng(0)
        tables = [
            {
                "latency_ms": rng.lognormal(6, 0.5, n),
                "tokens": rng.poisson(400, n),
                "retries": rng.poisson(0.12, n),
                "is_error": (rng.random(n) < 0.02).astype(np.int64),
            }
            for _ in range(2)
        ]
        known, new = (evidently.table(one) for one in tables)
        rows = rows_of(tables[1], np.sort(rng.integers(0, 57 * HOUR_S, n)))
        report_s, compare_s, update_s = (
            min(cpu_s(work) for _ in range(3))
            for work in (
                lambda known=known, new=new: evidently.drifted(known, new),
                lambda tables=tables: drift.compare(*tables),
                lambda rows=rows: summarise_rows(rows, HOUR_S),
            )
        )
        print(
            f"| {n:,} | {1e3 * report_s:,.0f} ms | {1e3 * compare_s:,.0f} ms, {report_s / compare_s:.0f} times |"
            f" {1e3 * update_s:,.1f} ms | {report_s / update_s:,.0f} times |",
            flush=True,
        )
    hourly_table(evidently)


def hourly_table(evidently: Evidently) -> None:
    """Print what a check each hour costs: Evidently's report, and the checker's update with both tiers."""
    n_hours, calls = 48, simulate(1, days=REFERENCE_DAYS + 2)
    border_s, end_s = (MONDAY_S + days * DAY_HOURS * HOUR_S for days in (REFERENCE_DAYS, REFERENCE_DAYS + 2))
    before = summary_of(calls, start_s=MONDAY_S)
    first = border_s // HOUR_S
    hourly, daily = fit_tiers(
        between(before, 0, first), MONDAY_S * 10**9, border_s * 10**9, promise_per_year=1.0, key=_key(1)
    )
    assert hourly is not None
    assert daily is not None
    columns = {name: getattr(calls, name) for name in COLUMNS}
    hours = [np.flatnonzero(calls.hour == hour) for hour in range(BORDER, BORDER + n_hours)]
    in_week = (calls.hour >= BORDER - KS_REFERENCE_DAYS * DAY_HOURS) & (calls.hour < BORDER)
    reference = evidently.table({name: column[in_week] for name, column in columns.items()})

    def reports() -> None:
        for rows in hours:
            current = evidently.table({name: column[rows] for name, column in columns.items()})
            evidently.drifted(reference, current)

    def watched() -> None:
        state, days = begin(hourly, first - 1), begin(daily, border_s // DAY_S - 1)
        parts = []
        for number, rows in enumerate(hours):
            when_s = np.full(len(rows), border_s + number * HOUR_S + HOUR_S // 2)
            part = summarise_rows(rows_of({n: c[rows] for n, c in columns.items()}, when_s), HOUR_S)
            run(hourly, state, part, until=first + number + 1, key=_key(1))
            parts.append(part)
        run(daily, days, coarsen(merge(parts, HOUR_S), DAY_S), until=end_s // DAY_S, key=_key(1))

    report_s, watch_s = (min(cpu_s(work) for _ in range(2)) / n_hours for work in (reports, watched))
    print(
        f"\nA check of an hour of {sum(map(len, hours)) // n_hours} calls: Evidently's report {1e3 * report_s:.0f} ms,"
        f" the watch with both tiers {1e3 * watch_s:.1f} ms: {report_s / watch_s:.0f} times."
    )


def rows_of(columns: dict[str, np.ndarray], end_s: np.ndarray) -> Rows:
    """Return columns as the checker reads them from a store."""
    n = len(end_s)
    return Rows(
        end_unix_ns=end_s.astype(np.int64) * 10**9,
        kind=np.full(n, KINDS.index("model")),
        duration_ns=(columns["latency_ms"] * 1e6).astype(np.int64),
        first_chunk_ns=np.full(n, -1),
        tokens=columns["tokens"],
        retries=columns["retries"],
        is_error=columns["is_error"],
        is_usage_missing=np.zeros(n, dtype=np.int64),
    )


def cpu_s(work: Callable[[], object]) -> float:
    """Seconds of CPU time of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Other detectors on the data of the drift watch.")
    parser.add_argument("--runs", type=int, default=1, help="Months of each kind.")
    parser.add_argument("--only", choices=["speed", "quiet", "dedrift"], help="One table.")
    options = parser.parse_args()
    if options.only in {None, "speed"}:
        speed_table()
    if options.only in {None, "dedrift"}:
        dedrift_table(10 * options.runs)
    if options.only in {None, "quiet"}:
        quiet_head(options.runs)
        quiet_rows(options.runs)


if __name__ == "__main__":
    main()
