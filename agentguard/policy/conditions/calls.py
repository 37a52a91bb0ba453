"""Which function a call means, and whether its arguments fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from agentguard.policy.conditions import syntax, tree
from agentguard.policy.conditions.functions import (
    ELSEWHERE,
    GLOBALS,
    MACROS,
    METHODS,
    PREPARED_GLOBALS,
    PREPARED_METHODS,
    FunctionSpec,
    Prepared,
    Signature,
    check_kinds,
    dispatch,
)
from agentguard.policy.conditions.problems import did_you_mean
from agentguard.policy.conditions.tree import Tree
from agentguard.policy.conditions.types import DYN, Type, goes_with


class _Problem(Protocol):
    def __call__(
        self, node: syntax.Node, text: str, *, code: str, hint: str = "", at_start: bool = False
    ) -> Tree: ...


class Calls:
    """Resolves calls against the language's functions and the declared ones."""

    def __init__(self, declared: Mapping[str, FunctionSpec], problem: _Problem) -> None:
        self._declared = declared
        self._problem = problem

    def dotted(self, node: syntax.Call, *, is_variable: Callable[[str], bool]) -> str | None:
        """`history.sum(...)`: the declared function that the call names with its dots."""
        words = [node.function]
        at = node.target
        while isinstance(at, syntax.Select):
            words.append(at.field)
            at = at.operand
        if not isinstance(at, syntax.Name) or is_variable(at.name):
            return None
        words.append(at.name)
        name = ".".join(reversed(words))
        if name in self._declared:
            return name
        prefix = name.rpartition(".")[0]
        if any(known.rpartition(".")[0] == prefix for known in self._declared):
            return name
        return None

    def declared(self, name: str, node: syntax.Call, args: tuple[Tree, ...]) -> Tree:
        """A function that the application declared."""
        spec = self._declared.get(name)
        if spec is None:
            return self._problem(
                node,
                f"unknown function `{name[:100]}`",
                code="unknown-function",
                hint=did_you_mean(name, self._declared),
            )
        fitting = _fitting(spec.parsed, args)
        if not fitting:
            return self._misfit(node, name, spec.parsed, args)
        result = fitting[0].result if len({s.result for s in fitting}) == 1 else DYN
        run: Callable[..., object] | None = fitting[0].run
        if run is not None and any(arg.type == DYN for arg in args) and len(fitting) == 1:
            run = check_kinds(name, fitting[0].params, run)
        return tree.Function(
            result,
            node.start,
            node.end,
            name,
            args,
            is_method=False,
            run=run,
            is_raw=result.kind in ("list", "map", "dyn"),
            is_declared=True,
        )

    def function(self, node: syntax.Call, args: tuple[Tree, ...]) -> Tree:
        """`name(args)`."""
        name = node.function
        if name in self._declared:
            return self.declared(name, node, args)
        if name in PREPARED_GLOBALS:
            return self._prepared(node, PREPARED_GLOBALS[name], args, is_method=False)
        if name in GLOBALS:
            return self._resolved(node, GLOBALS[name], args, is_method=False)
        hint = ELSEWHERE.get(name, "")
        if name in METHODS or name in MACROS:
            hint = f"write `value.{name}(...)`"
        hint = hint or did_you_mean(name, [*GLOBALS, *PREPARED_GLOBALS, *METHODS, *self._declared, "has"])
        return self._problem(node, f"unknown function `{name[:100]}`", code="unknown-function", hint=hint)

    def method(self, node: syntax.Call, args: tuple[Tree, ...]) -> Tree:
        """`target.name(args)`; the target is the first of *args*."""
        name = node.function
        if name in PREPARED_METHODS and len(args) == len(PREPARED_METHODS[name].params):
            return self._prepared(node, PREPARED_METHODS[name], args, is_method=True)
        if name in METHODS:
            return self._resolved(node, METHODS[name], args, is_method=True)
        if name in PREPARED_METHODS:
            return self._resolved(node, _as_signature(PREPARED_METHODS[name]), args, is_method=True)
        hint = ELSEWHERE.get(name, "")
        if name in GLOBALS or name in PREPARED_GLOBALS or name in self._declared:
            hint = f"write `{name}(value)`"
        hint = hint or did_you_mean(name, {*METHODS, *PREPARED_METHODS, *MACROS})
        return self._problem(node, f"unknown function `{name[:100]}`", code="unknown-function", hint=hint)

    def _resolved(
        self, node: syntax.Call, signatures: tuple[Signature, ...], args: tuple[Tree, ...], *, is_method: bool
    ) -> Tree:
        name = node.function
        fitting = _fitting(signatures, args)
        if not fitting:
            return self._misfit(node, name, signatures, args, is_method=is_method)
        is_known = len(fitting) == 1 and all(
            arg.type != DYN or param == DYN for arg, param in zip(args, fitting[0].params, strict=True)
        )
        results = {signature.result for signature in fitting}
        return tree.Function(
            results.pop() if len(results) == 1 else DYN,
            node.start,
            node.end,
            name,
            args,
            is_method=is_method,
            run=fitting[0].run if is_known else dispatch(name, fitting),
            is_raw=name == "dyn" and tree.is_raw(args[0]),
        )

    def _prepared(
        self, node: syntax.Call, prepared: Prepared, args: tuple[Tree, ...], *, is_method: bool
    ) -> Tree:
        name = node.function
        if not _fitting(_as_signature(prepared), args):
            return self._misfit(node, name, _as_signature(prepared), args, is_method=is_method)
        literal = args[prepared.literal]
        nodes = [*([node.target] if is_method and node.target else []), *node.args]
        place = nodes[prepared.literal]
        if not isinstance(literal, tree.Constant) or type(literal.value) is not str:
            return self._problem(
                place,
                f"the {prepared.what} of `{name}` stands in the condition itself",
                code="literal-needed",
                hint=f"write the {prepared.what} as a text, or as a constant of the document",
                at_start=True,
            )
        try:
            extra = prepared.make(literal.value)
        except ValueError as error:
            return self._problem(place, f"the {prepared.what} of `{name}`: {error}", code="literal")
        rest = args[: prepared.literal] + args[prepared.literal + 1 :]
        run = prepared.run
        if any(arg.type == DYN for arg in rest):
            run = check_kinds(name, prepared.params[: len(rest)], run)
        return tree.Function(
            prepared.result,
            node.start,
            node.end,
            name,
            args,
            is_method=is_method,
            run=run,
            extra=(extra,),
            literal=prepared.literal,
        )

    def _misfit(
        self,
        node: syntax.Call,
        name: str,
        signatures: Iterable[Signature],
        args: tuple[Tree, ...],
        *,
        is_method: bool = False,
    ) -> Tree:
        expected = " or ".join(dict.fromkeys(_shown(name, s.params, is_method=is_method) for s in signatures))
        got = _shown(name, tuple(arg.type for arg in args), is_method=is_method)
        return self._problem(node, f"got `{got}`, expected {expected}", code="arguments")


def _as_signature(prepared: Prepared) -> tuple[Signature, ...]:
    return (Signature(prepared.params, prepared.result, prepared.run),)


def _fitting(signatures: Iterable[Signature], args: tuple[Tree, ...]) -> tuple[Signature, ...]:
    return tuple(
        signature
        for signature in signatures
        if len(signature.params) == len(args)
        and all(goes_with(arg.type, param) for arg, param in zip(args, signature.params, strict=True))
    )


def _shown(name: str, params: tuple[Type, ...], *, is_method: bool) -> str:
    words = [str(param) for param in params]
    if is_method and words:
        return f"{words[0]}.{name}({', '.join(words[1:])})"
    return f"{name}({', '.join(words)})"
