"""Commands that read the encrypted store: spans, trace, sql, store."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from agentguard import escape
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    emit_document,
    format_option,
    listing_options,
    note,
    progress,
)
from agentguard.cli._machine import tell_of_content, try_to_record
from agentguard.cli._store_care import backup, migrate, repair, restore
from agentguard.cli._store_keep import keep
from agentguard.cli._times import SINCE
from agentguard.cli.erase import erase
from agentguard.cli.holds import hold
from agentguard.cli.keys import key
from agentguard.errors import StoreError
from agentguard.values import SpanRecord
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.store import DamageReport, Store

_FOLLOW_INTERVAL_S = 0.5


_since_option = click.option(
    "--since", type=SINCE, help="Only what began since: 15m, 1h, 7d ago, or a date (UTC)."
)


@click.command()
@listing_options()
@_since_option
@click.option("--kind", help="agent, model, tool, workflow, retriever …")
@click.option("--agent", help="Name of the agent.")
@click.option("--status", type=click.Choice(["ok", "error", "unset"]))
@click.option("--trace", "trace_id", help="Id of a trace, or its beginning.")
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on; end with Ctrl-C.")
@click.pass_obj
def spans(
    place: Place,
    limit: int,
    output_format: str,
    since: int | None,
    kind: str | None,
    agent: str | None,
    status: str | None,
    trace_id: str | None,
    follow: bool,
) -> int:
    """
    List recorded calls, the latest last.

    \b
    agentguard spans --since 1h --status error
    agentguard spans --kind tool --format jsonl --limit 0
    """  # noqa: D301 - \b is for click: it keeps the lines
    wanted = _Wanted(since, kind, agent, status, trace_id)
    opened = place.open_store()
    if follow:
        _follow(place, opened, wanted, output_format, limit)
        return FINE
    if output_format != "text":  # A line of text shows no content.
        opened.on_content_read = partial(tell_of_content, place)
    query = opened.query()
    if output_format == "jsonl" and not limit:
        # All of a large store: as it comes, in flat memory.
        every = query.spans(**wanted._asdict())
        emit((_document(span) for span in every), columns=(), output_format="jsonl")
    else:
        latest = query.spans(**wanted._asdict(), limit=limit, newest_first=True)
        _emit_spans(list(latest)[::-1], output_format, limit)
    return _report_damage(query.damage)


class _Wanted(NamedTuple):
    """The conditions of `spans`; `None` is none."""

    since_unix_ns: int | None
    kind: str | None
    agent: str | None
    status: str | None
    trace_id: str | None

    def holds(self, span: SpanRecord) -> bool:
        """Whether a span that was just written is wanted."""
        return (
            (self.kind is None or span.kind == self.kind)
            and (self.agent is None or span.attributes.get(names.AGENT_NAME) == self.agent)
            and (self.status is None or span.status == self.status)
            and (self.trace_id is None or span.trace_id.startswith(self.trace_id.lower()))
        )


def _emit_spans(shown: list[SpanRecord], output_format: str, limit: int) -> None:
    """Print spans as a table or as documents."""
    as_text = output_format == "text"
    emit(
        [_row(span) if as_text else _document(span) for span in shown],
        columns=("time", "kind", "name", "duration", "tokens", "status", "agent", "trace"),
        output_format=output_format,
        styles={"status": _status_style},
        empty="no spans recorded yet, or none that fit",
    )
    if as_text and limit and len(shown) == limit:
        note(f"the latest {limit}; --limit 0 shows all")


def _follow(place: Place, opened: Store, wanted: _Wanted, output_format: str, limit: int) -> None:
    """Print what is there, and then whatever is written, until interrupted; all of it is one reading."""
    # Imported late: help and errors need no store.
    from agentguard.store import has_content, tell_before_content

    found = _stream(opened, wanted, limit)
    if output_format != "text":
        asked = ", ".join(f"{name}={value}" for name, value in wanted._asdict().items() if value is not None)
        found = tell_before_content(found, partial(tell_of_content, place, asked), has_content)
    for span in found:
        _print_line(span, output_format)


def _stream(opened: Store, wanted: _Wanted, limit: int) -> Iterator[SpanRecord]:
    """Give the latest spans, and without end those that are written from then on."""
    # The place is taken before the listing: a span that is written in between is
    # in both, and is told by its id.
    cursor = opened.query().end()
    shown = list(opened.query().spans(**wanted._asdict(), limit=limit, newest_first=True))[::-1]
    yield from shown
    known = {span.span_id for span in shown}
    while True:
        for position in opened.query().positions(cursor):
            writer, n, sequence = position.cursor
            cursor[writer] = (n, sequence)
            if wanted.holds(position.span) and position.span.span_id not in known:
                yield position.span
        known.clear()
        sys.stdout.flush()
        time.sleep(_FOLLOW_INTERVAL_S)


def _print_line(span: SpanRecord, output_format: str) -> None:
    """Print one span of a stream."""
    if output_format != "text":
        emit([_document(span)], columns=(), output_format="jsonl")
        return
    row = _row(span)
    cells = (
        row["time"],
        row["kind"],
        row["name"],
        row["duration"],
        row["tokens"],
        row["status"],
        row["trace"],
    )
    click.echo("  ".join(escape.terminal(str(cell)) for cell in cells if cell))


@click.command()
@click.argument("trace_id", metavar="ID")
@format_option()
@click.pass_obj
def trace(place: Place, trace_id: str, output_format: str) -> int:
    """
    Show one trace as a tree. ID is the id of a trace or of a call, or its beginning.

    \b
    agentguard trace 4bf92f35
    """  # noqa: D301 - \b is for click: it keeps the lines
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", trace_id):
        raise click.BadParameter(f"got {trace_id!r}, expected hexadecimal digits", param_hint="ID")
    opened = place.open_store()
    finder = opened.query()
    if output_format != "text":  # A tree shows no content.
        opened.on_content_read = partial(tell_of_content, place)
    query = opened.query()
    found = list(query.spans(trace_id=trace_id))
    if not found and len(trace_id) <= 16:
        traces = {span.trace_id for span in finder.spans(call_id=trace_id)}
        found = [span for one in sorted(traces)[:2] for span in query.spans(trace_id=one)]
    matches = sorted({span.trace_id for span in found})
    if not found:
        raise StoreError(f"trace: got `{trace_id}`, expected the id of a recorded trace or call").hint(
            "`agentguard spans` lists calls with the beginning of their trace ids"
        )
    if len(matches) > 1:
        raise StoreError(f"trace: got `{trace_id}`, which begins {len(matches)} traces, expected one").hint(
            "more digits: " + ", ".join(one[: len(trace_id) + 4] for one in matches[:4])
        )
    found.sort(key=lambda span: (span.start_unix_ns, span.span_id))
    if output_format == "text":
        _print_tree(found)
    else:
        emit([_document(span) for span in found], columns=(), output_format=output_format)
    return _report_damage(query.damage)


def _print_tree(found: list[SpanRecord]) -> None:
    """Print spans below their parents, with the time since the trace began."""
    known = {span.span_id for span in found}
    children: dict[str, list[SpanRecord]] = {}
    for span in found:
        parent = span.parent_span_id if span.parent_span_id in known - {span.span_id} else ""
        children.setdefault(parent, []).append(span)
    begin = min(span.start_unix_ns for span in found)
    click.echo(f"trace {escape.terminal(found[0].trace_id)}  {_time(begin)}  {len(found)} spans")
    printed: set[str] = set()
    # The parents come from files: a loop among them must not become an endless one here.
    stack = [(span, "", i == 0) for i, span in enumerate(reversed(children.get("", [])))]
    while stack:
        span, indent, is_last = stack.pop()
        if span.span_id in printed:
            continue
        printed.add(span.span_id)
        click.echo(f"{indent}{'└─ ' if is_last else '├─ '}{_tree_line(span, begin)}")
        below = [child for child in children.get(span.span_id, []) if child.span_id not in printed]
        deeper = indent + ("   " if is_last else "│  ")
        stack += [(child, deeper, i == 0) for i, child in enumerate(reversed(below))]
    for span in found:
        if span.span_id not in printed:
            click.echo(f"?─ {_tree_line(span, begin)}")


def _tree_line(span: SpanRecord, begin_unix_ns: int) -> str:
    """One span of a tree."""
    error = span.attributes.get(names.ERROR_TYPE)
    parts = [
        span.name,
        f"+{_duration(span.start_unix_ns - begin_unix_ns)}",
        _duration(span.duration_ns),
        _tokens(span),
        f"{span.status}: {error}" if error else span.status if span.status != "unset" else "",
        f"call {span.span_id}",
    ]
    line = "  ".join(escape.terminal(part) for part in parts if part)
    return click.style(line, fg="red") if span.status == "error" else line


@click.command()
@click.argument("query")
@format_option()
@_since_option
@click.option(
    "--spans", "spans_max", type=click.IntRange(min=1), default=None,
    help="Most spans to load, the latest ones. Default: 200,000, or 2,000,000 where no id, status or content is read.",
)  # fmt: skip
@click.pass_obj
def sql(place: Place, query: str, output_format: str, since: int | None, spans_max: int | None) -> int:
    """
    Ask the store in SQL. Tables: spans, outcomes, gaps; view: calls.

    \b
    agentguard sql "select agent, count(*) from spans group by agent"
    agentguard sql "select name, error_type, duration_ns / 1e6 as ms from spans where status = 'error'"
    """  # noqa: D301 - \b is for click: it keeps the lines
    opened = place.open_store()
    opened.on_content_read = partial(tell_of_content, place)
    result = opened.sql(query, since_unix_ns=since, spans_max=spans_max)
    columns = _distinct(result.columns)
    emit(
        (dict(zip(columns, row, strict=True)) for row in result.rows),
        columns=columns,
        output_format=output_format,
        empty="no rows",
    )
    if result.is_partial:
        note(f"only the latest {result.spans} spans were asked; --spans takes more")
    if result.is_cut:
        note(f"only the first {len(result.rows)} rows are shown")
    return _report_damage(result.damage)


def _distinct(columns: tuple[str, ...]) -> list[str]:
    """Give columns of the same name a number."""
    found: list[str] = []
    for name in columns:
        candidate, number = name, 2
        while candidate in found:
            candidate, number = f"{name}_{number}", number + 1
        found.append(candidate)
    return found


@click.group()
def store() -> None:
    """Look after the encrypted store."""


store.add_command(hold)
store.add_command(key)
for _command in (erase, keep, repair, backup, restore, migrate):
    store.add_command(_command)


@store.command("info")
@format_option()
@click.pass_obj
def store_info(place: Place, output_format: str) -> int:
    """Say what the store holds, without its content."""
    info = place.open_store().info()
    document = {
        **info._asdict(),
        "oldest": info.oldest_unix_ns and _time(info.oldest_unix_ns),
        "newest": info.newest_unix_ns and _time(info.newest_unix_ns),
        "damage": dict(info.damage.counts),
    }
    if output_format == "text":
        shown = {key: value for key, value in document.items() if not key.endswith("_unix_ns")}
        shown["key_slots"] = ", ".join(info.key_slots)
        shown["damage"] = str(info.damage)
        emit(
            [{"field": key.replace("_", " "), "value": str(value)} for key, value in shown.items()],
            columns=("field", "value"),
        )
    elif output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    else:
        emit_document(document)
    return FINE


@store.command("verify")
@format_option()
@click.pass_obj
def store_verify(place: Place, output_format: str) -> int:
    """
    Open and decode everything in the store.

    Exit status 0: all can be read. 1: something is damaged, or was tampered with; each place is named.
    The decision log has its own proof: `agentguard decisions verify`.
    """
    count, damage = place.open_store().verify(progress("spans read") if sys.stderr.isatty() else None)
    verdict = "tampered" if damage.is_tampering else "damaged" if damage else "intact"
    try_to_record(
        place, "store.verified", {"verdict": verdict, "spans": count, "damage": dict(damage.counts)}
    )
    if output_format == "text":
        click.echo(f"{verdict}: {count} spans can be read; {damage}")
        for one in damage.first:
            click.echo(escape.terminal(str(one)))
    else:
        document = {
            "verdict": verdict,
            "spans": count,
            "damage": dict(damage.counts),
            "places": [one._asdict() for one in damage.first],
        }
        if output_format == "jsonl":
            emit([document], columns=(), output_format="jsonl")
        else:
            emit_document(document)
    return FINDINGS if damage else FINE


# How a span is shown -------------------------------------------------------------


def _row(span: SpanRecord) -> dict[str, object]:
    """One line of a table."""
    return {
        "time": _time(span.start_unix_ns),
        "kind": span.kind,
        "name": span.name,
        "duration": _duration(span.duration_ns),
        "tokens": _tokens(span),
        "status": span.status,
        "agent": str(span.attributes.get(names.AGENT_NAME, "")),
        "trace": span.trace_id[:8],
    }


def _document(span: SpanRecord) -> Mapping[str, object]:
    """All of a span, as plain data."""
    return {
        **span._asdict(),
        "attributes": dict(span.attributes),
        "events": [{**event._asdict(), "attributes": dict(event.attributes)} for event in span.events],
        "links": [{**link._asdict(), "attributes": dict(link.attributes)} for link in span.links],
    }


def _time(unix_ns: int) -> str:
    """A moment in UTC, to the millisecond."""
    try:
        moment = datetime.fromtimestamp(unix_ns / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return str(unix_ns)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _duration(ns: int) -> str:
    """A duration with a unit that keeps it short."""
    seconds = ns / 1e9
    if seconds >= 60:
        return f"{int(seconds // 60)}m{seconds % 60:04.1f}s"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if ns >= 100_000 else f"{seconds * 1e6:.0f} µs"


def _tokens(span: SpanRecord) -> str:
    """Input and output tokens, where they are known."""
    used = [span.attributes.get(name) for name in (names.INPUT_TOKENS, names.OUTPUT_TOKENS)]
    if used == [None, None]:
        return ""
    return "→".join("?" if value is None else str(value) for value in used)


def _status_style(value: object) -> str:
    return "red" if value == "error" else "green" if value == "ok" else ""


def _report_damage(damage: DamageReport) -> int:
    """Say on standard error what could not be read; the rest was shown."""
    if not damage:
        return FINE
    note(f"{'TAMPERED' if damage.is_tampering else 'damaged'}: {damage}; what can be read is shown")
    note("hint: `agentguard store verify` names the places")
    return FINDINGS if damage.is_tampering else FINE
