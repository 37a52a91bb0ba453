"""
One row a call: the table that the everyday drift recipe compares.

The four columns of `EVERYDAY_FEATURES` come first, then what a person needs to
slice them: labels, score, time, agent, tool, model, the id of the call. What is
unknown is an empty cell, never a zero, with one exception: a failed call that
has no token usage counts no tokens, since none were billed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, get_type_hints

from agentguard import escape
from agentguard.errors import ExportError
from agentguard.values import EVERYDAY_FEATURES, OutcomeRecord, SpanRecord
from agentguard.values import attributes as names

if TYPE_CHECKING:
    import pyarrow

_ROWS_A_GROUP = 10_000


class FeatureRow(NamedTuple):
    """One call as a row."""

    response_latency_ms: float
    """Duration of the call; for a stream until its last chunk."""
    token_count: int | None
    """Input plus output tokens; of an agent the total of its run where it is known."""
    retry_count: int
    """Attempts beyond the first."""
    error_rate: int
    """1 where the call failed, else 0: its mean over a window is the error rate of the window."""
    predicted_label: str | None
    true_label: str | None
    score: float | None
    start_time: datetime
    """UTC, whole microseconds."""
    kind: str
    agent: str
    tool: str
    model: str
    call_id: str


FEATURE_COLUMNS: Final = FeatureRow._fields

assert FEATURE_COLUMNS[:4] == EVERYDAY_FEATURES


class Records(Protocol):
    """A query, as far as the table needs it."""

    def spans(
        self, *, since_unix_ns: int | None, until_unix_ns: int | None, kind: str | None, agent: str | None
    ) -> Iterator[SpanRecord]:
        """Spans for which the conditions hold."""
        ...

    def outcomes(self) -> Iterable[OutcomeRecord]:
        """All outcomes, those of one call in the order in which they came."""
        ...


def feature_rows(
    query: Records,
    *,
    kind: str | None = "model",
    agent: str | None = None,
    since_unix_ns: int | None = None,
    until_unix_ns: int | None = None,
) -> Iterator[FeatureRow]:
    """
    Make one row of each call, in the order of the store: sort by `start_time` where that matters.

    Args:
        query:
            Of the store.
        kind:
            agent, model, tool …; `None` for all. Model calls by default: other
            calls have no tokens of their own.
        agent:
            Only calls of this agent.
        since_unix_ns:
            Only calls that started then or later.
        until_unix_ns:
            Only calls that started before.

    Yields:
        Rows. The outcome of a call is the last one that was recorded for it,
        field by field: a label that comes later does not take the score away.
    """
    outcomes = _outcomes(query.outcomes())
    for record in query.spans(
        since_unix_ns=since_unix_ns, until_unix_ns=until_unix_ns, kind=kind, agent=agent
    ):
        yield _row(record, outcomes.get(record.call_id))


def _outcomes(records: Iterable[OutcomeRecord]) -> dict[str, OutcomeRecord]:
    """Merge the outcomes of each call."""
    merged: dict[str, OutcomeRecord] = {}
    for later in records:
        earlier = merged.get(later.call_id)
        if earlier is not None:
            later = later._replace(  # noqa: PLW2901 - the merged one takes its place
                predicted_label=earlier.predicted_label
                if later.predicted_label is None
                else later.predicted_label,
                true_label=earlier.true_label if later.true_label is None else later.true_label,
                score=earlier.score if later.score is None else later.score,
            )
        merged[later.call_id] = later
    return merged


def _row(record: SpanRecord, outcome: OutcomeRecord | None) -> FeatureRow:
    get = record.attributes.get
    is_error = record.status == "error" or names.ERROR_TYPE in record.attributes
    resent, attempts = _count(get(names.HTTP_RESEND_COUNT)), _count(get(names.ATTEMPTS))
    retries = resent if resent is not None else (attempts or 1) - 1
    return FeatureRow(
        response_latency_ms=record.duration_ns / 1e6,
        token_count=_tokens(get, is_error=is_error),
        retry_count=max(retries, 0),
        error_rate=int(is_error),
        predicted_label=outcome.predicted_label if outcome else None,
        true_label=outcome.true_label if outcome else None,
        score=outcome.score if outcome else None,
        start_time=_time(record.start_unix_ns),
        kind=record.kind,
        agent=_text(get(names.AGENT_NAME)),
        tool=_text(get(names.TOOL_NAME)),
        model=_text(get(names.RESPONSE_MODEL) or get(names.REQUEST_MODEL)),
        call_id=record.call_id,
    )


def _tokens(get: Callable[[str], Any], *, is_error: bool) -> int | None:
    """Add up input and output; of an agent the totals of its run."""
    for pair in (
        (names.INPUT_TOKENS, names.OUTPUT_TOKENS),
        (names.USAGE_TOTAL_INPUT_TOKENS, names.USAGE_TOTAL_OUTPUT_TOKENS),
    ):
        known = [count for count in (_count(get(name)) for name in pair) if count is not None]
        if known:
            return sum(known)
    return 0 if is_error else None


def _count(value: Any) -> int | None:
    """Return a number that counts something; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(unix_ns: int) -> datetime:
    seconds, rest_ns = divmod(max(unix_ns, 0), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)


def write_csv(rows: Iterable[FeatureRow], file: BinaryIO) -> int:
    """
    Write rows as CSV with a head line; returns how many.

    Names that a spreadsheet would take for a formula are made harmless.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FEATURE_COLUMNS)
        count = 0
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            count += 1
        return count
    finally:
        text.detach()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return escape.csv_cell(value)
    return value.isoformat() if isinstance(value, datetime) else value


def write_parquet(rows: Iterable[FeatureRow], file: BinaryIO) -> int:
    """
    Write rows as Parquet; returns how many.

    Raises:
        ExportError: pyarrow is not installed.
    """
    try:
        # Imported here: an extra, and a large one.
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ExportError("export: Parquet needs pyarrow").hint(
            "pip install 'agentguard[parquet]'"
        ) from error
    schema = _schema(pyarrow)
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(rows):
            columns = zip(*group, strict=True)
            arrays = [
                pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(group)
    return count


def _schema(pa: Any) -> pyarrow.Schema:
    """Say the types of the columns; an empty table has them too."""
    types = {float: pa.float64(), int: pa.int64(), str: pa.string(), datetime: pa.timestamp("us", tz="UTC")}
    hints = get_type_hints(FeatureRow)
    fields = []
    for name in FEATURE_COLUMNS:
        options = getattr(hints[name], "__args__", (hints[name],))
        is_nullable = type(None) in options
        kind = next(option for option in options if option is not type(None))
        fields.append(pa.field(name, types[kind], nullable=is_nullable))
    return pa.schema(fields)


def _groups(rows: Iterable[FeatureRow]) -> Iterator[list[FeatureRow]]:
    group: list[FeatureRow] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group
