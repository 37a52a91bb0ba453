"""
The watch as one page: control charts with their season bands, evidence, alarms, promised and measured rates.

Self-contained HTML with inline SVG: no script, no font, no request. Every text that comes from outside
passes `escape.html`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from agentguard import escape
from agentguard.drift._reference import Reference, load_reference
from agentguard.drift._sample import Floats
from agentguard.drift._season import regressors
from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._tier import TierModel, begin, score_all, step
from agentguard.drift._verdicts import last_verdict
from agentguard.drift._watch import STATE_BLOB, load_watch
from agentguard.errors import DriftInputError
from agentguard.values import Verdict

CHARTS_MAX = 12
DAYS_MAX = 90
"""Longest time that the page shows, up to the end."""
_WIDTH, _HEIGHT, _LEFT, _TOP = 920, 150, 64, 10
_COLOURS = {"drift": "#b3261e", "warning": "#9a6700", "stable": "#1a7f37", "unknown": "#57606a"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1f2328;max-width:1000px;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}h3{font-size:1em;margin:1.4em 0 .2em}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #d0d7de;padding:.35em .6em;"
    "text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "svg{width:100%;height:auto}.dim{color:#57606a}h3 .dim{font-weight:normal}td.t{white-space:nowrap}"
    ".status{font-weight:600}"
)
_ALARMS = {
    "incident": ("incident", "incidents"),
    "drift": ("drift alarm", "drift alarms"),
    "quality": ("alarm about the data", "alarms about the data"),
}
_SCORES = {
    "rank": "mean rank among the reference; 0.5 is no change",
    "tail": "share above the reference's 95th percentile",
    "share": "share of calls",
    "count": "mean of a call",
    "gap": "share of five-minute stretches without a call",
    "volume": "number of calls; 0.5 is as usual",
}
"""What is drawn, by the type of score."""


class Track(NamedTuple):
    """One tier over the time since the reference."""

    model: TierModel
    first: int
    scores: Floats
    """Shape `(n_windows, n_streams)`, NaN where there is none."""
    expected: Floats
    spread: Floats
    """What a window's score may differ from the expected one, one standard deviation."""
    evidence: Floats
    """Decimal logarithm of the evidence. Shape `(n_windows,)`."""
    alarms: tuple[int, ...]
    """Windows that brought an alarm."""


def report(store: FeatureStore, *, now_unix_ns: int, title: str = "", measured: str = "") -> str:
    """
    Draw the page.

    Args:
        store:
            Where reference, state and calls are.
        now_unix_ns:
            End of what is shown.
        title:
            Head of the page; where empty, the agent's name.
        measured:
            What a rehearsal of the promise gave, in words.

    Raises:
        DriftInputError: No reference is stored.
    """
    reference = load_reference(store)
    if reference is None:
        raise DriftInputError("drift report: no reference is stored, expected one").hint(
            "learn one: agentguard drift fit"
        )
    verdict = last_verdict(store)
    history = load_watch(store.sealed_blob(STATE_BLOB).read(), reference).history
    tracks = [
        _track(store, reference, model, now_unix_ns)
        for model in (reference.incident, reference.drift, reference.quality)
        if model is not None
    ]
    head = title or f"Drift watch{f' of {reference.agent}' if reference.agent else ''}"
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape.html(head)}</title><style>{_STYLE}</style></head><body><h1>{escape.html(head)}</h1>",
        _verdict_part(verdict),
        _promise_part(reference, tracks, measured, verdict.late_calls),
        _alarm_table(history, reference.reference_id),
    ]
    parts += [_track_part(track) for track in tracks]
    if not tracks:
        parts.append("<p>No season is learnt yet, so there is no chart: two windows are compared.</p>")
    parts.append(f"<p class=dim>Drawn {_when(now_unix_ns)}. Times are UTC.</p></body></html>")
    return "\n".join(parts)


