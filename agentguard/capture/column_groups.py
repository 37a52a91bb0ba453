"""
Columns of the attributes of spans that are alike.

Which attributes a span has is said in one place, `Span.attributes`. Of spans that are alike it is asked once,
of one that has marks in the place of its values; the answer is kept, and says for each attribute which
column it is.
"""

# ruff: noqa: SLF001 - the spans of this room, whose class cannot be imported here: it imports this module

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count, repeat
from operator import is_, itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from agentguard.capture.rare import Rare
from agentguard.capture.usage_sums import UsageTotals
from agentguard.values import Column, Usage
from agentguard.values import attributes as names

_TEMPLATES_MAX: Final = 4_096
_FINISH_REASONS: Final = Usage._fields.index("finish_reasons")
_TEXT_OR_NONE: Final = frozenset({str, type(None)})
_NUMBERS: Final = frozenset({int, float, bool})
Attributes: TypeAlias = tuple[Sequence[str], Sequence[Column]]
"""Of the spans of a group: the names, and for each a column."""
_Presence: TypeAlias = tuple[bool, ...] | None
"""Which numbers a usage or a sum has; None where there is none."""


class Alike(NamedTuple):
    """What is read of some spans."""

    environment: Any
    traits: tuple[str, str, int]
    """Kind, outcome and retries."""
    bases: Sequence[Mapping[str, Any]]
    """What was given to each, or to all; their names are the same."""
    runs: Sequence[str]
    agents: Column
    owns: Sequence[dict[str, Any] | None]
    """What was set on each; a dict may be that of several."""
    flights: Sequence[int]
    usages: Sequence[Any]
    totals: Sequence[UsageTotals | None]
    rares: Sequence[Rare]
    """Empty where none has any of it."""
    names: Column
    otel_kinds: Column
    statuses: Column
    states: Column


class MixedError(Exception):
    """Spans that were taken for alike are not."""


class _Mark:
    """Stands for the values of a column."""

    __slots__ = ("place",)

    def __init__(self, place: int) -> None:
        self.place = place


class _Traits(NamedTuple):
    """Why some spans have the attributes that they have; the same for all of them."""

    profile: str
    is_plain_on_agents: bool
    kind: str
    outcome: str
    retries: int
    given: tuple[str, ...]
    """Names of the attributes that calls of one callable share."""
    has_run: bool
    has_agent: bool
    own: tuple[str, ...]
    """Names of the attributes that were set."""
    usage: _Presence
    totals: _Presence
    billed: _Presence = None
    rare: tuple[Any, ...] = Rare().traits


class _Template(NamedTuple):
    """The attributes of spans with the same traits."""

    names: tuple[str, ...]
    constants: tuple[Column, ...]
    """Columns that follow from the traits alone."""
    pick: Callable[[list[Column]], tuple[Column, ...]]
    """Picks the column of each attribute out of the constants and what was read."""


_templates: dict[tuple[Any, ...], _Template] = {}
_new: Final = tuple.__new__


def attributes_of(alike: Alike, new: Callable[[], Any]) -> Attributes:
    """
    Make columns of the attributes of some spans.

    Args:
        alike:
            What was read of them.
        new:
            Makes an empty `Span`.

    Raises:
        MixedError: Their attributes have not the same names for the same reasons.

    """
    environment, runs, agents, flights = alike.environment, alike.runs, alike.agents, alike.flights
    given, read = _given(alike.bases)
    has_run, has_agent = bool(runs[0]), bool(agents[0])
    if not (all(runs) if has_run else not any(runs)) or not (all(agents) if has_agent else not any(agents)):
        raise MixedError
    read += as_one(runs), as_one(agents)
    # Not by name: to put traits together takes longer than all that is left to do.
    key: tuple[Any, ...] = (
        environment.profile, environment.usage_on_agents, *alike.traits, given, has_run, has_agent,
        _own(alike.owns, read),
    )  # fmt: skip
    # They are counted, so they are integers and nothing that equals one.
    read.append(flights[:1] if flights.count(flights[0]) == len(flights) else flights)
    key += _take_apart(alike.usages, read), _take_apart(alike.totals, read)
    if alike.rares:
        key += _rare(alike.rares, read)
    template = _templates.get(key)
    if template is None:
        template = _template_of(new(), environment, _Traits(*key))
        if len(_templates) >= _TEMPLATES_MAX:
            # Names of attributes are the application's: they must not fill the memory.
            _templates.clear()
        _templates[key] = template
    return template.names, template.pick([*template.constants, *read])


def told_apart(alike: Alike) -> Iterator[tuple[Sequence[int], Alike]]:
    """Tell spans apart by all that their attributes follow from: gives the places of those that are alike, and them."""
    size = len(alike.runs)
    agents = alike.agents if len(alike.agents) == size else list(alike.agents) * size
    rares = [(_presence(rare.billed), rare.traits) for rare in alike.rares] or repeat(None, size)
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, key in enumerate(zip(
        [tuple(own or ()) for own in alike.owns], map(bool, alike.runs), map(bool, agents),
        map(_presence, alike.usages), map(_presence, alike.totals), rares, strict=True,
    )):  # fmt: skip
        found[key].append(place)
    environment, traits, *columns = alike
    for places in found.values():
        parts: list[Any] = [
            [column[place] for place in places] if len(column) == size else column for column in columns
        ]
        yield places, Alike(environment, traits, *parts)


