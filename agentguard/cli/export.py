"""Commands that bring data out of the store: OTLP, tables of features, lines of JSON."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, Place, note
from agentguard.cli._machine import record_event
from agentguard.cli._times import SINCE
from agentguard.cli.store import _report_damage, _since_option
from agentguard.errors import ExportError

if TYPE_CHECKING:
    from agentguard.export import ExportCounters, OtlpConfig, OtlpExporter
    from agentguard.store import Query
    from agentguard.values import SpanRecord

_F = TypeVar("_F", bound=Callable[..., object])

_FLUSH_S = 5.0
_until_option = click.option(
    "--until", type=SINCE, help="Only what began before: 15m, 1h, 7d ago, or a date (UTC)."
)


_content_option = click.option(
    "--content",
    type=click.Choice(["none", "redacted", "full"]),
    help="What of recorded content leaves: nothing, what the detectors leave of it, or all.",
)


@click.group()
def export() -> None:
    """
    Send spans to an OTLP backend, write tables.

    What is sent stays in the store. Recorded content leaves it only with --content,
    and files in clear are noted in the decision log.
    """


@export.command()
@click.option(
    "--endpoint",
    default="",
    help="URL of the collector; by default the configured one, or OTEL_EXPORTER_OTLP_*.",
)
@click.option(
    "--protocol",
    type=click.Choice(["http/protobuf", "grpc"]),
    help="By default the configured one, http/protobuf.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Sent with each request. Others may see the command line: a key is better kept in AGENTGUARD_EXPORT_HEADERS.",
)
@click.option(
    "--once/--follow", default=True, help="Send what is there and end (default), or go on until stopped."
)
@_content_option
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(["error", "violation", "slow"]),
    help="Send only such traces, whole.",
)
@click.option(
    "--slow-s", type=click.FloatRange(min=0.001), help="From which duration on a call is slow, in seconds."
)
@click.option("--insecure", is_flag=True, help="Allow a way over the network without TLS.")
@click.option("--again", is_flag=True, help="Send everything from the start, under the same ids.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="With --once: longest time without progress, in seconds.",
)
@click.pass_obj
def otlp(
    place: Place,
    *,
    endpoint: str,
    protocol: str | None,
    headers: tuple[str, ...],
    once: bool,
    content: str | None,
    keep: tuple[str, ...],
    slow_s: float | None,
    insecure: bool,
    again: bool,
    timeout_s: float,
) -> int:
    """
    Send spans to OTLP backends, each at least once.

    Without --endpoint to all that are configured. The next run goes on where this
    one stopped. Exit status 1 where a backend did not take a span.
    """
    from agentguard.export import OtlpExporter
    from agentguard.runtime import SystemClock

    configs = _destinations(
        place, endpoint, protocol, headers, content=content, keep=keep, slow_s=slow_s, insecure=insecure
    )
    store = place.open_store()
    for config in configs:
        record_event(
            place,
            "export.otlp",
            {
                "destination": config.endpoint,
                "content": config.content,
                "keep": ", ".join(config.keep) or "all",
            },
        )
    exporters = [
        OtlpExporter(store, config, clock=SystemClock(), on_internal_error=_Teller()) for config in configs
    ]
    if once:
        for exporter in exporters:
            exporter.run_once(timeout_s, from_start=again)
    else:
        if again:
            raise click.UsageError("--again goes with --once")
        _follow(exporters)
    for exporter in exporters:
        click.echo(_summary(exporter.counters, exporter.config.endpoint))
    return FINDINGS if any(exporter.counters.lost for exporter in exporters) else FINE


def _destinations(
    place: Place,
    endpoint: str,
    protocol: str | None,
    headers: tuple[str, ...],
    *,
    content: str | None,
    keep: tuple[str, ...],
    slow_s: float | None,
    insecure: bool,
) -> list[OtlpConfig]:
    """Give the destinations: those that are configured, or the one of the command line."""
    from agentguard.export import otlp_config
    from agentguard.runtime import destinations

    configured = place.config
    said = [word for word in (endpoint, protocol, *headers) if word]
    if not said and (configured.export != "none" or configured.export_others):
        changes = {
            name: value for name, value in (("content", content), ("keep", keep), ("slow_s", slow_s)) if value
        }
        return [replace(one, **changes) for one in destinations(configured, os.environ)]  # type: ignore[arg-type]
    return [
        otlp_config(
            endpoint or (configured.export if "://" in configured.export else ""),
            protocol=protocol or configured.export_protocol,
            headers=[_header(text) for text in headers] or configured.export_headers,
            content=content or configured.export_content,
            keep=keep or configured.export_keep,
            slow_s=slow_s or configured.export_slow_s,
            ca_file=configured.export_ca_file,
            client_certificate_file=configured.export_client_certificate_file,
            client_key_file=configured.export_client_key_file,
            is_plaintext_allowed=insecure,
            environ=os.environ,
        )
    ]


@export.command()
@click.option(
    "--out",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="FILE.csv or FILE.parquet.",
)
@click.option("--kind", default="model", show_default=True, help="agent, model, tool …, or all.")
@click.option("--agent", help="Only calls of this agent.")
@_since_option
@_until_option
@click.option("--force", is_flag=True, help="Replace the file.")
@click.pass_obj
def features(
    place: Place,
    *,
    path: Path,
    kind: str,
    agent: str | None,
    since: int | None,
    until: int | None,
    force: bool,
) -> int:
    """
    Write one row a call: latency, tokens, retries, error, labels.

    The columns response_latency_ms, token_count, retry_count and error_rate are those
    that `agentguard drift compare` and the everyday scipy recipe read. An unknown
    number of tokens is an empty cell.
    """
    from agentguard.export import feature_rows, private_file, write_csv, write_parquet

    ending = path.suffix.lower()
    if ending not in {".csv", ".parquet"}:
        raise ExportError(f"export: `{path.name}` ends in neither .csv nor .parquet")
    store = place.open_store()
    with private_file(path, is_replaced=force) as file:
        record_event(
            place, "export.features", {"file": str(path.absolute()), "kind": kind, "agent": agent or ""}
        )
        query = store.query()
        rows = feature_rows(
            query,
            kind=None if kind == "all" else kind,
            agent=agent,
            since_unix_ns=since,
            until_unix_ns=until,
        )
        count = write_csv(rows, file) if ending == ".csv" else write_parquet(rows, file)
    note(f"wrote {count} rows to {escape.terminal(str(path))}")
    if count == 0:
        note(f"hint: there are no {escape.terminal(kind)} calls; --kind all takes every call")
    return _report_damage(query.damage)


def _in_clear(command: _F) -> _F:
    """Add what both ways of writing spans in clear take."""
    for option in reversed([
        click.option("--plaintext", is_flag=True, help="Say that the spans shall leave the sealed store in clear."),
        _content_option,
        click.option("--kind", help="agent, model, tool …"),
        click.option("--agent", help="Only calls of this agent."),
        _since_option,
        _until_option,
        click.option("--limit", type=click.IntRange(min=0), default=0, show_default=True, help="Most spans; 0: all."),
        click.option("--force", is_flag=True, help="Replace the file."),
    ]):  # fmt: skip
        command = option(command)
    return command


@export.command()
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="FILE; by default standard output."
)
@_in_clear
@click.pass_obj
def jsonl(place: Place, /, *, path: Path | None, force: bool, content: str | None, **wanted: Any) -> int:
    """Write spans as JSON, one object a line, in clear."""
    from agentguard.export import private_file, write_jsonl

    spans, query, details = _spans_in_clear(place, path, content, **wanted)
    if path is None:
        record_event(place, "export.jsonl", details)
        write_jsonl(spans, sys.stdout.buffer, content=details["content"])
    else:
        with private_file(path, is_replaced=force) as file:
            record_event(place, "export.jsonl", details)
            count = write_jsonl(spans, file, content=details["content"])
        note(f"wrote {count} spans to {escape.terminal(str(path))}")
    return _report_damage(query.damage)


@export.command()
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="FILE.parquet."
)
@_in_clear
@click.pass_obj
def parquet(place: Place, /, *, path: Path, force: bool, content: str | None, **wanted: Any) -> int:
    """Write spans as a Parquet table, in clear; needs the extra agentguard[parquet]."""
    from agentguard.export import private_file, write_spans_parquet

    spans, query, details = _spans_in_clear(place, path, content, **wanted)
    with private_file(path, is_replaced=force) as file:
        record_event(place, "export.parquet", details)
        count = write_spans_parquet(spans, file, content=details["content"])
    note(f"wrote {count} spans to {escape.terminal(str(path))}")
    return _report_damage(query.damage)


def _spans_in_clear(
    place: Place,
    path: Path | None,
    content: str | None,
    *,
    plaintext: bool,
    kind: str | None,
    agent: str | None,
    since: int | None,
    until: int | None,
    limit: int,
) -> tuple[Iterator[SpanRecord], Query, dict[str, Any]]:
    """Begin to read what is to leave in clear, if that is said."""
    if not plaintext:
        raise ExportError("export: this writes sealed spans in clear").hint("say so with --plaintext")
    query = place.open_store().query()
    spans = query.spans(kind=kind, agent=agent, since_unix_ns=since, until_unix_ns=until, limit=limit)
    return spans, query, {"file": str(path.absolute()) if path else "-", "content": content or "none"}


class _Teller:
    """Says internal errors on standard error, each text once in a row."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, where: str, error: BaseException) -> None:
        text = str(error) if isinstance(error, ExportError) else f"{where}: {type(error).__name__}"
        if text != self._last:
            self._last = text
            note(escape.terminal(text))


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter("got no `=`, expected NAME=VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _follow(exporters: Sequence[OtlpExporter]) -> None:
    """Export until a person or the system says stop."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        for exporter in exporters:
            exporter.start()
        note("exporting; Ctrl-C ends it")
        stopped.wait()
        late = [exporter for exporter in exporters if not exporter.flush(_FLUSH_S)]
        if late:
            note("not everything arrived; the rest stays in the store")
        for exporter in exporters:
            exporter.stop(_FLUSH_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summary(counters: ExportCounters, endpoint: str) -> str:
    parts = [f"sent {counters.sent} spans to {endpoint}"]
    if counters.rejected:
        parts.append(f"{counters.rejected} rejected by it")
    if counters.unreadable:
        parts.append(f"{counters.unreadable} answers cannot be read")
    if counters.refused:
        parts.append(f"{counters.refused} refused one by one")
    if counters.left_out:
        parts.append(f"{counters.left_out} left out by choice")
    if counters.too_large:
        parts.append(f"{counters.too_large} larger than it takes")
    return escape.terminal(", ".join(parts))
