"""
What decides in a condition: `&&` and `||`, the macros, and lists and maps put together.

A fault on one side of `&&` or `||` gives way to an answer on the other, and so it
does between the items of `exists` and `all`.

Source: google/cel-spec, doc/langdef.md, Logical Operators and Macros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.operations import Budget, charge
from agentguard.policy.conditions.values import anything, kind


def all_of(*terms: Callable[[], object]) -> bool:
    """`&&`: one false term decides, whatever the others fail with."""
    return _decide(terms, decides=False, operator="&&")


def any_of(*terms: Callable[[], object]) -> bool:
    """`||`: one true term decides, whatever the others fail with."""
    return _decide(terms, decides=True, operator="||")


def _decide(terms: tuple[Callable[[], object], ...], *, decides: bool, operator: str) -> bool:
    fault: Fault | None = None
    for term in terms:
        try:
            value = term()
        except Fault as error:
            fault = fault or error
            continue
        if value is decides:
            return decides
        if value is not (not decides):
            fault = fault or Fault(f"`{operator}` does not take {kind(value)}")
    if fault is not None:
        raise fault
    return not decides


# Macros


def loop_items(source: Any, budget: Budget) -> Any:
    """What a macro looks at, charged to the budget of the evaluation."""
    of = type(source)
    if of is dict:
        found: Any = list(source)
    elif of is list or of is tuple:
        found = source
    else:
        raise Fault(f"got {kind(source)}, expected a list or a map")
    budget.iterations -= len(found)
    if budget.iterations < 0:
        raise Fault("the macros of the condition look at too many items")
    return found


def exists(found: Any, test: Callable[[Any], object]) -> bool:
    """`exists`: one true item decides."""
    return _decide_items(found, test, decides=True)


def for_all(found: Any, test: Callable[[Any], object]) -> bool:
    """`all`: one false item decides."""
    return _decide_items(found, test, decides=False)


def _decide_items(found: Any, test: Callable[[Any], object], *, decides: bool) -> bool:
    fault: Fault | None = None
    for item in found:
        try:
            value = test(item)
        except Fault as error:
            fault = fault or error
            continue
        if value is decides:
            return decides
        if value is not (not decides):
            fault = fault or Fault(f"got {kind(value)}, expected bool")
    if fault is not None:
        raise fault
    return not decides


def exists_one(found: Any, test: Callable[[Any], object]) -> bool:
    """`exists_one`: every item is looked at, any fault counts."""
    count = 0
    for item in found:
        value = test(item)
        if value is True:
            count += 1
        elif value is not False:
            raise Fault(f"got {kind(value)}, expected bool")
    return count == 1


def keep(found: Any, test: Callable[[Any], object]) -> list[Any]:
    """`filter`: the items for which the test is true."""
    kept = []
    for item in found:
        value = test(item)
        if value is True:
            kept.append(item)
        elif value is not False:
            raise Fault(f"got {kind(value)}, expected bool")
    return kept


def build_map(*parts: object) -> dict[Any, Any]:
    """Put a map together: key, value, key, value; a key that comes twice is a fault."""
    built: dict[Any, Any] = {}
    for place in range(0, len(parts), 2):
        key = parts[place]
        if kind(key) not in ("string", "int", "bool"):
            raise Fault(f"a key of a map is string, int or bool, got {kind(key)}")
        if key in built:
            raise Fault("a key stands twice in a map")
        built[key] = parts[place + 1]
    return built


def export(value: object, budget: Budget, *, is_raw: bool, depth: int = 0) -> Any:
    """A copy of a result; what may come from facts is checked all the way down."""
    if is_raw:
        value = anything(value)
    if type(value) is list or type(value) is tuple:
        charge(len(value), depth, budget)
        return [export(item, budget, is_raw=is_raw, depth=depth + 1) for item in value]
    if type(value) is dict:
        charge(len(value), depth, budget)
        return {
            export(key, budget, is_raw=is_raw, depth=depth + 1): export(
                item, budget, is_raw=is_raw, depth=depth + 1
            )
            for key, item in list(value.items())
        }
    return value