def _track(store: FeatureStore, reference: Reference, model: TierModel, now_unix_ns: int) -> Track:
    """Live through the time since the reference again, and keep what was seen."""
    window_ns = model.window_s * 10**9
    first = -(-reference.until_unix_ns // window_ns)
    n = max(0, now_unix_ns // window_ns - first)
    summary = read_summary(
        store,
        since_unix_ns=first * window_ns,
        until_unix_ns=(first + n) * window_ns,
        window_s=model.window_s,
        agent=reference.agent,
        layout=reference.layout,
        known=reference.known,
    )
    # Silence at the end is not judged: it may only be that nothing has come yet.
    n = int(summary.windows[-1]) + 1 - first if len(summary.keys) else 0
    scores, rows = score_all(model, summary, first=first, n_windows=n)
    design = regressors(np.arange(first, first + n), window_s=model.window_s, kind=model.season)
    expected = design @ model.coefficients.T
    spread = np.sqrt(model.dynamics.variance + model.dynamics.noise / np.maximum(rows, 1))
    state, evidence, alarms = begin(model, first - 1), [], []
    for t in range(n):
        if step(model, state, scores[t], rows[t].astype(np.float64), reference.key) is not None:
            alarms.append(first + t)
        evidence.append(state.log_evidence / math.log(10))
    keep = min(n, DAYS_MAX * 86_400 // model.window_s)
    return Track(
        model,
        first + n - keep,
        scores[n - keep :],
        expected[n - keep :],
        spread[n - keep :],
        np.array(evidence[n - keep :]),
        tuple(alarms),
    )


def _when(unix_ns: int) -> str:
    """Return a moment as people read it."""
    return f"{datetime.fromtimestamp(unix_ns / 1e9, tz=UTC):%Y-%m-%d %H:%M}"


def _verdict_part(verdict: Verdict) -> str:
    """Draw what the watch thinks."""
    colour = _COLOURS[verdict.status.value]
    kind = f" ({escape.html(verdict.kind)})" if verdict.kind else ""
    items = "".join(f"<li>{escape.html(f.sentence)}</li>" for f in verdict.features if f.is_drift)
    return (
        f'<p><span class=status style="color:{colour}">{verdict.status.value}{kind}</span>'
        f" {escape.html(verdict.sentence)}</p><ul>{items}</ul>"
    )


def _promise_part(reference: Reference, tracks: Sequence[Track], measured: str, late_calls: int) -> str:
    """Draw what was promised, and what came of it."""
    years = sum(len(t.evidence) * t.model.window_s for t in tracks[:1]) / (365 * 86_400)
    rows = [
        ("reference", f"{_when(reference.since_unix_ns)} to {_when(reference.until_unix_ns)}"),
        ("what it carries", reference.sentence),
        ("promised", f"false alarms of each kind: at most {reference.promise_per_year:g} a year"),
    ]
    if measured:
        rows.append(("measured on its own days", measured))
    if tracks:
        alarms = ", ".join(f"{len(t.alarms)} {_ALARMS[t.model.name][len(t.alarms) != 1]}" for t in tracks)
        rows.append(("alarms since, true and false", f"{alarms} in {years * 365:.0f} days"))
    if late_calls:
        rows.append(("too late to be judged", f"{late_calls:,} call{'s' * (late_calls != 1)}"))
    body = "".join(f"<tr><th>{name}</th><td>{escape.html(text)}</td></tr>" for name, text in rows)
    return f"<h2>Promise</h2><table>{body}</table>"


def _alarm_table(history: Sequence[dict[str, Any]], reference_id: str) -> str:
    """Draw the alarms, the newest first."""
    if not history:
        return "<h2>Alarms</h2><p>There has been none.</p>"
    rows = []
    for entry in reversed(history[-50:]):
        effects = ", ".join(
            f"{escape.html(stream)} {effect:+.3f}"
            for stream, effect in zip(entry["streams"], entry["effects"], strict=True)
        )
        note = escape.html(str(entry.get("acknowledged", "")))
        if entry.get("reference_id") != reference_id:
            note += "<div class=dim>against an earlier reference</div>"
        rows.append(
            f"<tr><td class=t>{_when(entry['time_unix_ns'])}</td><td>{escape.html(entry['kind'])}</td>"
            f"<td class=t>{_when(entry['change_unix_ns'])}</td><td>{effects}</td><td>{note}</td></tr>"
        )
    head = "<tr><th>raised</th><th>kind</th><th>since about</th><th>streams, change of score</th><th>known</th></tr>"
    return f"<h2>Alarms</h2><table>{head}{''.join(rows)}</table>"


def _track_part(track: Track) -> str:
    """Draw one tier: its evidence, then its streams, those that alarmed or moved most first."""
    name = {"incident": "Hours", "drift": "Days", "quality": "The data, by hours"}[track.model.name]
    if not len(track.evidence):
        return f"<h2>{name}</h2><p>No whole window has ended since the reference.</p>"
    with np.errstate(invalid="ignore"):
        far = np.abs((track.scores - track.expected) / track.spread)
    worst = np.nan_to_num(np.nanmean(np.where(np.isfinite(far), far, 0.0)[-24:], axis=0))
    order = np.argsort(-worst, kind="stable").tolist()[:CHARTS_MAX]
    parts = [
        f"<h2>{name}</h2><h3>Evidence, as a power of ten; the dashed line is the alarm</h3>",
        _evidence_chart(track),
        f"<p class=dim>Below: what was (black), what the rhythm of the reference expects (dashed), the band that"
        f" about 95 of 100 {'days' if track.model.name == 'drift' else 'hours'} stay in (blue), alarms (red).</p>",
    ]
    for i in order:
        stream = track.model.streams[i]
        parts += [
            f"<h3>{escape.html(stream.name)} <span class=dim>{_SCORES[stream.score]}</span></h3>",
            _control_chart(track, i),
        ]
    left = len(track.model.streams) - len(order)
    if left > 0:
        parts.append(f"<p class=dim>{left} more streams moved less.</p>")
    return "".join(parts)


class Frame(NamedTuple):
    """Where numbers are on a chart."""

    first: int
    n: int
    low: float
    high: float
    window_s: int

    def x(self, window: float) -> float:
        """Return where a window is."""
        return _LEFT + (window - self.first) / max(1, self.n - 1) * (_WIDTH - _LEFT - 10)

    def y(self, value: float) -> float:
        """Return where a number is."""
        clipped = min(max(value, self.low), self.high)
        return _TOP + (self.high - clipped) / (self.high - self.low) * _HEIGHT


def _frame(track: Track, values: Sequence[Floats]) -> Frame:
    """Return a frame that holds all of the values."""
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = (high - low) * 0.08 or max(abs(high), 1e-3) * 0.1
    return Frame(track.first, len(track.evidence), low - margin, high + margin, track.model.window_s)


def _control_chart(track: Track, place: int) -> str:
    """Draw one stream with what was expected of it, plus and minus two standard deviations."""
    score, middle = track.scores[:, place], track.expected[:, place]
    upper, lower = middle + 2 * track.spread[:, place], middle - 2 * track.spread[:, place]
    # An hour with a handful of calls has a band that would flatten all the others: it is cut off.
    frame = _frame(track, [score, np.quantile(upper, [0.9]), np.quantile(lower, [0.1])])
    windows = range(track.first, track.first + len(score))
    top = " ".join(f"{frame.x(w):.1f},{frame.y(v):.1f}" for w, v in zip(windows, upper.tolist(), strict=True))
    end = " ".join(
        f"{frame.x(w):.1f},{frame.y(v):.1f}"
        for w, v in reversed(list(zip(windows, lower.tolist(), strict=True)))
    )
    band = f'<polygon points="{top} {end}" fill="#ddf4ff"/>'
    return _svg(
        frame, band + _line(frame, middle, "#54aeff", dashed=True) + _line(frame, score, "#1f2328"), track
    )


def _evidence_chart(track: Track) -> str:
    """Draw the evidence with its threshold."""
    threshold = track.model.log_threshold / math.log(10)
    frame = _frame(track, [np.maximum(track.evidence, -3.0), np.array([threshold])])
    y = frame.y(threshold)
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#b3261e" stroke-dasharray="6 4"/>'
    return _svg(frame, line + _line(frame, np.maximum(track.evidence, -3.0), "#1f2328"), track)


def _line(frame: Frame, values: Floats, colour: str, *, dashed: bool = False) -> str:
    """Draw a line that is broken where there is no number."""
    path, pen = [], "M"
    for window, value in enumerate(values.tolist(), frame.first):
        if not math.isfinite(value):
            pen = "M"
            continue
        path.append(f"{pen}{frame.x(window):.1f} {frame.y(value):.1f}")
        pen = "L"
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}/>'


def _svg(frame: Frame, inside: str, track: Track) -> str:
    """Put axes and the marks of alarms around a chart."""
    marks = "".join(
        f'<line x1="{frame.x(w):.1f}" x2="{frame.x(w):.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#b3261e"/>'
        for w in track.alarms
        if frame.first <= w < frame.first + frame.n
    )
    ticks = ""
    for value in (frame.low, (frame.low + frame.high) / 2, frame.high):
        ticks += f'<text x="{_LEFT - 8}" y="{frame.y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
    for part in range(5):
        window = frame.first + round(part * (frame.n - 1) / 4)
        day = datetime.fromtimestamp(window * frame.window_s, tz=UTC)
        anchor = ("start", "middle", "middle", "middle", "end")[part]
        ticks += f'<text x="{frame.x(window):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="{anchor}">{day:%Y-%m-%d}</text>'
    box = f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - 10}" height="{_HEIGHT}" fill="none" stroke="#d0d7de"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_TOP + _HEIGHT + 26}" role="img" font-size="12" fill="#57606a">'
        f"{inside}{marks}{box}{ticks}</svg>"
    )
