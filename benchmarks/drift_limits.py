"""
Detection, quiet years, attribution and lingering load of the drift watch.

    python benchmarks/drift_limits.py                 small tables, about a minute
    python benchmarks/drift_limits.py --full          200 runs a row and 20 quiet years: six minutes of CPU time
    python benchmarks/drift_limits.py --full --into docs/explanation/what-drift-can-tell.md

Each table has seeds of its own, which nothing was tuned on, and says which. An interrupt (Ctrl-C) prints the table
of the runs done so far. Other detectors and the dummies, one that always alarms and one that never does, stand in
`benchmarks/drift.py`, the speed in `benchmarks/drift_speed.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import io
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift._attribution import attribute
from agentguard.drift._layout import PLACES, layout_of
from agentguard.drift._profile import histograms_of
from agentguard.drift._quiet import QUIET_DAYS, REFERENCE_DAYS, _key, watch_simulated
from agentguard.drift._reference import fit_tiers
from agentguard.drift._season import DAY_S
from agentguard.drift._simulate import DAY_HOURS, HOUR_S, MONDAY_S, Change, Telemetry, simulate, summary_of
from agentguard.drift._source import Rows, summarise_rows
from agentguard.drift._streams import Stream, possible_streams, scale_of
from agentguard.drift._summary import KINDS, Summary, between, coarsen
from agentguard.drift._tier import Alarm, TierModel, TierState, begin, run, score_all, step

NS = 10**9
TOOLS, SHARES = ("search", "mail", "pay", "files", "maps"), (0.35, 0.25, 0.2, 0.12, 0.08)
HOURS_REFERENCE = REFERENCE_DAYS * DAY_HOURS
FIRST_SEEDS = {
    "detection": 90_000,
    "quiet": 115_000,
    "attribution": 80_000,
    "lingering": 100_000,
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
    """Return a simulated agent that changes on a day; until then the calls of a seed are the same for all changes."""
    calls = simulate(seed, days=CHANGE_DAY + DRIFT_DAYS, change=CHANGES[name])
    if name == RAMP:
        factor = 1 + 0.3 * np.clip((calls.hour - _AT) / (7 * DAY_HOURS), 0, 1)
        return calls._replace(latency_ms=calls.latency_ms * factor)
    if CHANGES[name].tokens != 1.0:  # other tokens take other random numbers: what comes after them is kept
        quiet = simulate(seed, days=CHANGE_DAY + DRIFT_DAYS)
        return calls._replace(is_error=quiet.is_error, retries=quiet.retries)
    return calls


class Eve:
    """
    The watch on the eve of a change, and what it has seen until then.

    All changes of a seed have that in common, so it is fitted and run once; that it is the same is checked.
    """

    def __init__(
        self,
        summary: Summary,
        models: tuple[TierModel | None, ...],
        *,
        first_s: int,
        change_s: int,
        key: bytes,
    ) -> None:
        """Run fitted tiers up to the change."""
        self._hour, self._key = change_s // HOUR_S, key
        self.before = between(summary, 0, self._hour)
        self.tiers: list[tuple[TierModel, TierState]] = []
        for model in models:
            if model is not None:
                state = begin(model, first_s // model.window_s - 1)
                windows = coarsen(self.before, model.window_s)
                run(model, state, windows, until=change_s // model.window_s, key=key)
                self.tiers.append((model, state))

    def alarm(self, tier: int, summary: Summary, *, windows: int) -> Alarm | None:
        """Return the first alarm of a tier within so many windows after the change."""
        before = between(summary, 0, self._hour)
        assert np.array_equal(before.keys, self.before.keys), "expected the same calls before each change"
        assert np.array_equal(before.counts, self.before.counts), "expected the same calls before each change"
        model, state = self.tiers[tier][0], copy.deepcopy(self.tiers[tier][1])
        first = state.window + 1
        after = coarsen(
            between(summary, self._hour, self._hour + windows * model.window_s // HOUR_S), model.window_s
        )
        scores, rows = score_all(model, after, first=first, n_windows=windows)
        for t in range(windows):
            alarm = step(model, state, scores[t], rows[t].astype(np.float64), self._key)
            if alarm is not None:
                return alarm
        return None


def found(delays: list[float], unit: str) -> str:
    """Share found, and the median delay over all runs where more than half were."""
    values = np.array(delays)
    share, median = np.isfinite(values).mean(), float(np.median(values))
    return f"{share:.2f}, {median:.0f} {unit}" if math.isfinite(median) else f"{share:.2f}"


def made(table: str, runs: int) -> str:
    """Return how a table is made again."""
    first = FIRST_SEEDS[table]
    command = f"python benchmarks/drift_limits.py --only {table} --runs {runs}"
    return f"{runs} runs, seeds {first} to {first + runs - 1} (`{command}`):"


def each_seed(table: str, runs: int) -> Generator[int, None, None]:
    """Yield the seeds of a table and say which; an interrupt ends it early, and the table is of the runs done."""
    first, done = FIRST_SEEDS[table], 0
    try:
        for seed in range(first, first + runs):
            yield seed
            done += 1
    finally:
        print(made(table, done), end="\n\n")


def detection_table(runs: int) -> None:
    """How often and how fast each change is found by both tiers."""
    border_s, change_s = MONDAY_S + REFERENCE_DAYS * DAY_S, MONDAY_S + CHANGE_DAY * DAY_S
    delays: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in CHANGES}
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(each_seed("detection", runs)) as seeds:
        for seed in seeds:
            eve, row = None, []
            for name in CHANGES:
                summary = summary_of(changed_calls(seed, name), start_s=MONDAY_S)
                if eve is None:
                    models = fit_tiers(
                        summary, MONDAY_S * NS, border_s * NS, promise_per_year=1.0, key=_key(seed)
                    )
                    eve = Eve(summary, models, first_s=border_s, change_s=change_s, key=_key(seed))
                row.append(
                    [
                        eve.alarm(tier, summary, windows=n)
                        for tier, n in enumerate((INCIDENT_DAYS * 24, DRIFT_DAYS))
                    ]
                )
            assert eve is not None
            for name, alarms in zip(CHANGES, row, strict=True):
                for alarm, (model, _), values in zip(alarms, eve.tiers, delays[name], strict=True):
                    values.append(
                        math.inf if alarm is None else alarm.window - change_s // model.window_s + 1
                    )
    print("| change | incident, within 7 days | drift, within 20 days |\n|---|---:|---:|")
    for name, (hours, days) in delays.items():
        print(f"| {name} | {found(hours, 'h')} | {found(days, 'd')} |", flush=True)


def quiet_table(runs: int) -> None:
    """False alarms of both tiers in quiet months, with the most that they bear out."""
    stats: Any = importlib.import_module("scipy.stats")
    seeds = range(FIRST_SEEDS["quiet"], FIRST_SEEDS["quiet"] + runs)
    years, counts = runs * QUIET_DAYS / 365, [0, 0]
    for seed in seeds:
        days = REFERENCE_DAYS + QUIET_DAYS
        for tier, alarms in enumerate(watch_simulated(simulate(seed, days=days), days=days, key=_key(seed))):
            counts[tier] += len(alarms)
    print(f"{years:.1f} years of quiet months, {made('quiet', runs)}\n")
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
    layout = layout_of({"tool": dict(zip(TOOLS, (int(100 * s) for s in SHARES), strict=True))})
    border_s, change_s = MONDAY_S + REFERENCE_DAYS * DAY_S, MONDAY_S + (REFERENCE_DAYS + 1) * DAY_S
    results: dict[str, list[tuple[float, bool]]] = {name: [] for name in PLANTED}
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(each_seed("attribution", runs)) as seeds:
        for seed in seeds:
            eve, row = None, []
            for planted in PLANTED.values():
                rows, tool = tool_rows(seed, REFERENCE_DAYS + 8, planted, HOURS_REFERENCE + DAY_HOURS)
                summary = summarise_rows(rows, HOUR_S, layout.members({"tool": (tool, TOOLS)}, len(tool)))
                if eve is None:
                    model, _ = fit_tiers(
                        summary, MONDAY_S * NS, border_s * NS, promise_per_year=1.0, key=_key(seed),
                        streams=possible_streams(layout),
                    )  # fmt: skip
                    eve = Eve(summary, (model,), first_s=border_s, change_s=change_s, key=_key(seed))
                    known = histograms_of(between(summary, 0, border_s // HOUR_S))
                alarm = eve.alarm(0, summary, windows=INCIDENT_DAYS * DAY_HOURS)
                if alarm is None:
                    row.append((math.inf, False))
                    continue
                lead = next(stream for stream in eve.tiers[0][0].streams if stream.name == alarm.streams[0])
                since = histograms_of(between(summary, alarm.change_window, alarm.window + 1))
                top = (
                    attribute(layout, lead, scale_of(lead, known[lead.code % PLACES]), known, since).top
                    or lead.segment
                )
                row.append((alarm.window - change_s // HOUR_S + 1, top == f"tool={TOOLS[planted.tool]}"))
            for values, one in zip(results.values(), row, strict=True):
                values.append(one)
    print("| change | found | median | right tool of those found |\n|---|---:|---:|---:|")
    for name, values in results.items():
        delays = [delay for delay, _ in values]
        hits, right = int(np.isfinite(delays).sum()), sum(is_right for _, is_right in values)
        print(
            f"| {name} | {hits / max(1, len(values)):.2f} | {np.median(delays):.0f} h | {right} of {hits} |",
            flush=True,
        )
    everything = [one for values in results.values() for one in values if math.isfinite(one[0])]
    right_all = sum(is_right for _, is_right in everything)
    print(
        f"\nRight tool named first in {right_all} of {len(everything)}, {right_all / max(1, len(everything)):.1%}."
    )


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


ARMS = {"none": 0.0, "+10 points": 0.1, "+20 points": 0.2}


def lingering_table(runs: int, horizon: int = 400) -> None:
    """Canaries whose rate of refusals lingers: how many runs ever alarm, and how fast a real change is found."""
    streams = (Stream("model", "error", "share", has_falls=True),)
    border_s = MONDAY_S + HOURS_REFERENCE * HOUR_S
    delays: dict[str, list[float]] = {name: [] for name in ARMS}
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(each_seed("lingering", runs)) as seeds:
        for seed in seeds:
            eve, row = None, []
            for points in ARMS.values():
                rng = np.random.default_rng(seed)
                summary = canary_cycles(
                    rng, HOURS_REFERENCE + horizon, rate=0.1, at=HOURS_REFERENCE, points=points
                )
                if eve is None:
                    model, _ = fit_tiers(
                        between(summary, 0, border_s // HOUR_S), MONDAY_S * NS, border_s * NS,
                        promise_per_year=1.0, key=_key(seed), streams=streams,
                    )  # fmt: skip
                    eve = Eve(summary, (model,), first_s=border_s, change_s=border_s, key=_key(seed))
                alarm = eve.alarm(0, summary, windows=horizon)
                row.append(math.inf if alarm is None else alarm.window - border_s // HOUR_S + 1)
            for values, one in zip(delays.values(), row, strict=True):
                values.append(one)
    print("| change | runs with an alarm | median |\n|---|---:|---:|")
    for name, values in delays.items():
        middle = float(np.median(values))
        median = f"{middle:.0f} cycles" if math.isfinite(middle) else "-"
        print(f"| {name} | {np.isfinite(values).mean():.1%} | {median} |", flush=True)
    print("\ndedrift 0.5.0 publishes for its own canaries 7.2 %, 89 % with 50 cycles and 100 % with 17.")


def put_into(page: Path, table: str, text: str) -> None:
    """Replace a table of a page: what stands between its two comments."""
    before, opening, rest = page.read_text(encoding="utf-8").partition(f"<!-- drift_limits.py: {table} -->\n")
    _, closing, after = rest.partition("<!-- end -->")
    if not opening or not closing:
        raise SystemExit(f"{page}: has no place for {table}, expected two comments around it")
    page.write_text(f"{before}{opening}\n{text.strip()}\n\n{closing}{after}", encoding="utf-8")


def main() -> None:
    """Print all tables, or put them into a page."""
    parser = argparse.ArgumentParser(description="Limits of the drift watch.")
    parser.add_argument("--full", action="store_true", help="200 runs a row, 20 quiet years")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--only", choices=[*FIRST_SEEDS], help="One table.")
    parser.add_argument("--into", type=Path, help="Page whose tables are made anew.")
    options = parser.parse_args()
    runs = 200 if options.full else options.runs
    tables: dict[str, Callable[[int], None]] = {
        "detection": detection_table, "quiet": quiet_table, "attribution": attribution_table, "lingering": lingering_table,
    }  # fmt: skip
    for name, make in tables.items():
        if options.only not in {None, name}:
            continue
        written = io.StringIO()
        with contextlib.redirect_stdout(written) if options.into else contextlib.nullcontext():
            make(244 if options.full and name == "quiet" else runs)
        if options.into:
            put_into(options.into, name, written.getvalue())
        else:
            print()


if __name__ == "__main__":
    main()