def as_one(column: Column) -> Column:
    """Reduce a column to one value where all are the same text, or one and the same object; numbers stay."""
    first = column[0]
    kind = type(first)
    if kind in _TEXT_OR_NONE:
        is_same = column[-1] == first and column.count(first) == len(column)
    elif kind in _NUMBERS:
        # 0.0 equals -0.0, and 1 equals True: who writes them finds out quickest.
        is_same = False
    else:
        is_same = column[-1] is first and all(map(is_, column, repeat(first)))
    return column[:1] if is_same else column


def _given(bases: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[Column]]:
    """Make columns of what calls of one callable share: a single value each where all are of one."""
    first = bases[0]
    given = tuple(first)
    if len(bases) == 1 or all(map(is_, bases, repeat(first))):
        return given, [(value,) for value in first.values()]
    values = list(chain.from_iterable([base.values() for base in bases]))
    return given, [as_one(values[place :: len(given)]) for place in range(len(given))]


def _own(owns: Sequence[dict[str, Any] | None], columns: list[Column]) -> tuple[str, ...]:
    """
    Add the attributes that were set on some spans to their columns.

    Returns:
        The names.

    Raises:
        MixedError: Not all of them have the same ones.
    """
    first = owns[0]
    if not first:
        if any(owns):
            raise MixedError
        return ()
    found = tuple(first)
    if all(map(is_, owns, repeat(first))):
        columns += [(value,) for value in first.values()]
        return found
    if [tuple(own or ()) for own in owns].count(found) < len(owns):
        raise MixedError
    values = list(chain.from_iterable([own.values() for own in owns if own]))
    if len(values) != len(found) * len(owns):
        raise MixedError
    columns += [values[place :: len(found)] for place in range(len(found))]
    return found


def _take_apart(sums: Sequence[Any], columns: list[Column]) -> _Presence:
    """
    Add the numbers of some usages, or of some sums, to the columns of their spans.

    Returns:
        Which numbers they have.

    Raises:
        MixedError: Not all of them have the same ones.
    """
    there = _presence(sums[0])
    if there is None:
        if sums.count(None) < len(sums):
            raise MixedError
        return None
    if not all(sums):
        # None: a usage and a sum have always several numbers, known or not.
        raise MixedError
    for is_there, numbers in zip(there, zip(*sums, strict=True), strict=True):
        if is_there:
            column = as_one(numbers)
            # All of them, at a quick look, which takes 0 for nothing.
            if len(column) > 1 and not all(column) and (None in column or () in column):
                raise MixedError
            columns.append(column)
        elif numbers.count(numbers[0]) < len(numbers):
            raise MixedError
    return there


def _presence(numbers: Sequence[Any] | None) -> _Presence:
    """Which numbers a usage or a sum has."""
    if numbers is None:
        return None
    there = [number is not None for number in numbers]
    if len(there) > _FINISH_REASONS:
        there[_FINISH_REASONS] = bool(numbers[_FINISH_REASONS])
    return tuple(there)


def _rare(rares: Sequence[Rare], columns: list[Column]) -> tuple[_Presence, tuple[Any, ...]]:
    """
    Add what only few spans have to the columns.

    Returns:
        Which numbers were billed, and `Rare.traits`.

    Raises:
        MixedError: They differ in that.
    """
    traits = rares[0].traits
    if [rare.traits for rare in rares].count(traits) < len(rares):
        raise MixedError
    billed = _take_apart([rare.billed for rare in rares], columns)
    if rares[0].first_chunk_ns >= 0:
        columns.append([rare.first_chunk_ns / 1e9 for rare in rares])
    if rares[0].far_owner_id > 0:
        columns.append([f"{rare.far_owner_id:016x}" for rare in rares])
    return billed, traits


def _template_of(span: Any, environment: Any, traits: _Traits) -> _Template:
    """
    Ask which attributes spans with some traits have.

    Args:
        span:
            An empty one; it gets marks in the place of values, in the order in which columns are read.
        environment:
            That of the spans.
        traits:
            Theirs.

    """
    marks = map(_Mark, count())
    span._environment = environment
    span._duration_ns = 0
    span.kind, span._outcome, span.retries = traits.kind, traits.outcome, traits.retries
    span._base = dict(zip(traits.given, marks, strict=False))
    run, agent = next(marks), next(marks)
    span._run_id = run if traits.has_run else ""
    span._agent_name = agent if traits.has_agent else ""
    span._own = dict(zip(traits.own, marks, strict=False))
    span._in_flight = next(marks)
    span._usage = _marked(Usage, traits.usage, marks)
    span._totals = _marked(UsageTotals, traits.totals, marks)
    span._rare = rare = Rare.of(traits.rare)
    rare.billed = _marked(UsageTotals, traits.billed, marks)
    found = span.attributes
    if rare.first_chunk_ns >= 0:
        found[names.TIME_TO_FIRST_CHUNK_S] = next(marks)
    if rare.far_owner_id > 0:
        found[names.PARENT_CALL_ID] = next(marks)
    constants: list[Column] = [(value,) for value in found.values() if type(value) is not _Mark]
    numbers = count()
    places = [
        len(constants) + value.place if type(value) is _Mark else next(numbers) for value in found.values()
    ]
    # There are always several: the version of the conventions, and the load.
    return _Template(tuple(found), tuple(constants), itemgetter(*places))


def _marked(make: Callable[..., Any], there: _Presence, marks: Iterator[_Mark]) -> Any:
    """A usage or a sum with marks in the place of the numbers that are there."""
    if there is None:
        return None
    values: list[Any] = [next(marks) if is_there else None for is_there in there]
    if len(there) > _FINISH_REASONS and not there[_FINISH_REASONS]:
        values[_FINISH_REASONS] = ()
    return make(*values)
