"""
Columns of many ended spans at once: what their records say, in a third of the time.

Spans are put into groups whose attributes have the same names for the same reasons. What a
span of a group says is asked once, of one that has marks in the place of its values;
the answer is kept, and says for each attribute which column it is. So there is one place
that knows which attributes a span has: `Span.attributes`.
"""

# ruff: noqa: SLF001 - the spans of this room, whose class cannot be imported here: it imports this module

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, count, pairwise, repeat
from operator import attrgetter, is_, itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from agentguard.capture.usage_sums import UsageTotals
from agentguard.values import Column, SpanColumns, Usage
from agentguard.values import attributes as names

_TEMPLATES_MAX: Final = 4_096
_FINISH_REASONS: Final = Usage._fields.index("finish_reasons")
_NOTHING: Final[Column] = ((),)
_NO_TEXT: Final[Column] = ("",)
_FEW: Final = 8
"""Up to so many groups are counted one by one."""
_Groups: TypeAlias = list[tuple[Sequence[str], Sequence[Column]]]
_Presence: TypeAlias = tuple[bool, ...] | None
"""Which numbers a usage or a sum has; None where there is none."""

# Each of these is read of each span, and a span is cold by now: what is rare is read where it can be.
_read: Final = attrgetter(
    "_trace_id", "_span_id", "_parent_id", "name", "kind", "otel_kind", "_start_unix_ns", "_duration_ns",
    "_status", "_events", "_links", "_trace_state", "_environment", "_attributes", "_in_flight", "_usage",
    "_totals", "_billed", "_first_chunk_ns", "_is_parent_foreign", "_dropped",
)  # fmt: skip


