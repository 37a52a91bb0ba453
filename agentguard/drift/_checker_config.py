"""The settings of the watch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckerConfig:
    """How the watch works. The defaults are meant to be left alone."""

    agent: str = ""
    """Only calls of this agent; empty for all."""
    watermark_s: float = 120.0
    """How long a window stays open after its end, for calls that reach the disk late."""
    window_s: float = 3600.0
    """Without a learnt season: how far back the current window reaches."""
    alpha: float = 0.001
    """Without a learnt season: chance of a false alarm at one look, all features together."""
    calls_min: int = 20
    """Without a learnt season: calls that the current window needs."""
    slice_windows_max: int = 24 * 7
    """Windows read at once while catching up: it bounds memory."""
    silent_windows_max: int = 48
    """Hours without any call that are taken as silence as they pass; longer ones when something is called again."""
    late_windows: int = 3
    """Closed windows that are looked at again to count late calls."""
    described_s_max: float = 7 * 86_400.0
    """How far back the calls are read that describe an alarm: it bounds each pass of a long one."""
    history_max: int = 500
    """Alarms kept."""
