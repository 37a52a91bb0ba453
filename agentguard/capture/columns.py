"""
Columns of many ended spans at once: what their records say, in a fraction of the time.

Spans that are probably alike are read together: short ones of one form, or of forms that are alike where
there are many; others of one kind with the same given names. What all of them have in common is one value; what differs from span to span is read once.
Where they turn out not to be alike, they are told apart by all that attributes follow from.
"""

# ruff: noqa: SLF001 - the spans of this room, whose classes cannot be imported here: they import this module

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

from agentguard.capture.column_groups import Alike, Attributes, MixedError, as_one, attributes_of, told_apart
from agentguard.capture.rare import NOTHING, Rare
from agentguard.reckoning import RECKONING
from agentguard.values import ByGroup, Column, SpanColumns

_NOTHING: Final[Column] = ((),)
_NO_TEXT: Final[Column] = ("",)
_UNSET: Final[Column] = ("unset",)
_FORMS_MAX: Final = 6
"""So many forms have groups of their own."""


class _Group(NamedTuple):
    """Some spans that are alike."""

    places: Sequence[int]
    """Where they stand among all."""
    heads: tuple[Column, ...]
    """Names, kinds, kinds of OpenTelemetry, statuses, their descriptions, events, links and trace states."""
    attributes: Attributes


def columns_of(spans: Sequence[Any]) -> SpanColumns | None:
    """
    Make columns of ended spans.

    Args:
        spans:
            At least one, each a `Span` or a `ShortSpan`.

    Returns:
        What their records say; None where records must be made, since somebody looks at each, or
        since a span is of a form that columns have not.

    """
    RECKONING.settle()  # What calls used, and those inside them, stands on them when they are counted.
    members: defaultdict[Any, list[int]] = defaultdict(list)
    for place, form in enumerate([span.form for span in spans]):
        members[form].append(place)
    others = members.pop(None, ())
    if len(members) > _FORMS_MAX:
        members = _by_kin(members)
    for place in others:
        members[spans[place].kin].append(place)
    if not others:
        # Column by column: no row is made in between.
        trace_ids: Sequence[int] = [span.trace_id for span in spans]
        span_ids: Sequence[int] = [span.span_id for span in spans]
        parent_ids: Sequence[int] = [span.parent_id for span in spans]
        starts: Sequence[int] = [span.start_unix_ns for span in spans]
        durations: Sequence[int] = [span.duration_ns for span in spans]
    else:
        trace_ids, span_ids, parent_ids, starts, durations = zip(*[span.row() for span in spans], strict=True)
        if set(map(type, (*starts, *durations))) != {int}:
            return None  # Of a span that somebody else began, who said when.
    if not all(trace_ids) or not all(span_ids):
        return None
    found = [
        (places, _read(kin, spans if len(places) == len(spans) else [spans[place] for place in places]))
        for kin, places in members.items()
    ]
    environment = found[0][1].environment
    if not all(alike.environment is environment for _, alike in found):
        return None
    refine = environment.refine
    if refine is not None and not refine.is_idle(
        chain.from_iterable([alike.usages for _, alike in found]),
        has_events=any(rare.events for _, alike in found for rare in alike.rares),
    ):
        return None
    try:
        groups = list(
            chain.from_iterable([_groups(alike, places, spans[0].blank) for places, alike in found])
        )
    except MixedError:
        return None
    groups.sort(key=_first_place)
    shape = _shape(groups, len(spans))
    heads = [group.heads for group in groups]
    names, kinds, otel_kinds, statuses, descriptions, events, links, states = (
        heads[0] if len(heads) == 1 else _whole(heads, shape)
    )
    pack_ids = struct.Struct(f">{len(spans)}Q").pack
    packed = _packed_trace_ids(trace_ids)
    return SpanColumns(
        b"".join(packed),
        pack_ids(*span_ids),
        pack_ids(*parent_ids),
        names,
        kinds,
        otel_kinds,
        starts,
        durations,
        statuses,
        descriptions,
        events,
        links,
        ("agentguard",),
        (environment.scope_version,),
        states,
        shape,
        [group.attributes for group in groups],
        tuple(set(packed)),
    )


def _by_kin(members: Mapping[Any, list[int]]) -> defaultdict[Any, list[int]]:
    """Put forms of the same kin together: of many, a column costs less than the groups."""
    merged: defaultdict[Any, list[int]] = defaultdict(list)
    for form, places in members.items():
        merged[form.kin] += places
    for places in merged.values():
        places.sort()
    return merged


