"""
Is it still the agent we tested? Comparisons of two windows, and the watch over the store.

Takes tables or the store's feature buffers, gives comparisons and verdicts with a false-alarm
rate that was promised. It never opens a file but those handed to it, never reads a clock, and
never raises into a guarded call.
"""

from agentguard.drift._accuracy import AccuracyState, accuracy_state, betting_interval
from agentguard.drift._backtest import Backtest, BacktestAlarm, BacktestReference, backtest
from agentguard.drift._check import check
from agentguard.drift._checker import Checker
from agentguard.drift._checker_config import CheckerConfig
from agentguard.drift._compare import compare
from agentguard.drift._comparison import Comparison, FeatureComparison
from agentguard.drift._handle import Explanation, acknowledge, explain, reset
from agentguard.drift._known_change import KnownChange, known_change
from agentguard.drift._label_file import LabelFile, LabelState, label_state, read_label_file
from agentguard.drift._labels import LabelledQuality, Metric, labelled_quality, rolling_quality
from agentguard.drift._power import Detectable, arm, smallest_effects
from agentguard.drift._quiet import QuietDays, simulate_quiet_days
from agentguard.drift._reference import Reference, fit_reference, load_reference, save_reference
from agentguard.drift._rehearse import Rehearsal, rehearse
from agentguard.drift._report import report
from agentguard.drift._timeline import Series, timeline
from agentguard.drift._typed import Floors
from agentguard.drift._verdicts import last_verdict
from agentguard.drift._watch import alarm_history

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
