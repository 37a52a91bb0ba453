"""The very engine of the watch, run over history as if it were live."""

from __future__ import annotations

from typing import NamedTuple

from agentguard.drift._reference import Reference, fit_reference
from agentguard.drift._season import DAY_S
from agentguard.drift._source import read_summary, time_span
from agentguard.drift._summary import Summary, between, coarsen
from agentguard.drift._table_store import TIME_COLUMN, TableStore
from agentguard.drift._tier import TierModel, begin, run
from agentguard.errors import DriftInputError


class BacktestAlarm(NamedTuple):
    """One alarm that the watch would have raised."""

    kind: str
    """incident or drift."""
    time_unix_ns: int
    """When it would have been raised: the end of the window that brought it."""
    change_unix_ns: int
    """Where the change is thought to have begun."""
    streams: tuple[str, ...]
    """The strongest first."""
    effects: tuple[float, ...]
    """Change of each stream's score: rank, or share, or mean count."""


class Backtest(NamedTuple):
    """What the watch would have said."""

    reference: Reference
    alarms: tuple[BacktestAlarm, ...]
    """In the order of time."""
    until_unix_ns: int
    """End of the last whole window."""


def backtest(
    table: object, *, time: str = TIME_COLUMN, reference_days: float = 28.0, promise_per_year: float = 1.0
) -> Backtest:
    """
    Fit the first days of a table and run the watch over the rest.

    Args:
        table:
            Anything `compare` takes, with the everyday columns and a time.
        time:
            Name of the column with the time at which each call began.
        reference_days:
            How much of the beginning serves as the reference; at least 7.
        promise_per_year:
            False alarms tolerated a year, for each tier.

    Raises:
        BaselineTooSmallError: The reference is too short or too sparse to carry the promise.
        DriftInputError: The table cannot be read, or ends before the reference does.
    """
    store = TableStore(table, time=time)
    first, last, _ = time_span(store)
    border = first + int(reference_days * DAY_S * 1e9)
    if last <= border:
        raise DriftInputError(
            f"backtest: the table spans {(last - first) / 1e9 / DAY_S:.1f} days, expected more than the"
            f" {reference_days:g} of the reference"
        )
    reference = fit_reference(
        store, since_unix_ns=first, until_unix_ns=border, promise_per_year=promise_per_year, must_arm=True
    )
    assert reference.incident is not None
    window_s = reference.incident.window_s
    summary = read_summary(store, since_unix_ns=border, until_unix_ns=last + 1, window_s=window_s)
    alarms: list[BacktestAlarm] = []
    for model, windows in ((reference.incident, summary), (reference.drift, coarsen(summary, DAY_S))):
        if model is not None:
            alarms += _replayed(model, windows, reference, border, last)
    until = (last + 1) // (window_s * 10**9) * window_s * 10**9
    return Backtest(reference, tuple(sorted(alarms, key=lambda alarm: alarm.time_unix_ns)), until)


def _replayed(
    model: TierModel, windows: Summary, reference: Reference, border: int, last: int
) -> list[BacktestAlarm]:
    """Run one tier from the end of the reference to the last whole window."""
    window_ns = model.window_s * 10**9
    start, until = -(-border // window_ns), (last + 1) // window_ns
    found = run(
        model, begin(model, start - 1), between(windows, start, until), until=until, key=reference.key
    )
    return [
        BacktestAlarm(
            alarm.tier,
            (alarm.window + 1) * window_ns,
            alarm.change_window * window_ns,
            alarm.streams,
            alarm.effects,
        )
        for alarm in found
    ]
