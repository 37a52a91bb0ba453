"""A lazy context is read as a plain one, in whichever way a dict can be read."""

# ruff: noqa: PLW0108, SIM300, UP031 - each way of reading as it may be written

from __future__ import annotations

import collections
import copy
import operator
import pickle
import types
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from agentguard.wrapping import LazyContext


class Late(LazyContext):
    """A lazy context of values that are given."""

    __slots__ = ("asked", "values_")

    def __init__(self, values: Mapping[str, object]) -> None:
        super().__init__()
        self.values_ = values
        self.asked = 0

    def work_out(self) -> Mapping[str, object]:
        self.asked += 1
        return self.values_


def _keywords(**given_: object) -> dict[str, object]:
    return given_


def _matched(context: Context) -> object:
    match context:
        case {"a": found, **rest}:
            return found, rest
        case {"b": found}:
            return found
        case {}:
            return "none"


def _updated(context: Context) -> dict[str, object]:
    found: dict[str, object] = {"a": "old", "z": 0}
    found.update(context)
    return found


READS: dict[str, Callable[[Any], object]] = {
    "subscript": lambda c: c["a"],
    "get": lambda c: (c.get("a"), c.get("nothing"), c.get("nothing", 7)),
    "in": lambda c: ("a" in c, "nothing" in c),
    "len": len,
    "bool": bool,
    "not": operator.not_,
    "iter": lambda c: list(iter(c)),
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "sorted": sorted,
    "unpacked": lambda c: [*c],
    "reversed": lambda c: list(reversed(c)),
    "keys": lambda c: list(c.keys()),
    "values": lambda c: list(c.values()),
    "items": lambda c: list(c.items()),
    "keys-and": lambda c: c.keys() & {"a", "b"},
    "in-items": lambda c: ("a", 1) in c.items(),
    "len-items": lambda c: len(c.items()),
    "equal": lambda c: (c == {"a": 1}, c == dict(c), c == {}, c == Context(), c == 1),
    "equal-right": lambda c: ({"a": 1} == c, {} == c, Context({"a": 1}) == c, 1 == c),
    "unequal": lambda c: (c != {"a": 1}, c != {}, {} != c, Context() != c),
    "equal-lazy": lambda c: (c == Late({"a": 1}), Late({"a": 1}) == c, Late({}) == c),
    "in-list": lambda c: [{"a": 1}].count(c),
    "dict": dict,
    "dict-more": lambda c: dict(c, z=1),
    "context": Context,
    "display": lambda c: {**c},
    "display-more": lambda c: {"a": 0, **c, "z": 1},
    "keywords": lambda c: _keywords(**c),
    "keywords-c": lambda c: dict(**c),
    "update": _updated,
    "or": lambda c: c | {"a": 5, "z": 1},
    "or-right": lambda c: {"a": 5, "z": 1} | c,
    "or-context": lambda c: Context({"z": 1}) | c,
    "or-list": lambda c: c | [("z", 1)],
    "or-wrong": lambda c: c | 5,
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "percent": lambda c: "%(a)s" % c,
    "format-map": "{a}".format_map,
    "copy-method": lambda c: (type(c.copy()), c.copy()),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda c: pickle.loads(pickle.dumps(c)),
    "match": _matched,
    "fromkeys": dict.fromkeys,
    "chain": lambda c: dict(collections.ChainMap({"z": 1}, c)),
    "proxy": lambda c: (len(types.MappingProxyType(c)), dict(types.MappingProxyType(c))),
    "proxy-or": lambda c: types.MappingProxyType(c) | {"z": 1},
    "counter": lambda c: collections.Counter(dict.fromkeys(c, 1)),
    "ordered": lambda c: list(collections.OrderedDict(c)),
    "default": lambda c: dict(collections.defaultdict(int, c)),
    "getter": operator.itemgetter("a"),
    "contains": lambda c: operator.contains(c, "a"),
    "eval": lambda c: eval("a", {}, c),
    "any": any,
    "max": lambda c: max(c, default=None),
    "zip": lambda c: list(zip(c, c.values(), strict=True)),
    "map": lambda c: list(map(str, c)),
    "join": lambda c: ",".join(c),
    "enumerate": lambda c: list(enumerate(c)),
    "hash": hash,
    "set-item": lambda c: operator.setitem(c, "a", 1),
    "del-item": lambda c: operator.delitem(c, "a"),
    "setdefault": lambda c: c.setdefault("a", 1),
    "pop": lambda c: c.pop("a"),
    "popitem": lambda c: c.popitem(),
    "clear": lambda c: c.clear(),
    "update-it": lambda c: c.update(a=1),
    "ior": lambda c: operator.ior(c, {"a": 1}),
    "is-instance": lambda c: (isinstance(c, Context), isinstance(c, dict), isinstance(c, Mapping)),
    "otel-get": lambda c: otel_context.get_value("a", c),
    "otel-set": lambda c: (type(otel_context.set_value("z", 1, c)), dict(otel_context.set_value("z", 1, c))),
    "otel-span": lambda c: trace.get_current_span(c) is trace.INVALID_SPAN,
    "otel-baggage": lambda c: dict(baggage.get_all(baggage.set_baggage("k", "v", c))),
    "attach": lambda c: _attached(c),
}


def _attached(context: Context) -> object:
    token = otel_context.attach(context)
    try:
        return otel_context.get_value("a"), dict(otel_context.get_current())
    finally:
        otel_context.detach(token)


def _outcome(read: Callable[[Any], object], context: Context) -> object:
    try:
        return read(context)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("read", READS)
@settings(max_examples=8)
@given(values=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)))
@example(values={"a": 1})
@example(values={"a": 1, "b": 2})
def test_reads_as_a_plain_context(read: str, values: dict[str, object]) -> None:
    """Whoever asks, from Python or from C, finds the values that were worked out."""
    assert _outcome(READS[read], Late(values)) == _outcome(READS[read], Context(values))


_REFUSED = ("__setitem__", "__delitem__", "__ior__", "setdefault", "pop", "popitem", "clear", "update")
"""Changes, which a context of OpenTelemetry refuses."""


def test_all_that_a_dict_can_be_asked_is_known() -> None:
    """No method of a dict, and none that a newer Python adds, looks into the empty dict behind a lazy context."""
    aside = {
        # Of objects and classes, not of what is in a dict.
        "__class__", "__class_getitem__", "__delattr__", "__dir__", "__doc__", "__format__", "__ge__", "__getattribute__",
        "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__new__", "__reduce__",
        "__reduce_ex__", "__setattr__", "__sizeof__", "__str__", "__subclasshook__", "fromkeys",
        *_REFUSED,
    }  # fmt: skip
    asked = set(dir(dict)) - aside
    assert asked <= set(vars(LazyContext))
    assert set(_REFUSED) <= set(vars(Context))


def test_values_are_worked_out_once_and_only_when_asked() -> None:
    """Making a lazy context current asks nothing; the second look finds what the first one worked out."""
    context = Late({"a": 1})
    token = otel_context.attach(context)
    assert otel_context.get_current() is context
    otel_context.detach(token)
    assert context.asked == 0
    assert context["a"] == 1
    assert dict(context) == {"a": 1}
    assert context.asked == 1
