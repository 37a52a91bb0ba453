"""
Many finished calls at once, as columns.

`capture` makes them of its spans, `store` writes them as they are and gives them back, `export`
sends them: to make a record of each span, and columns of the records, takes three times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from agentguard.values.span import SpanEvent, SpanLink

Column: TypeAlias = Sequence[Any]
"""One value for each span, or a single one for all."""


class ByGroup(tuple[str, ...]):
    """A column of text that follows from the group of a span: one for each group."""

    __slots__ = ()


class SpanColumns(NamedTuple):
    """
    What the records of some spans say, in the order of the spans; at least one.

    The fields are those of `SpanRecord`, but for ids and attributes. Names, kinds, statuses, their descriptions
    and trace states may be `ByGroup` on their way to the store, which gives back columns.
    """

    trace_ids: bytes
    """16 bytes a span."""
    span_ids: bytes
    """8 bytes a span."""
    parent_span_ids: bytes
    """8 bytes a span; zeros for a root span."""
    names: Column
    kinds: Column
    otel_kinds: Column
    starts_unix_ns: Sequence[int]
    """Integers, and nothing that equals one; as are durations."""
    durations_ns: Sequence[int]
    statuses: Column
    status_descriptions: Column
    events: Sequence[Sequence[SpanEvent]]
    links: Sequence[Sequence[SpanLink]]
    scopes: Column
    scope_versions: Column
    trace_states: Column
    shape: Sequence[int]
    """For each span the number of its group; a single 0 where there is one group. Groups are numbered as they come."""
    groups: Sequence[tuple[Sequence[str], Sequence[Column]]]
    """The attributes of spans that have the same names: the names, and for each a column over the spans of the group."""
    traces: Sequence[bytes] = ()
    """Of whoever has them at hand: the ids of the traces, each at least once."""
