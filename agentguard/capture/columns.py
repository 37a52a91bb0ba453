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
from itertools import accumulate, chain, count, pairwise, repeat
from operator import is_, itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from agentguard.capture.rare import NOTHING, Rare
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
    given: tuple[str, ...]
    """Names of the attributes that calls of one callable share."""
    names: tuple[str, ...]
    """Of the attributes that were set."""
    sums: tuple[_Presence, ...]
    """Of the usage, the totals and, where any span has one, of what was billed."""
    has_run: bool = True
    has_agent: bool = True
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
            At least one, each a `Span` or a `ShortSpan`.

    Returns:
        What their records say; None where records must be made, since somebody looks at each, or
        since a span is of a form that columns have not.

    """
    (trace_ids, span_ids, parent_ids, span_names, kinds, otel_kinds, starts, durations, statuses,
     states, environments, rares, *rest) = zip(*[span.row() for span in spans], strict=True)  # fmt: skip
    environment, size = environments[0], len(spans)
    # Most have none of it; where nobody has, nobody is asked.
    is_rare = rares.count(NOTHING) < size
    has_events = is_rare and any(rare.events for rare in rares)
    refine = environment.refine
    if (
        environments.count(environment) != size
        or 0 in span_ids
        or 0 in trace_ids
        or (refine is not None and not refine.is_idle(rest[5], has_events=has_events))
    ):
        return None
    is_told = statuses.count("unset") < size
    grouping = _Grouping(spans, environment, kinds, rest, rares if is_rare else (), is_told=is_told)
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
        [rare.status_description for rare in rares] if is_rare else _NO_TEXT,
        [rare.events or () for rare in rares] if is_rare else _NOTHING,
        [rare.links or () for rare in rares] if is_rare else _NOTHING,
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
        rares: Sequence[Rare],
        *,
        is_told: bool,
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
                What `row` gives behind their rare parts.
            rares:
                Their rare parts; empty where no span has one.
            is_told:
                Whether any of them has a status; an outcome gives one.

        """
        self._new = spans[0].blank
        self._environment = environment
        bases, runs, agents, owns, flights, usages, totals = rest
        self._sums = [usages, totals]
        # By trait; what is the same for all is left out.
        varying: dict[str, Sequence[Any]] = {}
        derived: dict[str, Sequence[Any]] = {}
        if "" in runs:
            varying["has_run"] = list(map(bool, runs))
        if "" in agents:
            varying["has_agent"] = list(map(bool, agents))
        if is_told:
            varying["outcome"] = [span._outcome for span in spans]
        if rares:
            # A retry makes an event.
            varying["retries"] = [span.retries for span in spans]
            self._look_at_rare(rares, varying, derived)
        self._told = (environment.profile, environment.usage_on_agents, tuple(varying), tuple(derived))
        """What all groups have in common: the last two are the traits that spans are told apart by, and those of
        them that bring a column of their own."""
        places = list(map(id, bases))
        self._bases = dict(zip(places, bases, strict=True))
        """What was given to the spans, by its place in memory: it is one for all calls of one callable."""
        given = {place: tuple(base) for place, base in self._bases.items()}
        self._columns = (places, runs, agents, owns, flights, *self._sums, *derived.values())
        self._told_by = (
            kinds,
            list(map(given.__getitem__, places)),
            [tuple(own) if own else () for own in owns],
            *varying.values(),
        )
        self.shape: Sequence[int] = ()
        """For each span the number of its group."""

    def _look_at_rare(
        self, rares: Sequence[Rare], varying: dict[str, Sequence[Any]], derived: dict[str, Sequence[Any]]
    ) -> None:
        """Add what only few spans have to the traits, and to the columns."""
        billed = [rare.billed for rare in rares]
        if any(billed):
            self._sums.append(billed)
            varying["is_unpriced"] = [rare.unpriced is not None for rare in rares]
        dropped = [rare.dropped for rare in rares]
        if any(dropped):
            varying["dropped"] = [None if each is None else tuple(each) for each in dropped]
        firsts = [rare.first_chunk_ns for rare in rares]
        if max(firsts) >= 0:
            varying["is_stream"] = [first >= 0 for first in firsts]
            derived["is_stream"] = [first / 1e9 for first in firsts]
        owners = [rare.far_owner_id for rare in rares]
        if max(owners) >= 0:
            varying["is_parent_foreign"] = [owner >= 0 for owner in owners]
            varying["has_owner"] = [owner > 0 for owner in owners]
            derived["has_owner"] = [f"{owner:016x}" for owner in owners]

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
        kind, given, own_names, *told = key
        places, runs, agents, owns, flights, *others = columns
        width = len(own_names)
        values = list(chain.from_iterable([own.values() for own in owns if own]))
        if len(values) != width * len(owns):
            raise _MixedError
        every: list[Column] = self._given(given, places)
        every += runs, agents, *(values[place::width] for place in range(width)), flights
        sums = tuple([_take_apart(column, every) for column in others[: len(self._sums)]])
        # Not by its traits: to put them together takes longer than all that is left to do.
        known = (*self._told, key, sums)
        template = _templates.get(known)
        if template is None:
            profile, is_plain, varying, _ = self._told
            traits = _Traits(
                profile, is_plain, kind, given, own_names, sums, **dict(zip(varying, told, strict=False))
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

    def _given(self, given: Sequence[str], places: Sequence[int]) -> list[Column]:
        """Make columns of what calls of one callable share: a single value each where all are of one."""
        bases = {place: self._bases[place] for place in set(places)}
        if len(bases) == 1:
            return [(value,) for base in bases.values() for value in base.values()]
        if 2 * len(bases) > len(places):
            # Of as many callables, or of blocks: nothing is shared.
            all_values = list(chain.from_iterable([self._bases[place].values() for place in places]))
            return [all_values[place :: len(given)] for place in range(len(given))]
        columns: list[Column] = []
        for name in given:
            values = {place: base[name] for place, base in bases.items()}
            first = values[places[0]]
            is_same = all(value is first for value in values.values())
            columns.append((first,) if is_same else list(map(values.__getitem__, places)))
        return columns


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
    span._base = dict(zip(traits.given, marks, strict=False))
    run, agent = next(marks), next(marks)
    span._run_id = run if traits.has_run else ""
    span._agent_name = agent if traits.has_agent else ""
    span._own = dict(zip(traits.names, marks, strict=False))
    span._in_flight = next(marks)
    usage, totals, *billed = traits.sums
    span._usage = _marked(Usage, usage, marks)
    span._totals = _marked(UsageTotals, totals, marks)
    span._outcome = traits.outcome
    span.retries = traits.retries
    span._rare = rare = Rare()
    rare.billed = _marked(UsageTotals, billed[0], marks) if billed else None
    rare.unpriced = (0, "") if traits.is_unpriced else None
    rare.first_chunk_ns = 0 if traits.is_stream else -1
    rare.far_owner_id = int(traits.has_owner) if traits.is_parent_foreign else -1
    rare.dropped = None if traits.dropped is None else list(traits.dropped)
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
