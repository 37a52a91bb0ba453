"""Commands that bring data out of the store: OTLP, tables of features, lines of JSON."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, Place, note
from agentguard.cli._machine import record_event
from agentguard.cli._times import SINCE
from agentguard.cli.store import _report_damage, _since_option
from agentguard.errors import ExportError

if TYPE_CHECKING:
    from agentguard.export import ExportCounters, OtlpExporter

_FLUSH_S = 5.0
_until_option = click.option(
    "--until", type=SINCE, help="Only what began before: 15m, 1h, 7d ago, or a date (UTC)."
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
@click.option("--content", "with_content", is_flag=True, help="Send recorded content too.")
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
    with_content: bool,
    insecure: bool,
    again: bool,
    timeout_s: float,
) -> int:
    """
    Send spans to an OTLP backend, each at least once.

    The next run goes on where this one stopped. Exit status 1 where the backend
    did not take a span.
    """
    from agentguard.export import OtlpExporter, otlp_config
    from agentguard.runtime import SystemClock

    configured = place.config
    config = otlp_config(
        endpoint or (configured.export if "://" in configured.export else ""),
        protocol=protocol or configured.export_protocol,
        headers=[_header(text) for text in headers] or configured.export_headers,
        with_content=with_content or configured.export_content,
        is_plaintext_allowed=insecure,
        environ=os.environ,
    )
    store = place.open_store()
    record_event(place, "export.otlp", {"destination": config.endpoint, "content": config.with_content})
    exporter = OtlpExporter(store, config, clock=SystemClock(), on_internal_error=_Teller())
    if once:
        counters = exporter.run_once(timeout_s, from_start=again)
    else:
        if again:
            raise click.UsageError("--again goes with --once")
        counters = _follow(exporter)
    click.echo(_summary(counters, config.endpoint))
    return FINDINGS if counters.lost else FINE


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


@export.command()
@click.option("--plaintext", is_flag=True, help="Say that the spans shall leave the sealed store in clear.")
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="FILE; by default standard output."
)
@click.option("--content", "with_content", is_flag=True, help="Write recorded content too.")
@click.option("--kind", help="agent, model, tool …")
@click.option("--agent", help="Only calls of this agent.")
@_since_option
@_until_option
@click.option("--limit", type=click.IntRange(min=0), default=0, show_default=True, help="Most spans; 0: all.")
@click.option("--force", is_flag=True, help="Replace the file.")
@click.pass_obj
def jsonl(
    place: Place,
    *,
    plaintext: bool,
    path: Path | None,
    with_content: bool,
    kind: str | None,
    agent: str | None,
    since: int | None,
    until: int | None,
    limit: int,
    force: bool,
) -> int:
    """Write spans as JSON, one object a line, in clear."""
    from agentguard.export import private_file, write_jsonl

    if not plaintext:
        raise ExportError("export: this writes sealed spans in clear").hint("say so with --plaintext")
    store = place.open_store()
    query = store.query()
    spans = query.spans(kind=kind, agent=agent, since_unix_ns=since, until_unix_ns=until, limit=limit)
    details = {"file": str(path.absolute()) if path else "-", "content": with_content}
    if path is None:
        record_event(place, "export.jsonl", details)
        write_jsonl(spans, sys.stdout.buffer, with_content=with_content)
    else:
        with private_file(path, is_replaced=force) as file:
            record_event(place, "export.jsonl", details)
            count = write_jsonl(spans, file, with_content=with_content)
        note(f"wrote {count} spans to {escape.terminal(str(path))}")
    return _report_damage(query.damage)


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


def _follow(exporter: OtlpExporter) -> ExportCounters:
    """Export until a person or the system says stop."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        exporter.start()
        note("exporting; Ctrl-C ends it")
        stopped.wait()
        if not exporter.flush(_FLUSH_S):
            note("not everything arrived; the rest stays in the store")
        exporter.stop(_FLUSH_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return exporter.counters


def _summary(counters: ExportCounters, endpoint: str) -> str:
    parts = [f"sent {counters.sent} spans to {endpoint}"]
    if counters.rejected:
        parts.append(f"{counters.rejected} rejected by it")
    if counters.refused:
        parts.append(f"{counters.refused} refused one by one")
    if counters.too_large:
        parts.append(f"{counters.too_large} larger than it takes")
    return escape.terminal(", ".join(parts))
