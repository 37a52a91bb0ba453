"""
The pieces that generated functions are built of, and how a raw value is read.

Local names are counted, globals are numbered: nothing of a condition's text is
ever a name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import timedelta
from types import CodeType, FunctionType
from typing import Any, Final

from agentguard.policy.conditions import nodes as n
from agentguard.policy.conditions import values
from agentguard.policy.conditions.limits import ITERATIONS_MAX
from agentguard.policy.conditions.operations import Budget
from agentguard.policy.conditions.types import Type
from agentguard.policy.conditions.values import INT_MAX, INT_MIN

FACTS: Final = "facts"
BUDGET: Final = "budget"
_INNER_FILE: Final = "<condition>"

_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "string": values.text,
    "int": values.integer,
    "double": values.real,
    "bool": values.truth,
    "bytes": values.raw_bytes,
    "null": values.null,
    "timestamp": values.moment,
    "duration": values.span,
    "list": values.items,
    "map": values.mapping,
    "dyn": values.anything,
}
_CLASSES: Final[dict[str, type]] = {
    "string": str, "int": int, "double": float, "bytes": bytes, "list": list, "map": dict, "dyn": str,
    "duration": timedelta,
}  # fmt: skip


class Builder:
    """Makes expressions of `ast`, and keeps what the function finds in its globals."""

    def __init__(self) -> None:
        self._globals: dict[str, object] = {"__builtins__": {}}
        self._names: dict[int, str] = {}
        self._kept: list[object] = []
        self._locals = 0

    def _global(self, value: object) -> ast.expr:
        """A name under which the function finds a value of ours."""
        name = self._names.get(id(value))
        if name is None:
            name = f"g{len(self._kept)}"
            self._names[id(value)] = name
            self._kept.append(value)  # so that its id stays its own
            self._globals[name] = value
        return n.Name(name, n.LOAD)

    def _call(self, function: object, *args: ast.expr) -> ast.expr:
        return n.Call(self._global(function), list(args), [])

    def _local(self) -> str:
        self._locals += 1
        return f"v{self._locals}"

    def _set(self, name: str, value: ast.expr) -> ast.expr:
        return n.NamedExpr(n.Name(name, n.STORE), value)

    def _get(self, name: str) -> ast.expr:
        return n.Name(name, n.LOAD)

    def _is_class(self, value: ast.expr, cls: type) -> ast.expr:
        return n.Compare(self._call(type, value), [ast.Is()], [self._global(cls)])

    def _fits(self, name: str) -> ast.expr:
        """Whether an integer has 64 bits."""
        return n.Compare(n.Constant(INT_MIN), [ast.LtE(), ast.LtE()], [self._get(name), n.Constant(INT_MAX)])

    def _is_finite(self, name: str) -> ast.expr:
        """Whether a double is finite: x - x is 0 for these, and for no other."""
        return n.Compare(n.BinOp(self._get(name), ast.Sub(), self._get(name)), [ast.Eq()], [n.Constant(0.0)])

    # Whole functions

    def _fresh_budget(self) -> ast.expr:
        """What the macros of one condition may look at."""
        return self._call(Budget, n.Constant(ITERATIONS_MAX))

    def _guarded(self, statements: list[ast.stmt], otherwise: ast.expr) -> ast.stmt:
        """`try: ... except Exception: return otherwise`."""
        handler = n.ExceptHandler(self._global(Exception), None, [n.Return(otherwise)])
        return n.Try(statements, [handler], [], [])

    def _made(self, statements: list[ast.stmt], *parameters: str) -> Callable[..., Any]:
        """Make the function that has these statements; of the facts, where no other parameters are named."""
        given: list[ast.arg] = [n.Argument(name) for name in parameters or (FACTS,)]
        arguments = ast.arguments(posonlyargs=[], args=given, kwonlyargs=[], kw_defaults=[], defaults=[])
        definition = n.FunctionDef("condition", arguments, statements, [])
        if "type_params" in ast.FunctionDef._fields:  # Python 3.12 asks for the field
            definition.type_params = []  # type: ignore[attr-defined, unused-ignore]
        code = compile(ast.Module([definition], []), _INNER_FILE, "exec", dont_inherit=True, optimize=2)
        inner = next(const for const in code.co_consts if isinstance(const, CodeType))
        return FunctionType(inner, self._globals, "condition")

    # Reading checked values

    def _checked(self, of: Type, raw: ast.expr, name: str) -> ast.expr:
        """Read a raw value as a type, and keep it under a local name."""
        kind = of.kind
        reader = _READERS[kind]
        first = self._set(name, raw)
        if kind in ("null", "timestamp"):
            return self._set(name, self._call(reader, raw))
        if kind == "bool":
            test: ast.expr = n.BoolOp(
                ast.Or(),
                [
                    n.Compare(first, [ast.Is()], [n.Constant(value=True)]),
                    n.Compare(self._get(name), [ast.Is()], [n.Constant(value=False)]),
                ],
            )
        else:
            test = self._is_class(first, _CLASSES[kind])
            if kind == "int":
                test = n.BoolOp(ast.And(), [test, self._fits(name)])
            elif kind == "double":
                test = n.BoolOp(ast.And(), [test, self._is_finite(name)])
        return n.IfExp(test, self._get(name), self._set(name, self._call(reader, self._get(name))))
