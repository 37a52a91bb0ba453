"""
From the checked tree to one Python function.

The function is built as an `ast` tree out of a small set of node kinds; no text
of a condition, no name of a fact ever becomes a Python name. Its builtins are
empty: all that it may call is put into its globals here.

Two functions are made of one tree. The quick one uses Python's own `and`, `or`,
comparisons and look-ups, which answer as CEL does as long as nothing fails. When
anything fails, the exact one decides: there each term of `&&` and `||` stands in
a function of its own, so that an error on one side gives way to an answer on
the other.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, cast

from agentguard.policy.conditions import control, operations, values
from agentguard.policy.conditions import nodes as n
from agentguard.policy.conditions import tree as t
from agentguard.policy.conditions.builder import BUDGET, FACTS, Builder
from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.types import BOOL, BYTES, DOUBLE, DYN, INT, NUMBERS, STRING, Type
from agentguard.policy.conditions.values import EXACT_MAX, INT_MAX, INT_MIN

_COMPARE: Final[dict[str, tuple[type[ast.cmpop], Callable[..., bool]]]] = {
    "<": (ast.Lt, operations.less),
    "<=": (ast.LtE, operations.less_equal),
    ">": (ast.Gt, operations.greater),
    ">=": (ast.GtE, operations.greater_equal),
    "==": (ast.Eq, operations.equal),
    "!=": (ast.NotEq, operations.equal),
}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_INT: Final[dict[str, type[ast.operator]]] = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult}
_DYN: Final = {
    "+": operations.add,
    "-": operations.subtract,
    "*": operations.multiply,
    "/": operations.divide,
    "%": operations.modulo,
}
_LOOPS: Final = {
    "exists": control.exists,
    "all": control.for_all,
    "exists_one": control.exists_one,
    "filter": control.keep,
}


def call_declared(facts: Mapping[str, object], name: str, *args: object) -> object:
    """Call a function that came with the facts."""
    function = values.fact(facts, name)
    if not callable(function):
        raise Fault(f"the function `{name}` was not handed in")
    return protected(name, cast("Callable[..., object]", function))(*args)


def protected(name: str, run: Callable[..., object]) -> Callable[..., object]:
    """Make a function whose errors are faults."""

    def call(*args: object) -> object:
        try:
            return run(*args)
        except (Fault, RecursionError):
            raise
        except Exception as error:
            raise Fault(f"the function `{name}` failed ({type(error).__name__})") from None

    return call


def transform(found: Any, make: Callable[[Any], Any]) -> list[Any]:
    """`map`: what becomes of each item."""
    return [make(item) for item in found]


class Generator(Builder):
    """
    Makes one function.

    Args:
        is_exact:
            Whether errors give way to answers on the other side of `&&` and `||`.

        on_error:
            What the function calls with the facts when anything fails; None:
            the error leaves it.
    """

    def __init__(
        self,
        *,
        is_exact: bool,
        on_error: Callable[[Mapping[str, object]], object] | None = None,
    ) -> None:
        super().__init__()
        self._is_exact = is_exact
        self._on_error = on_error
        self._known: dict[str, str] = {}
        self._has_loops = False

    def function(self, tree: t.Tree, *, is_bool: bool) -> Callable[[Mapping[str, object]], Any]:
        """
        Build the function.

        Args:
            tree:
                The checked condition.

            is_bool:
                Whether an answer other than a bool is an error.
        """
        self._has_loops = has_loops(tree)
        body = self._truth(tree) if is_bool else self._emit(tree)
        statements: list[ast.stmt] = []
        if self._has_loops:
            statements.append(n.Assign([n.Name(BUDGET, n.STORE)], self._fresh_budget()))
        statements.append(n.Return(body))
        if self._on_error is not None:
            again = self._call(self._on_error, n.Name(FACTS, n.LOAD))
            statements = [self._guarded(statements, again)]
        return self._made(statements)

    def _answer(self, tree: t.Tree) -> ast.expr:
        """The bool of one of several conditions, with a budget of its own where it has loops."""
        self._has_loops = has_loops(tree)
        answer = self._truth(tree)
        if not self._has_loops:
            return answer
        pair = n.Tuple([self._set(BUDGET, self._fresh_budget()), answer], n.LOAD)
        return n.Subscript(pair, n.Constant(1), n.LOAD)

    def _raw(self, tree: t.Tree) -> ast.expr | None:
        """The value of a part as facts have it, unchecked; None where it has no such."""
        match tree:
            case t.Fact(name=name):
                if self._is_exact:
                    return self._call(values.fact, self._get(FACTS), n.Constant(name))
                return n.Subscript(self._get(FACTS), n.Constant(name), n.LOAD)
            case t.Member(is_raw=True, operand=operand, key=key):
                return self._member(operand, key)
            case t.Item(is_raw=True, operand=operand, key=key):
                return self._item(operand, key)
            case t.Variable(is_raw=True, slot=slot):
                return self._get(f"x{slot}")
            case _:
                return None

    def _member(self, operand: t.Tree, key: t.Tree) -> ast.expr:
        container = self._emit(operand)
        if operand.type.kind == "map" and isinstance(key, t.Constant) and key.type == STRING:
            if self._is_exact:
                return self._call(values.member, container, n.Constant(str(key.value)))
            return n.Subscript(container, n.Constant(str(key.value)), n.LOAD)
        return self._call(operations.item_at, container, self._emit(key))

    def _item(self, operand: t.Tree, key: t.Tree) -> ast.expr:
        read = operations.list_at if key.type == INT else operations.item_at
        return self._call(read, self._emit(operand), self._emit(key))

    def _truth(self, tree: t.Tree) -> ast.expr:
        """A part that must be a bool."""
        if tree.type == BOOL:
            return self._emit(tree)
        return self._call(values.truth, self._emit(tree))

    # Parts

    def _emit(self, tree: t.Tree) -> ast.expr:
        match tree:
            case t.Constant(value=value):
                return self._constant(value)
            case t.Fact(name=name, type=of):
                return self._fact(tree, name, of)
            case t.Variable(slot=slot, is_raw=raw, type=of):
                if not raw:
                    return self._get(f"x{slot}")
                return self._checked(of, self._get(f"x{slot}"), self._local())
            case t.Member(operand=operand, key=key, is_raw=raw, type=of):
                found = self._member(operand, key)
                return self._checked(of, found, self._local()) if raw else found
            case t.Item(operand=operand, key=key, is_raw=raw, type=of):
                found = self._item(operand, key)
                return self._checked(of, found, self._local()) if raw else found
            case t.Has(operand=operand, name=name):
                if operand.type.kind == "map":
                    return n.Compare(n.Constant(name), [ast.In()], [self._emit(operand)])
                return self._call(operations.has_name, self._emit(operand), n.Constant(name))
            case t.ListOf(items=items):
                return n.List([self._emit(item) for item in items], n.LOAD)
            case t.MapOf(entries=entries):
                return self._call(control.build_map, *[self._emit(p) for entry in entries for p in entry])
            case t.Not(operand=operand):
                return n.UnaryOp(ast.Not(), self._truth(operand))
            case t.Negative(operand=operand):
                return self._negative(operand)
            case t.Comparison(operator="in"):
                return self._membership(tree)
            case t.Comparison():
                return self._comparison(tree)
            case t.Arithmetic():
                return self._arithmetic(tree)
            case t.Logic():
                return self._logic(tree)
            case t.Choice(test=test, yes=yes, no=no):
                question = self._truth(test)
                known = dict(self._known)
                first = self._emit(yes)
                self._known = dict(known)
                second = self._emit(no)
                self._known = known
                return n.IfExp(question, first, second)
            case t.Loop():
                return self._loop(tree)
            case t.Function():
                return self._function(tree)
            case _:
                raise AssertionError(f"a part without code: {type(tree).__name__}")

    def _constant(self, value: object) -> ast.expr:
        if value is None or type(value) in (bool, int, str, bytes):
            return n.Constant(cast("Any", value))
        if type(value) is float and -inf < value < inf:
            return n.Constant(value)
        return self._global(value)

    def _fact(self, tree: t.Tree, name: str, of: Type) -> ast.expr:
        if name in self._known:
            return self._get(self._known[name])
        local = self._local()
        raw = self._raw(tree)
        assert raw is not None
        found = self._checked(of, raw, local)
        if not self._is_exact:
            self._known[name] = local
        return found

    def _branch(self, tree: t.Tree, emit: Callable[[t.Tree], ast.expr]) -> ast.expr:
        """A part that may not be evaluated: what it reads is not known behind it."""
        known = dict(self._known)
        found = emit(tree)
        self._known = known
        return found

    def _logic(self, tree: t.Logic) -> ast.expr:
        if self._is_exact:
            decide = control.all_of if tree.operator == "&&" else control.any_of
            return self._call(decide, *[self._lambda([], self._emit(term)) for term in tree.terms])
        terms = [self._truth(tree.terms[0])]
        known = dict(self._known)
        # A later term runs only after those before it did: it may use what they read.
        terms += [self._truth(term) for term in tree.terms[1:]]
        self._known = known
        return n.BoolOp(ast.And() if tree.operator == "&&" else ast.Or(), terms)

    def _lambda(self, names: list[str], body: ast.expr) -> ast.expr:
        arguments = ast.arguments(
            posonlyargs=[],
            args=[n.Argument(name) for name in names],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        )
        return n.Lambda(arguments, body)

    def _negative(self, operand: t.Tree) -> ast.expr:
        inner = self._emit(operand)
        if operand.type == DOUBLE:
            return n.UnaryOp(ast.USub(), inner)
        if operand.type == INT:
            return self._fitting(n.UnaryOp(ast.USub(), inner))
        return self._call(operations.negate, inner)

    def _fitting(self, value: ast.expr) -> ast.expr:
        """A result of integers, if it fits 64 bits."""
        name = self._local()
        test = n.Compare(
            n.Constant(INT_MIN), [ast.LtE(), ast.LtE()], [self._set(name, value), n.Constant(INT_MAX)]
        )
        return n.IfExp(test, self._get(name), self._call(operations.int_overflow))

    def _arithmetic(self, tree: t.Arithmetic) -> ast.expr:
        left, right = self._emit(tree.left), self._emit(tree.right)
        a, b, operator = tree.left.type, tree.right.type, tree.operator
        if a == b == INT:
            if operator in _INT:
                return self._fitting(n.BinOp(left, _INT[operator](), right))
            return self._call(
                operations.int_divide if operator == "/" else operations.int_modulo, left, right
            )
        if a == b == DOUBLE:
            if operator in _INT:
                return n.BinOp(left, _INT[operator](), right)
            return self._call(operations.double_divide, left, right)
        if a == b and a in (STRING, BYTES):
            return self._call(operations.join_texts, left, right)
        if a.kind == b.kind == "list":
            return self._call(operations.join_lists, left, right)
        if DYN not in (a, b):
            return self._call(
                operations.time_add if operator == "+" else operations.time_subtract, left, right
            )
        return self._call(_DYN[operator], left, right)

    # Comparisons

    def _comparison(self, tree: t.Comparison) -> ast.expr:
        operator, left, right = tree.operator, tree.left, tree.right
        a, b = left.type, right.type
        native, helper = _COMPARE[operator]
        if a == b and a != DYN and not a.params:
            return n.Compare(self._emit(left), [native()], [self._emit(right)])
        if a in NUMBERS and b in NUMBERS:
            return n.Compare(self._as_double(left), [native()], [self._as_double(right)])
        quick = self._quick(operator, left, right) or self._quick(_MIRRORED[operator], right, left)
        if quick is not None:
            return quick
        if operator in ("==", "!="):
            raws = [t.is_raw(left), t.is_raw(right)]
            args = [self._emit(left), self._emit(right)]
            if any(raws):
                args += [n.Constant(raw) for raw in raws]
            if self._has_loops:
                args.append(self._get(BUDGET))
            found = self._call(operations.equal_raw if any(raws) else operations.equal, *args)
            return n.UnaryOp(ast.Not(), found) if operator == "!=" else found
        return self._call(helper, self._emit(left), self._emit(right))

    def _as_double(self, tree: t.Tree) -> ast.expr:
        """A side of a comparison of an int with a double: doubles are compared, as CEL's runtimes do."""
        if tree.type == DOUBLE:
            return self._emit(tree)
        if isinstance(tree, t.Constant) and -EXACT_MAX <= cast("int", tree.value) <= EXACT_MAX:
            return self._emit(tree)
        return self._call(float, self._emit(tree))

    def _quick(self, operator: str, left: t.Tree, right: t.Tree) -> ast.expr | None:
        """A value of unknown type from facts beside a literal: the usual case without a call."""
        if left.type != DYN or not isinstance(right, t.Constant) or isinstance(left, t.Fact):
            return None
        native, helper = _COMPARE[operator]
        value = right.value
        is_text = type(value) is str
        is_number = type(value) in (int, float) and -EXACT_MAX <= cast("float", value) <= EXACT_MAX
        if not (is_text or is_number):
            return None
        raw = self._raw(left)
        if raw is None:
            return None
        name = self._local()
        if is_text:
            test: ast.expr = self._is_class(self._set(name, raw), str)
        else:
            whole = n.BoolOp(
                ast.And(),
                [
                    self._is_class(self._set(name, raw), int),
                    self._fits(name),
                ],
            )
            part = n.BoolOp(
                ast.And(),
                [self._is_class(self._get(name), float), self._is_finite(name)],
            )
            test = n.BoolOp(ast.Or(), [whole, part])
        yes = n.Compare(self._get(name), [native()], [n.Constant(cast("Any", value))])
        slow = self._call(
            operations.equal if operator in ("==", "!=") else helper,
            self._call(values.anything, self._get(name)),
            n.Constant(cast("Any", value)),
        )
        return n.IfExp(test, yes, n.UnaryOp(ast.Not(), slow) if operator == "!=" else slow)

    def _membership(self, tree: t.Comparison) -> ast.expr:
        left, right = tree.left, tree.right
        a, b = left.type, right.type
        more: list[ast.expr] = [n.Constant(t.is_raw(right)), n.Constant(t.is_raw(left))]
        if self._has_loops:
            more.append(self._get(BUDGET))
        if isinstance(right, t.Constant) and isinstance(right.value, list):
            texts = all(type(item) is str for item in right.value)
            if (a == STRING and texts) or (a == INT and all(type(item) is int for item in right.value)):
                return n.Compare(self._emit(left), [ast.In()], [self._global(frozenset(right.value))])
            raw = self._raw(left) if a == DYN and texts and not isinstance(left, t.Fact) else None
            if raw is not None:
                name = self._local()
                test = self._is_class(self._set(name, raw), str)
                yes = n.Compare(self._get(name), [ast.In()], [self._global(frozenset(right.value))])
                needle = self._call(values.anything, self._get(name))
                return n.IfExp(test, yes, self._call(operations.in_list, self._emit(right), needle, *more))
        needle = self._emit(left)
        if b.kind == "map":
            if a == STRING:
                return n.Compare(needle, [ast.In()], [self._emit(right)])
            return self._swapped(operations.in_map, needle, right)
        search = operations.in_list if b.kind == "list" else operations.contains
        return self._swapped(search, needle, right, *more)

    def _swapped(
        self, search: Callable[..., object], needle: ast.expr, right: t.Tree, *more: ast.expr
    ) -> ast.expr:
        """`search(container, needle)`; the container is read second, and order does not matter to errors."""
        if isinstance(needle, n.Constant):
            return self._call(search, self._emit(right), needle, *more)
        name = self._local()
        # The needle is evaluated first so that what it reads is known to the container's code.
        first = n.Tuple([self._set(name, needle), self._emit(right)], n.LOAD)
        container = n.Subscript(first, n.Constant(1), n.LOAD)
        return self._call(search, container, self._get(name), *more)

    # Macros and functions

    def _loop(self, tree: t.Loop) -> ast.expr:
        source = self._emit(tree.source)
        found = self._call(control.loop_items, source, self._get(BUDGET))
        name = f"x{tree.variable.slot}"
        if tree.test is not None:
            kind = "filter" if tree.kind == "map" else tree.kind
            test = self._lambda([name], self._branch(tree.test, self._emit))
            found = self._call(_LOOPS[kind], found, test)
        if tree.result is not None:
            found = self._call(transform, found, self._lambda([name], self._branch(tree.result, self._emit)))
        return found

    def _function(self, tree: t.Function) -> ast.expr:
        args = [self._emit(arg) for place, arg in enumerate(tree.args) if place != tree.literal]
        args += [self._constant(value) for value in tree.extra]
        if tree.name == "dyn" and len(args) == 1:
            return args[0]
        if not tree.is_declared:
            return self._call(tree.run, *args)
        if tree.run is None:
            found = self._call(call_declared, self._get(FACTS), n.Constant(tree.name), *args)
        else:
            found = self._call(protected(tree.name, tree.run), *args)
        return self._checked(tree.type, found, self._local())


def has_loops(tree: t.Tree) -> bool:
    """Whether a condition has macros, so that what they look at must be counted."""
    return isinstance(tree, t.Loop) or any(has_loops(child) for child in t.children(tree))
