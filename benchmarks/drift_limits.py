"""
Detection, quiet years, attribution, lingering load, other detectors and speed of the drift watch.

    python benchmarks/drift_limits.py                 small tables, about a minute
    python benchmarks/drift_limits.py --full          the tables of docs/explanation/what-drift-can-tell.md: 200 runs
                                                      a row, 20 quiet years, a year of 10,000,000 calls; about an hour

Each table has seeds of its own, which nothing was tuned on; it says which. A row is printed when it is done. The detectors of river are run where it is installed (requirements/bench-drift.txt); they see the same calls, one by
one, with the settings that they come with. Dummies that always and never alarm stand in `benchmarks/drift.py`.
"""

from __future__ import annotations

import argparse
import importlib
import math
import resource
import time
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift import fit_reference
from agentguard.drift._attribution import attribute
from agentguard.drift._evidence import SIZES, add, no_sums
from agentguard.drift._layout import PLACES, layout_of
from agentguard.drift._profile import histograms_of
from agentguard.drift._quiet import QUIET_DAYS, REFERENCE_DAYS, _key, watch_simulated
from agentguard.drift._reference import fit_tiers
from agentguard.drift._season import DAY_S
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, Change, Telemetry, simulate, summary_of
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._streams import Stream, possible_streams, scale_of
from agentguard.drift._summary import KINDS, Summary, between, coarsen
from agentguard.drift._tier import Alarm, TierModel, begin, run, score_all, step

NS = 10**9
TOOLS, SHARES = ("search", "mail", "pay", "files", "maps"), (0.35, 0.25, 0.2, 0.12, 0.08)
HOURS_REFERENCE = REFERENCE_DAYS * DAY_HOURS
FIRST_SEEDS = {
    "detection": 70_000,
    "quiet": 75_000,
    "attribution": 80_000,
    "lingering": 85_000,
    "river": 50_000,
}
CHANGE_DAY = REFERENCE_DAYS + 3
INCIDENT_DAYS, DRIFT_DAYS = 7, 20


class Planted(NamedTuple):
    """A change of one tool."""

    tool: int
    latency: float = 1.0
    tokens: float = 1.0
    errors: float = 0.0


PLANTED = {
    "tool with 25 % of the calls, latency x1.5": Planted(1, latency=1.5),
    "tool with 20 %, latency x1.5": Planted(2, latency=1.5),
    "tool with 8 %, latency x2": Planted(4, latency=2.0),
    "tool with 20 %, errors +8 pp": Planted(2, errors=0.08),
    "tool with 12 %, tokens x1.5": Planted(3, tokens=1.5),
    "tool with 8 %, errors +20 pp": Planted(4, errors=0.20),
}


_AT = CHANGE_DAY * DAY_HOURS
CHANGES = {
    "latency +15 %": Change(_AT, latency=1.15),
    "latency +30 %": Change(_AT, latency=1.3),
    "latency x2": Change(_AT, latency=2.0),
    "latency, a ramp of +30 % over 7 days": Change(_AT),
    "5 % of calls x4": Change(_AT, tail=4.0),
    "tokens +10 %": Change(_AT, tokens=1.1),
    "tokens +30 %": Change(_AT, tokens=1.3),
    "errors 2 % to 5 %": Change(_AT, errors=0.03),
    "errors 2 % to 12 %": Change(_AT, errors=0.10),
    "retries x2": Change(_AT, retries=2.0),
    "errors 50 %": Change(_AT, errors=0.48),
}
RAMP = "latency, a ramp of +30 % over 7 days"


def changed_calls(seed: int, name: str) -> Telemetry:
    """Return a simulated agent that changes on a day."""
    calls = simulate(seed, days=CHANGE_DAY + DRIFT_DAYS, change=CHANGES[name])
    if name != RAMP:
        return calls
    factor = 1 + 0.3 * np.clip((calls.hour - _AT) / (7 * DAY_HOURS), 0, 1)
    return calls._replace(latency_ms=calls.latency_ms * factor)


