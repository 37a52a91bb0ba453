"""
Taking in what ended since the last pass: the tiers step over the windows that closed.

Closed windows are never judged again: what arrives late is counted.
"""

from __future__ import annotations

import numpy as np

from agentguard.drift._checker_config import CheckerConfig
from agentguard.drift._layout import PLACES
from agentguard.drift._reference import WINDOW_S, Reference
from agentguard.drift._season import DAY_S
from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._summary import MEASURES, MEASURES_MAX, Summary, coarsen, empty_summary
from agentguard.drift._tier import Alarm, run
from agentguard.drift._watch import Watch, history_entry

_STRIDE_MAX = 24 * 7 * 16
_DAY_WINDOWS = DAY_S // WINDOW_S


def catch_up(
    store: FeatureStore, reference: Reference, watch: Watch, *, config: CheckerConfig, now_unix_ns: int
) -> bool:
    """
    Step the tiers over the windows that closed, and count what reached earlier ones too late.

    Args:
        store:
            Where the feature blocks are.
        reference:
            With an hourly tier at least.
        watch:
            Of this reference; it is changed.
        config:
            How the watch works.
        now_unix_ns:
            Nanoseconds since 1970-01-01 UTC.

    Returns:
        Whether *watch* changed.
    """
    assert watch.incident is not None
    closed = (now_unix_ns - int(config.watermark_s * 1e9)) // (WINDOW_S * 10**9)
    before, late_before = watch.incident.window, watch.late
    first, length = before + 1, config.slice_windows_max
    while first < closed:
        until = min(closed, first + length)
        is_silent = not _step(store, reference, watch, config, first, until)
        # Long silence is crossed in longer and longer strides, up to a limit.
        length = min(2 * length, _STRIDE_MAX) if is_silent else config.slice_windows_max
        first = until
    took_silence = _silence(reference, watch, config, closed)
    return took_silence or watch.incident.window != before or watch.late != late_before


def _step(
    store: FeatureStore, reference: Reference, watch: Watch, config: CheckerConfig, first: int, end: int
) -> bool:
    """
    Take in the windows up to the last one before *end* in which anything was called.

    Silence is no evidence, and a clock that jumped ahead must not close windows that are still to
    come: empty windows at the end stay open until something follows them.

    Returns:
        Whether anything was called from *first* on.
    """
    assert reference.incident is not None
    assert watch.incident is not None
    summary = read_summary(
        store,
        since_unix_ns=min(first, _looked_at_again(watch, config)) * WINDOW_S * 10**9,
        until_unix_ns=end * WINDOW_S * 10**9,
        window_s=WINDOW_S,
        agent=reference.agent,
        layout=reference.layout,
        known=reference.known,
    )
    calls = _calls_by_window(summary)
    watch.late += sum(max(0, calls.get(window, 0) - n) for window, n in watch.counted.items())
    is_called = bool(len(summary.keys)) and int(summary.windows[-1]) >= first
    if is_called:
        until = int(summary.windows[-1]) + 1
        alarms = run(reference.incident, watch.incident, summary, until=until, key=reference.key)
        if reference.drift is not None and watch.drift is not None:
            days = coarsen(summary, DAY_S)
            alarms += run(reference.drift, watch.drift, days, until=until // _DAY_WINDOWS, key=reference.key)
        if reference.quality is not None and watch.quality is not None:
            alarms += run(reference.quality, watch.quality, summary, until=until, key=reference.key)
        _note(reference, watch, alarms, config)
    again = range(_looked_at_again(watch, config), watch.incident.window + 1)
    watch.counted = {window: max(calls.get(window, 0), watch.counted.get(window, 0)) for window in again}
    return is_called


def _looked_at_again(watch: Watch, config: CheckerConfig) -> int:
    """Return the first window that is read once more: days are judged once whole, and late calls are counted."""
    assert watch.incident is not None
    window = watch.incident.window + 1 - config.late_windows
    return window if watch.drift is None else min(window, (watch.drift.window + 1) * _DAY_WINDOWS)


def _note(reference: Reference, watch: Watch, alarms: list[Alarm], config: CheckerConfig) -> None:
    """Enter alarms in the list."""
    watch.history += [history_entry(reference, alarm) for alarm in alarms]
    watch.history = watch.history[-config.history_max :]


def _silence(reference: Reference, watch: Watch, config: CheckerConfig, closed: int) -> bool:
    """
    Let the tier that looks at the data take in hours without any call, some of them.

    For it, silence is evidence, as long as it was watched: it goes ahead of the others by a bounded stretch.

    Returns:
        Whether it took any in.
    """
    assert watch.incident is not None
    if reference.quality is None or watch.quality is None:
        return False
    if closed > watch.incident.window + 1 + config.silent_windows_max:
        return False  # nobody looked for so long, or the clock jumped: it says nothing about now
    before = watch.quality.window
    nothing = empty_summary(WINDOW_S)
    _note(
        reference,
        watch,
        run(reference.quality, watch.quality, nothing, until=closed, key=reference.key),
        config,
    )
    return watch.quality.window != before


def _calls_by_window(summary: Summary) -> dict[int, int]:
    """Return how many calls ended in each window: every call has one error flag."""
    from_errors = (summary.series < PLACES) & (summary.series % MEASURES_MAX == MEASURES.index("error"))
    windows, places = np.unique(summary.windows[from_errors], return_inverse=True)
    counts = np.zeros(len(windows), dtype=np.int64)
    np.add.at(counts, places, summary.counts[from_errors])
    return dict(zip(windows.tolist(), counts.tolist(), strict=True))