def _read(kin: Any, spans: Sequence[Any]) -> Alike:
    """Read spans of one form, or of one kin."""
    if type(kin) is not tuple:
        return _read_short(spans, [kin])
    return _read_long(spans) if spans[0].form is None else _read_short(spans, [span.form for span in spans])


def _read_short(spans: Sequence[Any], forms: Sequence[Any]) -> Alike:
    """Read `ShortSpan`s: of one form, or each of its own."""
    form, size = forms[0], len(spans)
    rares: Sequence[Any] = ()
    states: Column = _NO_TEXT
    # At one look: hardly any has either.
    if [span for span in spans if span.rare is not None or span.identity is not None]:
        rares = [span.rare for span in spans]
        rares = () if rares.count(None) == size else list(map(Rare.whole, rares))
        identities = [span.identity for span in spans]
        if identities.count(None) < size:
            states = _headers([None if identity is None else identity.trace_state for identity in identities])
    return Alike(
        form.environment,
        (form.kind, "", 0),
        [form.attributes for form in forms],
        [span.run.run_id for span in spans],
        [form.agent_name for form in forms],
        [span.own for span in spans],
        [span.in_flight for span in spans],
        [span.usage for span in spans],
        [span.totals for span in spans],
        rares,
        as_one([form.name for form in forms]),
        as_one([form.otel_kind for form in forms]),
        _UNSET,
        states,
    )


def _read_long(spans: Sequence[Any]) -> Alike:
    """Read `Span`s of one kin."""
    first = spans[0]
    rares = [span._rare for span in spans]
    return Alike(
        first._environment,
        (first.kind, first._outcome, first.retries),
        [span._base for span in spans],
        [span._run_id for span in spans],
        [span._agent_name for span in spans],
        [span._own for span in spans],
        [span._in_flight for span in spans],
        [span._usage for span in spans],
        [span._totals for span in spans],
        () if rares.count(NOTHING) == len(spans) else rares,
        as_one([span.name for span in spans]),
        as_one([span.otel_kind for span in spans]),
        as_one([span._status for span in spans]),
        _headers([span._trace_state for span in spans]),
    )


def _headers(states: Sequence[Any]) -> Column:
    """Trace states as text."""
    first = states[0]
    if states.count(first) == len(states):
        return (first.to_header() if first else "",)
    return [state.to_header() if state else "" for state in states]


def _groups(alike: Alike, places: Sequence[int], new: Callable[[], Any]) -> Iterator[_Group]:
    """
    Make a group of spans that are probably alike, or several where they are not.

    Raises:
        MixedError: An attribute came while this ran, on a thread that set it after the end of its span.
    """
    try:
        yield _Group(places, _heads(alike), attributes_of(alike, new))
    except MixedError:
        for some, part in told_apart(alike):
            yield _Group([places[place] for place in some], _heads(part), attributes_of(part, new))


def _heads(alike: Alike) -> tuple[Column, ...]:
    """What spans say beside their attributes."""
    rares = alike.rares
    return (
        alike.names,
        alike.traits[:1],
        alike.otel_kinds,
        alike.statuses,
        [rare.status_description for rare in rares] if rares else _NO_TEXT,
        [rare.events or () for rare in rares] if rares else _NOTHING,
        [rare.links or () for rare in rares] if rares else _NOTHING,
        alike.states,
    )


def _first_place(group: _Group) -> int:
    return group.places[0]


def _shape(groups: Sequence[_Group], size: int) -> Sequence[int]:
    """For each span the number of its group."""
    if len(groups) == 1:
        return (0,)
    shape = [0] * size
    for number, group in enumerate(groups):
        for place in group.places:
            shape[place] = number
    return shape


def _whole(heads: Sequence[Sequence[Column]], shape: Sequence[int]) -> Iterator[Column]:
    """One column of those of several groups, for each of the heads."""
    for parts in zip(*heads, strict=True):
        first = parts[0]
        if len(first) == 1 and parts.count(first) == len(parts):
            yield first
        elif max(map(len, parts)) > 1:
            values = [iter(part) if len(part) > 1 else repeat(part[0]) for part in parts]
            yield [next(values[number]) for number in shape]
        elif type(first[0]) is str:
            yield ByGroup([part[0] for part in parts])
        else:
            yield itemgetter(*shape)([part[0] for part in parts])


def _packed_trace_ids(trace_ids: Sequence[int]) -> list[bytes]:
    """16 bytes for each; spans of one trace follow each other, and have one id."""
    packed: list[bytes] = []
    last, of_last = 0, b""
    for trace_id in trace_ids:
        if trace_id is not last:
            last, of_last = trace_id, trace_id.to_bytes(16, "big")
        packed.append(of_last)
    return packed
