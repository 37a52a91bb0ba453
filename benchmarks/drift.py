"""
False alarms, detection and speed of the drift watch, beside what people use today.

    python benchmarks/drift.py                 small tables, about a minute
    python benchmarks/drift.py --runs 40       the first table of docs/explanation/what-drift-can-tell.md
    python benchmarks/drift.py --rivals 1      ADWIN, PageHinkley, KSWIN and Evidently's default beside them, ten minutes
                                               more a month: in an environment with requirements/bench-drift.txt

The other tables of that page, with many runs and tight intervals, are made by `drift_limits.py`, `drift_speed.py`,
`drift_rivals.py` and `drift_history.py`. All methods see the same simulated calls, from the same seeds. The comparators are as usually set:
Kolmogorov-Smirnov at p < 0.05 on each hour, and at a level corrected for the number of tests of the
month; the population stability index above 0.2 with ten bins; and two dummies, one that always alarms and one
that never does: a table in which a dummy looks good measures nothing.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from drift_rivals import WORLDS, quiet_head, quiet_rows
from drift_rivals import speed_table as rivals_speed_table

from agentguard import drift
from agentguard.drift._quiet import _key, _naive_ks_p, watch_simulated
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, Change, Telemetry, simulate

REFERENCE_DAYS, QUIET_DAYS, CHANGE_HOUR = 28, 30, 31 * DAY_HOURS
COLUMNS = ("latency_ms", "tokens", "retries", "is_error")

CHANGES = {
    "latency +15 %": Change(CHANGE_HOUR, latency=1.15),
    "latency +30 %": Change(CHANGE_HOUR, latency=1.3),
    "latency x2": Change(CHANGE_HOUR, latency=2.0),
    "5 % of calls x4": Change(CHANGE_HOUR, tail=4.0),
    "tokens +10 %": Change(CHANGE_HOUR, tokens=1.1),
    "tokens +30 %": Change(CHANGE_HOUR, tokens=1.3),
    "errors 2 -> 5 %": Change(CHANGE_HOUR, errors=0.03),
    "errors 2 -> 12 %": Change(CHANGE_HOUR, errors=0.10),
    "retries x2": Change(CHANGE_HOUR, retries=2.0),
    "errors 50 %": Change(CHANGE_HOUR, errors=0.48),
}

HourTest = Callable[[np.ndarray, np.ndarray], bool]


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index with ten bins of equal reference share."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, 11)))[1:-1]
    shares = [
        (np.bincount(np.searchsorted(edges, v, side="right"), minlength=len(edges) + 1) + 0.5)
        / (len(v) + 0.5 * (len(edges) + 1))
        for v in (reference, current)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


METHODS: dict[str, HourTest] = {
    "KS p < 0.05": lambda r, c: _naive_ks_p(r, np.sort(c)) < 0.05,
    "KS, Bonferroni over the month": lambda r, c: _naive_ks_p(r, np.sort(c)) < 0.05 / (4 * 720),
    "PSI > 0.2": lambda r, c: psi(r, c) > 0.2,
    "always": lambda _r, _c: True,
    "never": lambda _r, _c: False,
}


def hours_alarmed(method: HourTest, telemetry: Telemetry) -> list[int]:
    """Hours after the reference in which a method alarms on any column."""
    border = REFERENCE_DAYS * DAY_HOURS
    in_reference = (telemetry.hour >= border - 7 * DAY_HOURS) & (telemetry.hour < border)
    hours = np.unique(telemetry.hour[telemetry.hour >= border])
    starts = np.searchsorted(telemetry.hour, hours)
    ends = np.searchsorted(telemetry.hour, hours, side="right")
    alarmed: set[int] = set()
    for name in COLUMNS:
        values = getattr(telemetry, name).astype(float)
        reference = np.sort(values[in_reference])
        for hour, low, high in zip(hours.tolist(), starts, ends, strict=True):
            if hour not in alarmed and method(reference, values[low:high]):
                alarmed.add(hour)
    return sorted(alarmed)


def quiet_table(runs: int, rivals: int) -> None:
    """Alarms in thirty quiet days; months of the rivals apart, which are slow."""
    few = min(runs, 6)  # the comparators hardly vary, and are slow
    quiet_head(runs)
    for name, method in METHODS.items():
        cells = [np.mean([len(hours_alarmed(method, w.month(s))) for s in range(few)]) for w in WORLDS]
        print(f"| {name} (hours with an alarm) | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    if rivals:
        quiet_rows(rivals)
    days = REFERENCE_DAYS + QUIET_DAYS
    for tier, title in ((0, "agentguard, incidents (hours)"), (1, "agentguard, drift (days)")):
        cells = []
        for world in WORLDS:
            n = sum(len(watch_simulated(world.month(s), days=days, key=_key(s))[tier]) for s in range(runs))
            cells.append(f"{n / runs:.3f} = {n / runs * 365 / 30:.1f} a year")
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def first_after(hours: list[int], change: int, days: int) -> float:
    """Hours from the change to the first alarm after it, infinite where there was none."""
    return min((h - change + 1 for h in hours if change <= h < change + days * DAY_HOURS), default=math.inf)


def detection_table(runs: int) -> None:
    """How often and how fast each change is found."""
    print(
        f"\nSeason and load, change on day 4 after the reference: share found in 7 days, median delay ({runs} runs)\n"
    )
    print(
        "| change | agentguard, hours | agentguard, days (20 days) | KS, Bonferroni over the month | KS false alarms before |"
    )
    print("|---|---:|---:|---:|---:|")
    corrected = METHODS["KS, Bonferroni over the month"]
    for name, change in CHANGES.items():
        hourly, daily, ks, before = [], [], [], []
        for seed in range(10_000, 10_000 + runs):
            telemetry = simulate(seed, days=51, change=change)
            a, b = watch_simulated(telemetry, days=51, key=_key(seed))
            first_h = MONDAY_S // HOUR_S
            hourly.append(first_after([x.window - first_h for x in a], CHANGE_HOUR, 7))
            ends = [x.window - first_h // DAY_HOURS - CHANGE_HOUR // DAY_HOURS + 1 for x in b]
            daily.append(min((d for d in ends if d > 0), default=math.inf))
            if seed < 10_000 + min(runs, 6):
                hours = hours_alarmed(corrected, telemetry)
                ks.append(first_after(hours, CHANGE_HOUR, 7))
                before.append(sum(h < CHANGE_HOUR for h in hours))
        print(
            f"| {name} | {found(hourly, 'h')} | {found(daily, 'd')} | {found(ks, 'h')} | {np.mean(before):.0f} in 3 days |",
            flush=True,
        )


def found(delays: list[float], unit: str) -> str:
    """Share found, and the median delay over all runs where more than half were."""
    values = np.array(delays)
    share, median = np.isfinite(values).mean(), float(np.median(values))
    return f"{share:.2f}, {median:.0f} {unit}" if math.isfinite(median) else f"{share:.2f}"


def speed_table() -> None:
    """CPU time of the parts."""
    print("\nCPU time, one core\n\n| work | time |\n|---|---:|")
    rng = np.random.default_rng(0)
    n = 1_000_000
    tables = [
        {
            "response_latency_ms": rng.lognormal(6, 0.5, n),
            "token_count": rng.poisson(400, n),
            "retry_count": rng.poisson(0.12, n),
            "error_rate": (rng.random(n) < 0.02).astype(int),
        }
        for _ in range(2)
    ]
    start = time.process_time()
    drift.compare(*tables)
    print(f"| compare 1,000,000 with 1,000,000 rows, 4 columns | {time.process_time() - start:.2f} s |")
    start = time.process_time()
    quiet = drift.simulate_quiet_days(seed=1)
    print(f"| 30 quiet days, both arms | {time.process_time() - start:.2f} s |")
    print(f"\n{quiet}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Benchmarks of the drift watch.")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--rivals", type=int, default=0, help="Months of each kind for other packages.")
    options = parser.parse_args()
    quiet_table(options.runs, options.rivals)
    detection_table(options.runs)
    speed_table()
    if options.rivals:
        rivals_speed_table()


if __name__ == "__main__":
    main()
