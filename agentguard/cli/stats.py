"""`agentguard stats`: calls by what was called, and throughput against concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import Place, emit, emit_document, listing_options, note
from agentguard.cli.store import _report_damage, _since_option
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.capture import LoadCurve, LoadLevel
    from agentguard.store import Query
    from agentguard.values import SpanRecord

_BAR_CHARS = 40
_LEVELS_SHOWN_MAX = 24
_LEVELS_SOLID_MIN = 3


@click.command()
@listing_options(default_limit=0)
@_since_option
@click.option("--agent", help="Only calls of this agent.")
@click.option("--load", is_flag=True, help="Throughput against concurrency instead, and where it bends.")
@click.option(
    "--spans", "spans_max", type=click.IntRange(min=1), default=200_000, show_default=True,
    help="With --load: most spans to look at, the latest ones.",
)  # fmt: skip
@click.pass_obj
def stats(
    place: Place,
    limit: int,
    output_format: str,
    since: int | None,
    agent: str | None,
    *,
    load: bool,
    spans_max: int,
) -> int:
    """
    Calls, errors, latency, tokens and cost by agent, tool and model.

    \b
    agentguard stats --since 1d
    agentguard stats --load --since 1h
    """  # noqa: D301 - \b is for click: it keeps the lines
    from agentguard.store import stats_of

    query = place.open_store().query()
    if load:
        return _load(query, limit, output_format, since=since, agent=agent, spans_max=spans_max)
    rows = [found._asdict() for found in stats_of(query, since_unix_ns=since, agent=agent)]
    emit(
        rows,
        columns=("kind", "name", "calls", "errors", "retries", "p50_ms", "p95_ms", "p99_ms",
                 "input_tokens", "output_tokens", "cost_usd"),
        output_format=output_format,
        limit=limit,
        styles={"errors": lambda value: "red" if value else ""},
        empty="no calls recorded yet, or none that fit",
    )  # fmt: skip
    lost = sum(gap.count for gap in query.gaps())
    if lost:
        note(f"{lost} spans were dropped and counted, and are not in these figures")
    return _report_damage(query.damage)


class _Calls:
    """Calls that compete for the same thing, as far as a curve needs them."""

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.waits_s: list[float] = []

    def add(self, span: SpanRecord) -> None:
        """Take a call; what it holds beside its times is let go of."""
        waited = span.attributes.get(names.LOAD_WAITED_S)
        if isinstance(waited, (int, float)):
            self.waits_s.append(float(waited))
        self.spans.append(span._replace(attributes={}, events=(), links=()))

    def waited_s(self, share: float) -> float | None:
        """Give a quantile of the time in queues; None where no call waited in one."""
        waits = sorted(self.waits_s)
        return waits[min(int(share * len(waits)), len(waits) - 1)] if waits else None


def _load(
    query: Query, limit: int, output_format: str, *, since: int | None, agent: str | None, spans_max: int
) -> int:
    """Show a curve for each model and tool, those with most calls first."""
    from agentguard.capture import load_curve

    found: dict[tuple[str, str], _Calls] = {}
    count = 0
    for span in query.spans(since_unix_ns=since, agent=agent, limit=spans_max, newest_first=True):
        count += 1
        if span.kind in ("model", "embeddings", "tool", "retriever"):
            called = (
                span.attributes.get(names.REQUEST_MODEL) or span.attributes.get(names.TOOL_NAME) or span.name
            )
            found.setdefault((span.kind, str(called)), _Calls()).add(span)
    curves = [
        (kind, name, calls, load_curve(calls.spans))
        for (kind, name), calls in sorted(found.items(), key=lambda one: -len(one[1].spans))
    ]
    curves = curves[:limit] if limit else curves
    if output_format == "text":
        for kind, name, calls, curve in curves:
            click.echo("\n".join(_plot(kind, name, calls, curve)))
        if not curves:
            note("no calls of models or tools recorded yet, or none that fit")
    else:
        documents = [_document(*one) for one in curves]
        if output_format == "json":
            emit_document(documents)
        else:
            emit(documents, columns=("kind", "name"), output_format=output_format)
    if count == spans_max:
        note(f"only the latest {count} spans were looked at; --spans takes more")
    return _report_damage(query.damage)


def _plot(kind: str, name: str, calls: _Calls, curve: LoadCurve) -> list[str]:
    """Draw a curve: a bar of calls a second for each number of calls that ran at once."""
    head = f"{kind} {name}: {len(calls.spans)} calls"
    waited_s = calls.waited_s(0.95)
    if waited_s is not None:
        head += f", 95 % waited at most {waited_s * 1000:.1f} ms in queues"
    lines = [click.style(escape.terminal(head), bold=True), "  at once  calls/s  ms a call"]
    shown = _thinned(curve)
    most = max((level.throughput_per_s for level in shown), default=0.0)
    for level in shown:
        bar = "#" * (round(_BAR_CHARS * level.throughput_per_s / most) if most else 0)
        solid = " " if level.is_solid else "~"
        bend = "  <- bends here" if level.concurrency == curve.bend else ""
        latency = f"{level.latency_s * 1000:10.1f}" if level.calls else "         -"
        lines.append(f" {solid}{level.concurrency:7d} {level.throughput_per_s:8.1f} {latency}  {bar}{bend}")
    lines.append(f"  {_verdict(curve)}")
    if any(not level.is_solid for level in shown):
        lines.append("  ~ too short, or too few calls, to say much")
    return lines


def _thinned(curve: LoadCurve) -> Sequence[LoadLevel]:
    """Choose levels to show: all, or evenly spread ones with the bend among them."""
    solid = tuple(level for level in curve.levels if level.is_solid)
    # Levels that were passed for an instant say nothing, and would set the scale.
    levels = solid if len(solid) >= _LEVELS_SOLID_MIN else curve.levels
    if len(levels) <= _LEVELS_SHOWN_MAX:
        return levels
    step = len(levels) / (_LEVELS_SHOWN_MAX - 1)
    chosen = {int(number * step) for number in range(_LEVELS_SHOWN_MAX - 1)} | {len(levels) - 1}
    chosen |= {number for number, level in enumerate(levels) if level.concurrency == curve.bend}
    return [levels[number] for number in sorted(chosen)]


def _verdict(curve: LoadCurve) -> str:
    """Say where more calls at once stop bringing more."""
    if curve.bend is None or curve.throughput_max_per_s is None:
        return "no bend was seen: too little load, or throughput still rises at the highest"
    return (
        f"bends at {curve.bend} at once: more of them wait for each other, "
        f"and {curve.throughput_max_per_s:.1f} calls/s is the most to be had"
    )


def _document(kind: str, name: str, calls: _Calls, curve: LoadCurve) -> dict[str, object]:
    """Give a curve for JSON; times in seconds."""
    return {
        "kind": kind, "name": name, "calls": len(calls.spans), "bend": curve.bend,
        "throughput_max_per_s": curve.throughput_max_per_s,
        "waited_p50_s": calls.waited_s(0.5), "waited_p95_s": calls.waited_s(0.95),
        "levels": [
            {"concurrency": level.concurrency, "seconds": level.seconds, "calls": level.calls,
             "throughput_per_s": level.throughput_per_s,
             "latency_s": level.latency_s if level.calls else None, "is_solid": level.is_solid}
            for level in curve.levels
        ],
    }  # fmt: skip
