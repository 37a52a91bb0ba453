"""
A compiled condition, and the two doors to it.

Nothing but `PolicyDocumentError` leaves the compiler, nothing but
`PolicyEvaluationError` leaves an evaluation, whatever source and facts are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy.conditions import tree as t
from agentguard.policy.conditions.checker import Checker
from agentguard.policy.conditions.control import export
from agentguard.policy.conditions.faults import Fault, TooManyProblems
from agentguard.policy.conditions.functions import FunctionSpec
from agentguard.policy.conditions.generate import Generator
from agentguard.policy.conditions.limits import LITERAL_CHARS_MAX, LITERAL_ITEMS_MAX, NESTING_MAX
from agentguard.policy.conditions.operations import Budget
from agentguard.policy.conditions.parser import parse
from agentguard.policy.conditions.problems import Problems
from agentguard.policy.conditions.scope import Scope, type_of_constant
from agentguard.policy.conditions.types import BOOL, DYN, INT, STRING, Type, goes_with, parse_type
from agentguard.policy.conditions.values import INT_MAX, INT_MIN

_SHOWN_CHARS_MAX: Final = 80


class Condition:
    """
    One condition, checked and compiled. Made by `Condition.compile`.

    It may be evaluated from many threads at once.
    """

    __slots__ = ("_exact", "arg_keys", "conjuncts", "function", "reads", "source", "tree", "type", "where")

    def __init__(self, tree: t.Tree, *, source: str, where: str, is_bool: bool) -> None:
        self.source = source
        """The text it was compiled from."""
        self.where = where
        """`path:line` for messages, or empty."""
        self.tree = tree
        """The checked tree: for rendering and explanation."""
        self.type = str(BOOL if is_bool else tree.type)
        """The type of the answer, in the notation of schemas."""
        self.reads = _shared(frozenset(_reads(tree)))
        """Names of the facts, and of the functions handed in with them, that it may read."""
        self.arg_keys = _shared(frozenset(_arg_keys(tree)))
        """Keys of the fact `args` that it names; computed keys are not among them."""
        self.conjuncts = _conjuncts(tree)
        """Facts that must have one of these values, or the condition is false: the index."""
        self._exact: Callable[[Mapping[str, object]], Any] | None = None
        self.function: Callable[[Mapping[str, object]], Any] = Generator(
            is_exact=False, on_error=self._decide
        ).function(tree, is_bool=is_bool)
        """The compiled function; takes facts, raises `PolicyEvaluationError` only."""

    @staticmethod
    def compile(source: str, schema: Mapping[str, str]) -> Condition:
        """
        Check a condition against declared facts, and compile it.

        Args:
            source:
                The condition, in the documented subset of CEL.

            schema:
                Declared names, dots allowed, with their types: int, double,
                string, bool, bytes, dyn, null, timestamp, duration, list<T>,
                map<K, V>.

        Raises:
            PolicyDocumentError:
                The source does not check, or a type is none. `problems` has each
                mistake with line and column in the source.

        Example:
            >>> condition = Condition.compile("spent > 50", {"spent": "double"})
            >>> condition.evaluate({"spent": 51.0})
            True
            >>> Condition.compile("spnt > 50", {"spent": "double"})
            Traceback (most recent call last):
                ...
            agentguard.errors.PolicyDocumentError: condition:1:1: unknown name `spnt`
            spnt > 50
            ^
            hint: did you mean `spent`?
        """
        return compile_condition(source, schema, expect="")

    def evaluate(self, facts: Mapping[str, object]) -> object:
        """
        Answer the condition for these facts.

        Args:
            facts:
                Values by the names of the schema. Numbers are finite, integers
                have 64 bits, timestamps know their zone.

        Returns:
            The value: bool, int, float, str, bytes, None, list, dict, datetime
            in UTC, or timedelta.

        Raises:
            PolicyEvaluationError:
                It has no value: a fact is missing or of another type, an
                operation failed, or a limit was reached.

        Example:
            >>> Condition.compile("spent > 50", {"spent": "double"}).evaluate({})
            Traceback (most recent call last):
                ...
            agentguard.errors.PolicyEvaluationError: `spent > 50`: the fact `spent` has no value
        """
        value = self.function(facts)
        if type(value) not in (list, tuple, dict):
            return value
        try:
            return export(value, Budget(0), is_raw=t.is_raw(self.tree))
        except Exception as error:
            raise self._error(error) from None

    def _decide(self, facts: Mapping[str, object]) -> Any:
        """Answer exactly, where the quick function met an error."""
        try:
            exact = self._exact
            if exact is None:
                # Two threads may both make it; the functions are the same.
                exact = self._exact = Generator(is_exact=True).function(
                    self.tree, is_bool=self.type == "bool"
                )
            return exact(facts)
        except Exception as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> PolicyEvaluationError:
        shown = " ".join(self.source.split())
        if len(shown) > _SHOWN_CHARS_MAX:
            shown = f"{shown[:_SHOWN_CHARS_MAX]}…"
        where = f"{self.where}: " if self.where else ""
        if isinstance(error, Fault):
            text = str(error)
        elif isinstance(error, RecursionError):
            text = "nested too deep"
        else:
            text = f"facts that cannot be read ({type(error).__name__})"
        return PolicyEvaluationError(f"{where}`{shown}`: {text}")

    def __repr__(self) -> str:
        """The source, for debuggers."""
        return f"Condition({self.source[:_SHOWN_CHARS_MAX]!r})"


@lru_cache(maxsize=1024)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """One set for all that are equal: thousands of rules read the same facts, and the collector looks at each object."""
    return names


def compile_condition(
    source: str,
    schema: Mapping[str, str],
    *,
    path: str = "",
    line_offset: int = 0,
    column_offset: int = 0,
    indent: int = 0,
    document: Sequence[str] = (),
    expect: str = "bool",
    functions: Collection[FunctionSpec] = (),
    constants: Mapping[str, object] | None = None,
    arguments: Mapping[str, str] | None = None,
    scope: Scope | None = None,
) -> Condition:
    """
    Check a condition inside a document, and compile it.

    Args:
        source:
            The condition.

        schema:
            Declared facts and their types.

        path:
            The document, for messages.

        line_offset:
            Lines of the document before the first line of the source.

        column_offset:
            Characters before the source on its first line.

        indent:
            Characters before the source on each further line.

        document:
            The lines of the document, for excerpts; without them the source's
            own lines are shown.

        expect:
            The type that the answer must have; empty: any.

        functions:
            Functions that the application declares.

        constants:
            Named constants, such as `vars.cap_usd`: plain data, typed by its
            value.

        arguments:
            Types of the keys of the fact `args`; another key does not compile.
            None: any key goes, of the type that the schema gives the values.

        scope:
            What `make_scope` made of schema, functions, constants and arguments;
            None: it is made here.

    Raises:
        PolicyDocumentError: The source does not check; `problems` has all of it.
    """
    if not isinstance(source, str):
        raise PolicyDocumentError(
            f"{path or 'condition'}: got {type(source).__name__}, expected the text of a condition"
        )
    problems = Problems(
        source,
        path=path or "condition",
        line_offset=line_offset,
        column_offset=column_offset,
        indent=indent,
        document=document,
    )
    made: Condition | None = None
    try:
        if scope is None:
            scope = _scope(schema, functions, constants, arguments, problems)
        node = parse(source, problems)
        if node is not None:
            checker = Checker(scope, problems)
            tree = checker.check(node)
            wanted = parse_type(expect) if expect else DYN
            if not goes_with(tree.type, wanted):
                text = f"the condition is {tree.type}, expected {wanted}"
                hint = "compare it with something" if wanted == BOOL else ""
                checker.problem(node, text, code="type", hint=hint, at_start=True)
            if not problems.found:
                where = f"{path}:{line_offset + 1}" if path else ""
                made = Condition(
                    tree, source=source, where=where, is_bool=wanted == BOOL or tree.type == BOOL
                )
    except TooManyProblems:
        pass
    except (RecursionError, MemoryError):
        problems.only("the condition is too large, or nested too deep", code="too-large")
    except Exception as error:
        # A fault of ours must not look like anything but a refusal; its traceback stays on it.
        problems.only(f"the condition cannot be compiled ({type(error).__name__})", code="internal")
        try:
            problems.raise_if_any()
        except PolicyDocumentError as refusal:
            raise refusal from error
    problems.raise_if_any()
    assert made is not None
    return made


def make_scope(
    schema: Mapping[str, str],
    *,
    functions: Collection[FunctionSpec] = (),
    constants: Mapping[str, object] | None = None,
    arguments: Mapping[str, str] | None = None,
) -> Scope | None:
    """
    Read once what many conditions may name.

    Args:
        schema:
            As in `compile_condition`, like the rest.
        functions:
            Functions that the application declares.
        constants:
            Named constants.
        arguments:
            Types of the keys of the fact `args`.

    Returns:
        The scope; None where something in it is wrong, which each condition then reports.
    """
    problems = Problems("")
    try:
        scope = _scope(schema, functions, constants, arguments, problems)
    except TooManyProblems:
        return None
    return None if problems.found else scope


def _scope(
    schema: Mapping[str, str],
    functions: Collection[FunctionSpec],
    constants: Mapping[str, object] | None,
    arguments: Mapping[str, str] | None,
    problems: Problems,
) -> Scope:
    typed: dict[str, tuple[Type, object]] = {}
    for name, value in (constants or {}).items():
        try:
            typed[name] = (type_of_constant(value), _bounded(value))
        except (TypeError, ValueError) as error:
            problems.add(0, f"the constant `{name}`: {error}", code="constant")
            typed[name] = (DYN, None)
    return Scope(
        facts=_types(schema, problems),
        constants=typed,
        arguments=None if arguments is None else _types(arguments, problems),
        functions={spec.name: spec for spec in functions},
    )


def _types(schema: Mapping[str, str], problems: Problems) -> dict[str, Type]:
    found: dict[str, Type] = {}
    if not isinstance(schema, Mapping):
        problems.add(0, f"got {type(schema).__name__}, expected types by name", code="schema")
        return found
    for name, text in schema.items():
        if not isinstance(name, str):
            problems.add(0, f"a name of class {type(name).__name__}, expected text", code="schema")
            continue
        try:
            found[name] = parse_type(text)
        except (ValueError, TypeError) as error:
            problems.add(0, f"the type of `{name}`: {error}", code="schema")
            found[name] = DYN
    return found


def _bounded(value: object, depth: int = 0) -> object:
    """A constant as conditions hold it; lists and maps are copied."""
    if depth > NESTING_MAX:
        raise ValueError(f"nested deeper than {NESTING_MAX}")
    if isinstance(value, list | tuple | dict) and len(value) > LITERAL_ITEMS_MAX:
        raise ValueError(f"more than {LITERAL_ITEMS_MAX} items")
    if isinstance(value, list | tuple):
        return [_bounded(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _bounded(item, depth + 1) for key, item in value.items()}
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise ValueError("an integer larger than 64 bits")
    if type(value) is float and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, str | bytes) and len(value) > LITERAL_CHARS_MAX:
        raise ValueError(f"more than {LITERAL_CHARS_MAX} characters")
    return value


def _walk(tree: t.Tree) -> list[t.Tree]:
    found = [tree]
    for child in t.children(tree):
        found.extend(_walk(child))
    return found


def _reads(tree: t.Tree) -> set[str]:
    found: set[str] = set()
    for part in _walk(tree):
        if isinstance(part, t.Fact) or (
            isinstance(part, t.Function) and part.is_declared and part.run is None
        ):
            found.add(part.name)
    return found


def _arg_keys(tree: t.Tree) -> set[str]:
    found: set[str] = set()
    for part in _walk(tree):
        if isinstance(part, t.Fact) and part.name.startswith("args."):
            found.add(part.name.split(".")[1])
        operand = part.operand if isinstance(part, t.Member | t.Has) else None
        if not isinstance(operand, t.Fact) or operand.name != "args":
            continue
        if isinstance(part, t.Has):
            found.add(part.name)
        elif isinstance(part, t.Member) and isinstance(part.key, t.Constant) and part.key.type == STRING:
            found.add(str(part.key.value))
    return found


def _conjuncts(tree: t.Tree) -> dict[str, frozenset[object]]:
    """`fact == literal` and `fact in [literals]` among the terms of the outermost `&&`."""
    terms = tree.terms if isinstance(tree, t.Logic) and tree.operator == "&&" else (tree,)
    found: dict[str, frozenset[object]] = {}
    for term in terms:
        if isinstance(term, t.Logic) and term.operator == "&&":
            pairs = list(_conjuncts(term).items())
        else:
            pair = _conjunct(term)
            pairs = [pair] if pair else []
        for name, allowed in pairs:
            found[name] = found[name] & allowed if name in found else allowed
    return found


def _conjunct(term: t.Tree) -> tuple[str, frozenset[object]] | None:
    if not isinstance(term, t.Comparison):
        return None
    left, right = term.left, term.right
    if term.operator == "==" and isinstance(right, t.Fact):
        left, right = right, left
    if (
        not isinstance(left, t.Fact)
        or not isinstance(right, t.Constant)
        or left.type not in (STRING, INT, BOOL)
    ):
        return None
    if term.operator == "==" and type(right.value) in (str, int, bool):
        return left.name, frozenset((right.value,))
    items = right.value if term.operator == "in" and isinstance(right.value, list) else None
    if items is None or any(type(item) not in (str, int, bool) for item in items):
        return None
    return left.name, frozenset(items)