def first_alarm(
    model: TierModel, summary: Summary, *, first: int, change: int, end: int, key: bytes
) -> Alarm | None:
    """Return the first alarm at or after a window; windows beyond it are not looked at."""
    state = begin(model, first - 1)
    scores, rows = score_all(model, summary, first=first, n_windows=end - first)
    for t in range(end - first):
        alarm = step(model, state, scores[t], rows[t].astype(np.float64), key)
        if alarm is not None and alarm.window >= change:
            return alarm
    return None


def found(delays: list[float], unit: str) -> str:
    """Share found, and the median delay over all runs where more than half were."""
    values = np.array(delays)
    share, median = np.isfinite(values).mean(), float(np.median(values))
    return f"{share:.2f}, {median:.0f} {unit}" if math.isfinite(median) else f"{share:.2f}"


def detection_table(runs: int) -> None:
    """How often and how fast each change is found by both tiers."""
    seeds = range(FIRST_SEEDS["detection"], FIRST_SEEDS["detection"] + runs)
    print(
        f"\nRhythm and load, a change on day 4 after {REFERENCE_DAYS} days of reference: share found, median delay"
        f" ({runs} runs, seeds {seeds[0]} to {seeds[-1]})\n"
    )
    print("| change | incident, within 7 days | drift, within 20 days |\n|---|---:|---:|")
    for name in CHANGES:
        delays: tuple[list[float], list[float]] = ([], [])
        for seed in seeds:
            summary = summary_of(changed_calls(seed, name), start_s=MONDAY_S)
            until_s = MONDAY_S + REFERENCE_DAYS * DAY_S
            models = fit_tiers(summary, MONDAY_S * NS, until_s * NS, promise_per_year=1.0, key=_key(seed))
            for model, days, row in zip(models, (INCIDENT_DAYS, DRIFT_DAYS), delays, strict=True):
                assert model is not None
                a_day, start = DAY_S // model.window_s, MONDAY_S // model.window_s
                change = start + CHANGE_DAY * a_day
                alarm = first_alarm(
                    model, summary if a_day > 1 else coarsen(summary, DAY_S), first=until_s // model.window_s,
                    change=change, end=change + days * a_day, key=_key(seed),
                )  # fmt: skip
                row.append(math.inf if alarm is None else alarm.window - change + 1)
        print(f"| {name} | {found(delays[0], 'h')} | {found(delays[1], 'd')} |", flush=True)


def quiet_table(runs: int) -> None:
    """False alarms of both tiers in quiet months, with the most that they bear out."""
    stats: Any = importlib.import_module("scipy.stats")
    seeds = range(FIRST_SEEDS["quiet"], FIRST_SEEDS["quiet"] + runs)
    years, counts = runs * QUIET_DAYS / 365, [0, 0]
    for seed in seeds:
        days = REFERENCE_DAYS + QUIET_DAYS
        for tier, alarms in enumerate(watch_simulated(simulate(seed, days=days), days=days, key=_key(seed))):
            counts[tier] += len(alarms)
    print(
        f"\nQuiet months with rhythm and load, {years:.1f} years ({runs} runs, seeds {seeds[0]} to {seeds[-1]})\n"
    )
    print("| kind | false alarms | a year | at most, with 95 % confidence |\n|---|---:|---:|---:|")
    for kind, count in zip(("incident", "drift"), counts, strict=True):
        most = float(stats.chi2.ppf(0.95, 2 * (count + 1))) / 2 / years
        print(f"| {kind} | {count} | {count / years:.2f} | {most:.2f} |", flush=True)


