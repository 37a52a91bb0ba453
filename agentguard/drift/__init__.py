"""
Is it still the agent we tested? Comparisons of two windows, and the watch over the store.

Takes tables or the store's feature buffers, gives comparisons and verdicts with a false-alarm
rate that was promised. It never opens a file but those handed to it, never reads a clock, and
never raises into a guarded call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentguard.drift._accuracy import AccuracyState, accuracy_state, betting_interval
from agentguard.drift._checker import Checker
from agentguard.drift._checker_config import CheckerConfig
from agentguard.drift._comparison import Comparison, FeatureComparison
from agentguard.drift._label_file import LabelFile, LabelState, label_state, read_label_file
from agentguard.drift._labels import LabelledQuality, Metric, labelled_quality, rolling_quality
from agentguard.drift._reference import Reference, fit_reference, load_reference, save_reference
from agentguard.drift._typed import Floors
from agentguard.drift._verdicts import last_verdict
from agentguard.drift._watch import alarm_history

if TYPE_CHECKING:
    from agentguard.drift._backtest import Backtest, BacktestAlarm, BacktestReference, backtest
    from agentguard.drift._check import check
    from agentguard.drift._compare import compare
    from agentguard.drift._handle import Explanation, acknowledge, explain, reset
    from agentguard.drift._known_change import KnownChange, known_change
    from agentguard.drift._power import Detectable, arm, smallest_effects
    from agentguard.drift._quiet import QuietDays, simulate_quiet_days
    from agentguard.drift._rehearse import Rehearsal, rehearse
    from agentguard.drift._report import report
    from agentguard.drift._timeline import Series, timeline

__all__ = [
    "AccuracyState",
    "Backtest",
    "BacktestAlarm",
    "BacktestReference",
    "Checker",
    "CheckerConfig",
    "Comparison",
    "Detectable",
    "Explanation",
    "FeatureComparison",
    "Floors",
    "KnownChange",
    "LabelFile",
    "LabelState",
    "LabelledQuality",
    "Metric",
    "QuietDays",
    "Reference",
    "Rehearsal",
    "Series",
    "accuracy_state",
    "acknowledge",
    "alarm_history",
    "arm",
    "backtest",
    "betting_interval",
    "check",
    "compare",
    "explain",
    "fit_reference",
    "known_change",
    "label_state",
    "labelled_quality",
    "last_verdict",
    "load_reference",
    "read_label_file",
    "rehearse",
    "report",
    "reset",
    "rolling_quality",
    "save_reference",
    "simulate_quiet_days",
    "smallest_effects",
    "timeline",
]

_LATER: Final = {
    "Backtest": "_backtest",
    "BacktestAlarm": "_backtest",
    "BacktestReference": "_backtest",
    "Detectable": "_power",
    "Explanation": "_handle",
    "KnownChange": "_known_change",
    "QuietDays": "_quiet",
    "Rehearsal": "_rehearse",
    "Series": "_timeline",
    "acknowledge": "_handle",
    "arm": "_power",
    "backtest": "_backtest",
    "check": "_check",
    "compare": "_compare",
    "explain": "_handle",
    "known_change": "_known_change",
    "rehearse": "_rehearse",
    "report": "_report",
    "reset": "_handle",
    "simulate_quiet_days": "_quiet",
    "smallest_effects": "_power",
    "timeline": "_timeline",
}
"""What people ask for, and the checker in a governed process does not need: loaded on demand, half a megabyte."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'agentguard.drift' has no attribute {name!r}")
    return getattr(import_module(f"agentguard.drift.{_LATER[name]}"), name)