class _Mark:
    """Stands for the values of a column."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class _Traits(NamedTuple):
    """Why the spans of a group have the attributes that they have; the same for all of them."""

    profile: str
    is_plain_on_agents: bool
    kind: str
    names: tuple[str, ...]
    """Of the attributes that were set."""
    sums: tuple[_Presence, ...]
    """Of the usage, the totals and, where any span has one, of what was billed."""
    is_unpriced: bool = False
    outcome: str = ""
    retries: int = 0
    is_stream: bool = False
    """Whether a first chunk has come."""
    is_parent_foreign: bool = False
    has_owner: bool = False
    """Asked only where the parent is foreign."""
    dropped: tuple[int, int, int] | None = None


class _Template(NamedTuple):
    """The attributes of a group: their names, and for each its column, or the one value of all."""

    names: tuple[str, ...]
    columns: tuple[tuple[int, Column], ...]
    """The place among the columns of the group, or -1 and the value."""
    derived: tuple[str, ...]
    """Traits that bring a column of their own: those of this group."""


class _MixedError(Exception):
    """Spans that were put into one group are not alike."""


_templates: dict[tuple[Any, ...], _Template] = {}


def columns_of(spans: Sequence[Any]) -> SpanColumns | None:
    """
    Make columns of ended spans.

    Args:
        spans:
            At least one, all of the class `Span`.

    Returns:
        What their records say; None where records must be made, since somebody looks at each, or
        since a span is of a form that columns have not.

    """
    (trace_ids, span_ids, parent_ids, span_names, kinds, otel_kinds, starts, durations, statuses,
     events, links, states, environments, *rest) = zip(*map(_read, spans), strict=True)  # fmt: skip
    environment, size = environments[0], len(spans)
    has_events = any(events)
    refine = environment.refine
    if (
        environments.count(environment) != size
        or 0 in span_ids
        or 0 in trace_ids
        or (refine is not None and not refine.is_idle(rest[2], has_events=has_events))
    ):
        return None
    is_told = statuses.count("unset") < size
    grouping = _Grouping(spans, environment, kinds, rest, is_told=is_told, has_events=has_events)
    try:
        groups = grouping.groups()
    except _MixedError:
        return None
    pack_ids = struct.Struct(f">{size}Q").pack
    return SpanColumns(
        b"".join([trace_id.to_bytes(16, "big") for trace_id in trace_ids]),
        pack_ids(*span_ids),
        pack_ids(*parent_ids),
        span_names,
        kinds,
        otel_kinds,
        starts,
        durations,
        statuses,
        [span._status_description for span in spans] if is_told else _NO_TEXT,
        [each or () for each in events] if has_events else _NOTHING,
        [each or () for each in links] if any(links) else _NOTHING,
        ("agentguard",),
        (environment.scope_version,),
        _headers(states),
        grouping.shape if len(groups) > 1 else (0,),
        groups,
    )


def _headers(states: Sequence[Any]) -> Column:
    """Trace states as text."""
    first = states[0]
    if states.count(first) == len(states):
        return (first.to_header() if first else "",)
    return [state.to_header() if state else "" for state in states]


class _Grouping:
    """Puts spans into groups whose attributes have the same names."""

    def __init__(
        self,
        spans: Sequence[Any],
        environment: Any,
        kinds: Sequence[str],
        rest: Sequence[Sequence[Any]],
        *,
        is_told: bool,
        has_events: bool,
    ) -> None:
        """
        Look at what spans are told apart by.

        Args:
            spans:
                The spans.
            environment:
                That of all of them.
            kinds:
                Their kinds.
            rest:
                What `_read` reads behind the environment.
            is_told:
                Whether any of them has a status; an outcome gives one.
            has_events:
                Whether any has events; a retry makes one.

        """
        self._new = partial(object.__new__, type(spans[0]))
        self._environment = environment
        attributes, flights, usages, totals, billed, firsts, foreign, dropped = rest
        self._sums = [usages, totals]
        has_drops = any(dropped)
        # By trait; what is the same for all is left out.
        varying: dict[str, Sequence[Any]] = {}
        if any(billed):
            self._sums.append(billed)
            varying["is_unpriced"] = [span._unpriced is not None for span in spans]
        if is_told:
            varying["outcome"] = [span._outcome for span in spans]
        if has_events or has_drops:
            varying["retries"] = [span.retries for span in spans]
        if has_drops:
            varying["dropped"] = [None if each is None else tuple(each) for each in dropped]
        derived: dict[str, Sequence[Any]] = {}
        if max(firsts) >= 0:
            varying["is_stream"] = [first >= 0 for first in firsts]
            derived["is_stream"] = [first / 1e9 for first in firsts]
        if True in foreign:
            owners = [span._owner_id for span in spans]
            varying["is_parent_foreign"] = foreign
            varying["has_owner"] = [far and owner > 0 for far, owner in zip(foreign, owners, strict=True)]
            derived["has_owner"] = [f"{owner:016x}" for owner in owners]
        self._told = (environment.profile, environment.usage_on_agents, tuple(varying), tuple(derived))
        """What all groups have in common: the last two are the traits that spans are told apart by, and those of
        them that bring a column of their own."""
        self._columns = (attributes, flights, *self._sums, *derived.values())
        self._told_by = (kinds, list(map(tuple, attributes)), *varying.values())
        self.shape: Sequence[int] = ()
        """For each span the number of its group."""

    def groups(self) -> _Groups:
        """
        Give the groups, in the order in which their first spans come.

        Raises:
            _MixedError: An attribute came while this ran, on a thread that set it after the end of its span.
        """
        try:
            return self._split(zip(*self._told_by, strict=True))
        except _MixedError:
            # Spans that are alike otherwise report other numbers: each is looked at by itself.
            exact = [list(map(_presence, column)) for column in self._sums]
            return self._split(zip(*self._told_by, *exact, strict=True))

    def _split(self, told_apart: Iterable[tuple[Any, ...]]) -> _Groups:
        """Make a group of all spans that are not told apart."""
        numbers: dict[tuple[Any, ...], int] = {}
        self.shape = [numbers.setdefault(key, len(numbers)) for key in told_apart]
        if len(numbers) == 1:
            return [self._group(next(iter(numbers)), self._columns)]
        order = sorted(range(len(self.shape)), key=self.shape.__getitem__)
        sorted_columns = list(map(itemgetter(*order), self._columns))
        ends = [0, *accumulate(_counts(self.shape, len(numbers)))]
        return [
            self._group(key, [column[start:end] for column in sorted_columns])
            for key, (start, end) in zip(numbers, pairwise(ends), strict=True)
        ]

    def _group(
        self, key: tuple[Any, ...], columns: Sequence[Sequence[Any]]
    ) -> tuple[Sequence[str], Sequence[Column]]:
        """Make the columns of one group."""
        kind, attribute_names, *told = key
        attributes, flights, *others = columns
        width = len(attribute_names)
        values = list(chain.from_iterable([each.values() for each in attributes]))
        if len(values) != width * len(attributes):
            raise _MixedError
        every: list[Column] = [values[place::width] for place in range(width)]
        every.append(flights)
        sums = tuple([_take_apart(column, every) for column in others[: len(self._sums)]])
        # Not by its traits: to put them together takes longer than all that is left to do.
        known = (*self._told, key, sums)
        template = _templates.get(known)
        if template is None:
            profile, is_plain, varying, _ = self._told
            traits = _Traits(
                profile, is_plain, kind, attribute_names, sums, **dict(zip(varying, told, strict=False))
            )
            template = _template_of(self._new(), self._environment, traits)
            if len(_templates) >= _TEMPLATES_MAX:
                # Names of attributes are the application's: they must not fill the memory.
                _templates.clear()
            _templates[known] = template
        for name, column in zip(self._told[-1], others[len(self._sums) :], strict=True):
            if name in template.derived:
                every.append(column)
        return template.names, [every[place] if place >= 0 else value for place, value in template.columns]


def _counts(shape: Sequence[int], size: int) -> list[int]:
    """How many spans each group has."""
    if size <= _FEW:
        return list(map(shape.count, range(size)))
    counts = Counter(shape)
    return [counts[number] for number in range(size)]


def _take_apart(sums: Sequence[Any], columns: list[Column]) -> _Presence:
    """
    Add the numbers of some usages, or of some sums, to the columns of a group.

    Returns:
        Which numbers they have.

    Raises:
        _MixedError: Not all of them have the same ones.
    """
    there = _presence(sums[0])
    if there is None:
        if sums.count(None) < len(sums):
            raise _MixedError
        return None
    if True in map(is_, sums, repeat(None)):
        raise _MixedError
    for place, (is_there, numbers) in enumerate(zip(there, zip(*sums, strict=True), strict=True)):
        if place == _FINISH_REASONS:
            is_mixed = () in numbers if is_there else any(numbers)
        else:
            # Where all are one and the same object, the first one has said it.
            is_same = numbers[-1] is numbers[0] and numbers.count(numbers[0]) == len(numbers)
            is_mixed = not is_same and is_there in map(is_, numbers, repeat(None))
        if is_mixed:
            raise _MixedError
        if is_there:
            columns.append(numbers)
    return there


def _presence(numbers: Sequence[Any] | None) -> _Presence:
    """Which numbers a usage or a sum has."""
    if numbers is None:
        return None
    there = [number is not None for number in numbers]
    if len(there) > _FINISH_REASONS:
        there[_FINISH_REASONS] = bool(numbers[_FINISH_REASONS])
    return tuple(there)


def _template_of(span: Any, environment: Any, traits: _Traits) -> _Template:
    """
    Ask which attributes the spans of a group have.

    Args:
        span:
            An empty one; it gets marks in the place of values, in the order of the columns of a group.
        environment:
            That of the spans.
        traits:
            Those of the group.

    """
    marks = map(_Mark, count())
    span._environment = environment
    span._duration_ns = 0
    span.kind = traits.kind
    span._attributes = dict(zip(traits.names, marks, strict=False))
    span._in_flight = next(marks)
    usage, totals, *billed = traits.sums
    span._usage = _marked(Usage, usage, marks)
    span._totals = _marked(UsageTotals, totals, marks)
    span._billed = _marked(UsageTotals, billed[0], marks) if billed else None
    span._unpriced = (0, "") if traits.is_unpriced else None
    span._outcome = traits.outcome
    span.retries = traits.retries
    span._first_chunk_ns = 0 if traits.is_stream else -1
    span._is_parent_foreign = traits.is_parent_foreign
    span._owner_id = int(traits.has_owner)
    span._dropped = traits.dropped
    found = span.attributes
    if traits.is_stream:
        found[names.TIME_TO_FIRST_CHUNK_S] = next(marks)
    if traits.has_owner:
        found[names.PARENT_CALL_ID] = next(marks)
    return _Template(
        tuple(found),
        tuple([(value.place, ()) if type(value) is _Mark else (-1, (value,)) for value in found.values()]),
        tuple([name for name in ("is_stream", "has_owner") if getattr(traits, name)]),
    )


def _marked(make: Callable[..., Any], there: _Presence, marks: Iterator[_Mark]) -> Any:
    """A usage or a sum with marks in the place of the numbers that are there."""
    if there is None:
        return None
    values: list[Any] = [next(marks) if is_there else None for is_there in there]
    if len(there) > _FINISH_REASONS and not there[_FINISH_REASONS]:
        values[_FINISH_REASONS] = ()
    return make(*values)