def tool_rows(seed: int, days: int, planted: Planted, at_hour: int) -> tuple[Rows, np.ndarray]:
    """Simulated tool calls, and the tool of each."""
    calls = simulate(seed, days=days)
    rng = np.random.default_rng([seed, 1])
    n = len(calls.hour)
    tool = rng.choice(len(TOOLS), n, p=SHARES)
    is_changed = (calls.hour >= at_hour) & (tool == planted.tool)
    latency = calls.latency_ms * np.where(is_changed, planted.latency, 1.0)
    tokens = (calls.tokens * np.where(is_changed, planted.tokens, 1.0)).astype(np.int64)
    is_error = calls.is_error | (is_changed & (rng.random(n) < planted.errors))
    end_ns = (MONDAY_S + calls.hour * HOUR_S + HOUR_S // 2) * NS
    rows = Rows(
        end_unix_ns=end_ns.astype(np.int64), kind=np.full(n, KINDS.index("tool")),
        duration_ns=(latency * 1e6).astype(np.int64), first_chunk_ns=np.full(n, -1), tokens=tokens,
        retries=calls.retries, is_error=is_error.astype(np.int64), is_usage_missing=np.zeros(n, dtype=np.int64),
    )  # fmt: skip
    return rows, tool


def attribution_table(runs: int) -> None:
    """How often the tool that changed is the first one named."""
    seeds = range(FIRST_SEEDS["attribution"], FIRST_SEEDS["attribution"] + runs)
    print(
        f"\nOne tool of five changes: found within 7 days, median delay, right tool named first"
        f" ({runs} runs, seeds {seeds[0]} to {seeds[-1]})\n"
    )
    print("| change | found | median | right tool of those found |\n|---|---:|---:|---:|")
    layout = layout_of({"tool": dict(zip(TOOLS, (int(100 * s) for s in SHARES), strict=True))})
    first_hour, right_all, found_all = MONDAY_S // HOUR_S, 0, 0
    border = first_hour + HOURS_REFERENCE
    for name, planted in PLANTED.items():
        delays, right = [], 0
        for seed in seeds:
            rows, tool = tool_rows(seed, REFERENCE_DAYS + 8, planted, HOURS_REFERENCE + DAY_HOURS)
            members = layout.members({"tool": (tool, TOOLS)}, len(tool))
            summary = summarise_rows(rows, HOUR_S, members)
            model, _ = fit_tiers(
                between(summary, 0, border), MONDAY_S * NS, border * HOUR_S * NS,
                promise_per_year=1.0, key=_key(seed), streams=possible_streams(layout),
            )  # fmt: skip
            assert model is not None
            change = border + DAY_HOURS
            alarm = first_alarm(
                model, summary, first=border, change=change, end=border + 8 * DAY_HOURS, key=_key(seed)
            )
            delays.append(math.inf if alarm is None else alarm.window - change + 1)
            if alarm is None:
                continue
            lead = next(stream for stream in model.streams if stream.name == alarm.streams[0])
            known = histograms_of(between(summary, 0, border))
            since = histograms_of(between(summary, alarm.change_window, alarm.window + 1))
            scale = scale_of(lead, known[lead.code % PLACES])
            top = attribute(layout, lead, scale, known, since).top or lead.segment
            right += top == f"tool={TOOLS[planted.tool]}"
        values = np.array(delays)
        hits = int(np.isfinite(values).sum())
        right_all, found_all = right_all + right, found_all + hits
        print(f"| {name} | {hits / runs:.2f} | {np.median(values):.0f} h | {right} of {hits} |", flush=True)
    print(f"\nRight tool named first in {right_all} of {found_all}, {right_all / max(1, found_all):.1%}.")


def canary_cycles(rng: np.random.Generator, n: int, *, rate: float, at: int, points: float) -> Summary:
    """Sixty canaries a cycle, some refused; the log-odds linger from cycle to cycle: sigma 0.25, phi 0.9."""
    offset = np.empty(n)
    offset[0] = rng.normal(0, 0.25)
    for t in range(1, n):
        offset[t] = 0.9 * offset[t - 1] + rng.normal(0, 0.25 * math.sqrt(1 - 0.9**2))
    share = 1 / (1 + np.exp(-(math.log(rate / (1 - rate)) + offset)))
    share = np.minimum(1.0, share + points * (np.arange(n) >= at))
    refused = rng.binomial(60, share)
    cycle = np.repeat(np.arange(n), 60)
    bits = (np.tile(np.arange(60), n) < np.repeat(refused, 60)).astype(np.int64)
    unknown = np.full(len(cycle), -1)
    rows = Rows(
        ((MONDAY_S + cycle * HOUR_S + 5) * NS).astype(np.int64), np.full(len(cycle), KINDS.index("model")),
        unknown, unknown, unknown, unknown, bits, np.zeros(len(cycle), dtype=np.int64),
    )  # fmt: skip
    return summarise_rows(rows, HOUR_S)


def lingering_table(runs: int, horizon: int = 400) -> None:
    """Canaries whose rate of refusals lingers: how many runs ever alarm, and how fast a real change is found."""
    seeds = range(FIRST_SEEDS["lingering"], FIRST_SEEDS["lingering"] + runs)
    print(
        f"\nRefusals of 60 canaries a cycle, 10 %, log-odds AR(1) sigma 0.25 phi 0.9, {horizon} cycles"
        f" ({runs} runs, seeds {seeds[0]} to {seeds[-1]})\n"
    )
    print("| change | runs with an alarm | median |\n|---|---:|---:|")
    streams = (Stream("model", "error", "share", has_falls=True),)
    border = MONDAY_S // HOUR_S + HOURS_REFERENCE
    for name, points in (("none", 0.0), ("+10 points", 0.1), ("+20 points", 0.2)):
        delays = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            summary = canary_cycles(
                rng, HOURS_REFERENCE + horizon, rate=0.1, at=HOURS_REFERENCE, points=points
            )
            model, _ = fit_tiers(
                between(summary, 0, border), MONDAY_S * NS, border * HOUR_S * NS,
                promise_per_year=1.0, key=_key(seed), streams=streams,
            )  # fmt: skip
            assert model is not None
            alarms = run(model, begin(model, border - 1), summary, until=border + horizon, key=_key(seed))
            delays.append(alarms[0].window - border + 1 if alarms else math.inf)
        values = np.array(delays)
        median = f"{np.median(values):.0f} cycles" if np.isfinite(np.median(values)) else "-"
        print(f"| {name} | {np.isfinite(values).mean():.1%} | {median} |", flush=True)
    print(
        "\ndedrift 0.5.0 publishes for its canaries 7.2 %, 89 of 100 with median 50, and 100 of 100 with median 17."
    )


def river_table(runs: int) -> None:
    """Alarms of the detectors of river in thirty quiet days, on the calls of four columns one by one."""
    try:
        detectors: Any = importlib.import_module("river.drift")
    except ImportError:
        print("\nriver is not installed: pip install -r requirements/bench-drift.txt")
        return
    print(f"\nThirty quiet days with rhythm and load: alarms of detectors on single calls ({runs} runs)\n")
    print("| detector | alarms in 30 days |\n|---|---:|")
    made = {"ADWIN": detectors.ADWIN, "PageHinkley": detectors.PageHinkley, "KSWIN": detectors.KSWIN}
    for name, make in made.items():
        counts = []
        for seed in range(FIRST_SEEDS["river"], FIRST_SEEDS["river"] + (1 if name == "KSWIN" else runs)):
            calls, alarms = simulate(seed, days=58), 0
            is_later = calls.hour >= HOURS_REFERENCE
            for column in (np.log(calls.latency_ms), np.log1p(calls.tokens), calls.retries, calls.is_error):
                known = column[~is_later].astype(float)
                detector = make(seed=seed) if name == "KSWIN" else make()
                for value in ((column[is_later] - known.mean()) / known.std()).tolist():
                    detector.update(value)
                    alarms += bool(detector.drift_detected)
            counts.append(alarms)
        print(f"| {name} | {np.mean(counts):.0f} |", flush=True)


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
            columns = {
                k: _Column(memoryview(np.ascontiguousarray(v, dtype=np.int64))) for k, v in numbers.items()
            }
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
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Limits of the drift watch.")
    parser.add_argument("--full", action="store_true", help="200 runs a row, 10,000,000 calls")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--only", choices=[*FIRST_SEEDS, "speed"], help="One table.")
    options = parser.parse_args()
    runs = 200 if options.full else options.runs
    tables = {
        "detection": lambda: detection_table(runs),
        "quiet": lambda: quiet_table(244 if options.full else 4 * runs),
        "speed": lambda: speed_table(10_000_000 if options.full else 1_000_000),
        "attribution": lambda: attribution_table(runs),
        "lingering": lambda: lingering_table(runs),
        "river": lambda: river_table(min(runs, 12)),
    }
    for name, make in tables.items():
        if options.only in {None, name}:
            make()


if __name__ == "__main__":
    main()
