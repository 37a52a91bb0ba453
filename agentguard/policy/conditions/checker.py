"""
From the source's tree to the checked tree: names, types, functions, macros.

Every mistake is a problem with place and, where one is near, the name that was
meant. A part with a mistake counts as `dyn` from there on, so that it is
reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agentguard.policy.conditions import syntax, times, tree
from agentguard.policy.conditions.calls import Calls
from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.functions import MACROS
from agentguard.policy.conditions.limits import NESTING_MAX
from agentguard.policy.conditions.problems import Problems, did_you_mean
from agentguard.policy.conditions.scope import Scope, joined, type_of_constant, way_out
from agentguard.policy.conditions.tree import Tree
from agentguard.policy.conditions.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    KEYS,
    NULL,
    ORDERED,
    STRING,
    TIMESTAMP,
    Type,
    comparable,
    goes_with,
    join,
    list_of,
    map_of,
    with_article,
)

_ARITHMETIC: Mapping[str, tuple[tuple[Type, Type, Type], ...]] = {
    "+": (
        (INT, INT, INT),
        (DOUBLE, DOUBLE, DOUBLE),
        (STRING, STRING, STRING),
        (BYTES, BYTES, BYTES),
        (DURATION, DURATION, DURATION),
        (TIMESTAMP, DURATION, TIMESTAMP),
        (DURATION, TIMESTAMP, TIMESTAMP),
    ),
    "-": (
        (INT, INT, INT),
        (DOUBLE, DOUBLE, DOUBLE),
        (DURATION, DURATION, DURATION),
        (TIMESTAMP, DURATION, TIMESTAMP),
        (TIMESTAMP, TIMESTAMP, DURATION),
    ),
    "*": ((INT, INT, INT), (DOUBLE, DOUBLE, DOUBLE)),
    "/": ((INT, INT, INT), (DOUBLE, DOUBLE, DOUBLE)),
    "%": ((INT, INT, INT),),
}


class Checker:
    """Checks one source against a scope."""

    def __init__(self, scope: Scope, problems: Problems) -> None:
        self.scope = scope
        self._problems = problems
        self._variables: list[tree.Variable] = []
        self._slots = 0
        self.calls = Calls(scope.functions, self.problem)

    def problem(
        self, node: syntax.Node, text: str, *, code: str, hint: str = "", at_start: bool = False
    ) -> Tree:
        """Note a mistake, and give what stands in its place; the caret is at the operator, or at the start."""
        self._problems.add(node.start if at_start else node.at, text, code=code, hint=hint)
        return _poison(node)

    def check(self, node: syntax.Node) -> Tree:
        """Check one part and all below it."""
        match node:
            case syntax.Literal(value=value):
                return tree.Constant(type_of_constant(value), node.start, node.end, value)
            case syntax.Name() | syntax.Select():
                return self._named(node)
            case syntax.Index():
                return self._index(node)
            case syntax.Call():
                return self._call(node)
            case syntax.ListNode(items=items):
                return self._list(node, tuple(self.check(item) for item in items))
            case syntax.MapNode():
                return self._map(node)
            case syntax.Unary():
                return self._unary(node)
            case syntax.Logic(operator=operator, terms=terms):
                checked = tuple(self._condition(term, f"`{operator}`") for term in terms)
                return tree.Logic(BOOL, node.start, node.end, operator, checked)
            case syntax.Conditional():
                return self._choice(node)
            case syntax.Binary(operator=operator):
                left, right = self.check(node.left), self.check(node.right)
                if operator in _ARITHMETIC:
                    return self._arithmetic(node, left, right)
                if operator == "in":
                    return self._membership(node, left, right)
                return self._comparison(node, left, right)
            case _:
                return _poison(node)

    def _condition(self, node: syntax.Node, where: str) -> Tree:
        """A part that must be a bool."""
        found = self.check(node)
        if not goes_with(found.type, BOOL):
            hint = "compare it with something" if found.type != NULL else ""
            self.problem(node, f"{where} takes bool, got {found.type}", code="type", hint=hint)
        return found

    # Names

    def _variable(self, name: str) -> tree.Variable | None:
        return next((v for v in reversed(self._variables) if v.name == name), None)

    def is_variable(self, name: str) -> bool:
        """Whether a macro around this place binds the name."""
        return self._variable(name) is not None

    def _named(self, node: syntax.Name | syntax.Select) -> Tree:
        """A dotted name: a variable first, then the longest declared name, then keys of a map."""
        path: list[syntax.Select] = []
        root: syntax.Node = node
        while isinstance(root, syntax.Select):
            path.append(root)
            root = root.operand
        path.reverse()
        if not isinstance(root, syntax.Name):
            found = self.check(root)
            rest = path
        elif (variable := self._variable(root.name)) is not None:
            found = replace(variable, start=root.start, end=root.end)
            rest = path
        else:
            words = [root.name, *(select.field for select in path)]
            for count in range(len(words), 0, -1):
                name = ".".join(words[:count])
                end = path[count - 2].end if count > 1 else root.end
                if name in self.scope.facts:
                    found = tree.Fact(self.scope.facts[name], root.start, end, name)
                    break
                if name in self.scope.constants:
                    of, value = self.scope.constants[name]
                    found = tree.Constant(of, root.start, end, value, name)
                    break
            else:
                return self._unknown(root, ".".join(words))
            rest = path[count - 1 :]
        for select in rest:
            found = self._member(select, found, select.field)
        return found

    def _unknown(self, node: syntax.Node, name: str) -> Tree:
        known = [*self.scope.facts, *self.scope.constants]
        hint = ""
        if any(word.startswith(name + ".") for word in known):
            inner = sorted(word for word in known if word.startswith(name + "."))[:4]
            hint = f"`{name}` has {', '.join(f'`{word}`' for word in inner)}"
        if not hint and name in self.scope.functions:
            hint = f"`{name}` is a function: write `{name}(...)`"
        hint = hint or did_you_mean(name, known)
        return self.problem(node, f"unknown name `{name[:100]}`", code="unknown-name", hint=hint)

    def _member(self, node: syntax.Node, operand: Tree, name: str) -> Tree:
        """`operand.name`."""
        key = tree.Constant(STRING, node.at, node.end, name)
        of = self._member_type(node, operand, name)
        if of is None:
            return _poison(node)
        return tree.Member(of, operand.start, node.end, operand, key, tree.is_raw(operand))

    def _member_type(self, node: syntax.Node, operand: Tree, name: str) -> Type | None:
        """The type of a text key of a map; None where there is none, with the problem noted."""
        of = operand.type
        if isinstance(operand, tree.Fact) and operand.name == "args" and self.scope.arguments is not None:
            declared = self.scope.arguments.get(name)
            if declared is None:
                self.problem(
                    node,
                    f"unknown argument `{name[:100]}`",
                    code="unknown-argument",
                    hint=did_you_mean(name, self.scope.arguments)
                    or f"the tool has {', '.join(f'`{key}`' for key in sorted(self.scope.arguments)[:8]) or 'none'}",
                )
            return declared
        if of == DYN:
            return DYN
        if of.kind != "map":
            known = [word for word in self.scope.facts if isinstance(operand, tree.Fact)]
            hint = did_you_mean(f"{operand.name}.{name}", known) if isinstance(operand, tree.Fact) else ""
            if name in {*MACROS, "size", "startsWith", "endsWith", "contains", "matches", "trim"}:
                hint = f"`{name}` is a function: write `{name}(...)`"
            self.problem(
                node, f"{with_article(of)} has no member `{name[:100]}`", code="unknown-member", hint=hint
            )
            return None
        if not goes_with(of.params[0], STRING):
            self.problem(node, f"the keys of a {of} are no names", code="type", hint="write `map[key]`")
            return None
        return of.params[1]

    def _index(self, node: syntax.Index) -> Tree:
        operand, key = self.check(node.operand), self.check(node.key)
        of, raw = operand.type, tree.is_raw(operand)
        if of.kind == "list":
            if key.type not in (INT, DYN):
                return self.problem(node.key, f"a place in a list is int, got {key.type}", code="type")
            return tree.Item(of.params[0], node.start, node.end, operand, key, raw)
        if of.kind == "map":
            if isinstance(key, tree.Constant) and key.type == STRING and goes_with(of.params[0], STRING):
                found = self._member_type(node.key, operand, str(key.value))
                return tree.Member(found, node.start, node.end, operand, key, raw) if found else _poison(node)
            if not goes_with(of.params[0], key.type):
                return self.problem(node.key, f"the keys of a {of} are no {key.type}", code="type")
            return tree.Member(of.params[1], node.start, node.end, operand, key, raw)
        if of == DYN:
            return tree.Member(DYN, node.start, node.end, operand, key, raw)
        hint = "`text.contains(...)` and `startsWith(...)` look inside" if of == STRING else ""
        return self.problem(node, f"{with_article(of)} has no places or keys", code="type", hint=hint)

    # Lists, maps, choices

    def _list(self, node: syntax.ListNode, items: tuple[Tree, ...]) -> Tree:
        of = list_of(joined([item.type for item in items]))
        if all(isinstance(item, tree.Constant) for item in items):
            values = [item.value for item in items if isinstance(item, tree.Constant)]
            return tree.Constant(of, node.start, node.end, values)
        return tree.ListOf(of, node.start, node.end, items, any(map(tree.is_raw, items)))

    def _map(self, node: syntax.MapNode) -> Tree:
        entries = [(self.check(key), self.check(value)) for key, value in node.entries]
        seen: set[tuple[str, object]] = set()
        for (key, _), (key_node, _) in zip(entries, node.entries, strict=True):
            if key.type not in KEYS:
                return self.problem(key_node, f"a key is string, int or bool, got {key.type}", code="type")
            if isinstance(key, tree.Constant):
                if (key.type.kind, key.value) in seen:
                    return self.problem(key_node, "a key stands twice in the map", code="duplicate-key")
                seen.add((key.type.kind, key.value))
        kinds = {key.type for key, _ in entries}
        if BOOL in kinds and (INT in kinds or DYN in kinds):
            # Python holds True and 1 under one key, CEL does not.
            return self.problem(node, "a map with both bool and int keys", code="unsupported")
        of = map_of(joined([k.type for k, _ in entries]), joined([v.type for _, v in entries]))
        raw = any(tree.is_raw(part) for entry in entries for part in entry)
        return tree.MapOf(of, node.start, node.end, tuple(entries), raw)

    def _choice(self, node: syntax.Conditional) -> Tree:
        test = self._condition(node.test, "`?`")
        yes, no = self.check(node.yes), self.check(node.no)
        if not goes_with(yes.type, no.type):
            return self.problem(node, f"`?` gives {yes.type} or {no.type}, one type is needed", code="type")
        of = join(yes.type, no.type)
        raw = tree.is_raw(yes) or tree.is_raw(no)
        return tree.Choice(of, node.start, node.end, test, yes, no, raw)

    # Operators

    def _unary(self, node: syntax.Unary) -> Tree:
        if node.operator == "!":
            return tree.Not(BOOL, node.start, node.end, self._condition(node.operand, "`!`"))
        operand = self.check(node.operand)
        if operand.type not in (INT, DOUBLE, DYN):
            return self.problem(node, f"`-` takes a number, got {operand.type}", code="type")
        return tree.Negative(operand.type, node.start, node.end, operand)

    def _arithmetic(self, node: syntax.Binary, left: Tree, right: Tree) -> Tree:
        a, b = left.type, right.type
        raw = tree.is_raw(left) or tree.is_raw(right)
        results = [r for x, y, r in _ARITHMETIC[node.operator] if goes_with(a, x) and goes_with(b, y)]
        if (
            node.operator == "+"
            and goes_with(a, list_of(DYN))
            and goes_with(b, list_of(DYN))
            and goes_with(a, b)
        ):
            results.append(join(a, b) if DYN not in (a, b) else list_of(DYN))
        if not results:
            hint = ""
            if {a, b} == {INT, DOUBLE}:
                hint = "CEL does not mix them: write `double(...)`, or 5.0 for 5"
            elif STRING in (a, b) and node.operator == "+":
                hint = "write `string(...)` around the other side"
            return self.problem(node, f"`{node.operator}` does not take {a} and {b}", code="type", hint=hint)
        # Of two unknown sides CEL infers nothing: one of them might be unsigned.
        of = results[0] if len(results) == 1 and (a, b) != (DYN, DYN) else DYN
        return tree.Arithmetic(
            of, node.start, node.end, node.operator, left, right, raw and (of == DYN or of.kind == "list")
        )

    def _comparison(self, node: syntax.Binary, left: Tree, right: Tree) -> Tree:
        a, b, operator = left.type, right.type, node.operator
        if operator in ("==", "!="):
            fits = comparable(a, b)
        else:
            fits = comparable(a, b) and all(of in ORDERED or of == DYN for of in (a, b))
        if not fits:
            return self.problem(
                node, f"`{operator}` does not compare {a} with {b}", code="type", hint=way_out(left, right)
            )
        return tree.Comparison(BOOL, node.start, node.end, operator, left, right)

    def _membership(self, node: syntax.Binary, left: Tree, right: Tree) -> Tree:
        a, b = left.type, right.type
        problem = ""
        hint = ""
        if b.kind == "list":
            if not comparable(a, b.params[0]):
                problem = f"`in` looks for {with_article(a)} in a {b}"
            elif isinstance(node.right, syntax.ListNode):
                # CEL lets `x in ['a', 5]` pass; an item that can never be equal is a slip.
                for item in node.right.items:
                    of = self.check(item).type if not isinstance(item, syntax.Broken) else DYN
                    if not comparable(a, of):
                        return self.problem(
                            item, f"`in` looks for {with_article(a)}, this item is {of}", code="type"
                        )
        elif b.kind == "map":
            if not goes_with(a, b.params[0]):
                problem = f"`in` looks for {with_article(a)} among the keys of a {b}"
        elif b != DYN:
            problem = f"`in` looks into a list or a map, got {b}"
            hint = "write `text.contains(part)`" if b == STRING else ""
        if problem:
            return self.problem(node, problem, code="type", hint=hint)
        return tree.Comparison(BOOL, node.start, node.end, "in", left, right)

    # Functions and macros

    def _call(self, node: syntax.Call) -> Tree:
        name, target = node.function, node.target
        if target is None and name == "has":
            return self._has(node)
        if target is not None:
            dotted = self.calls.dotted(node, is_variable=self.is_variable)
            if dotted is not None:
                return self.calls.declared(dotted, node, tuple(map(self.check, node.args)))
            if name in MACROS and len(node.args) in (2, 3 if name == "map" else 2):
                return self._macro(node, target)
            if name in MACROS:
                count = "2 or 3" if name == "map" else "2"
                self.check(target)
                return self.problem(
                    node,
                    f"`{name}` takes {count} arguments, got {len(node.args)}",
                    code="arguments",
                    hint=f"write `list.{name}(x, ...)`",
                )
            args = (self.check(target), *map(self.check, node.args))
            return self._folded(node, self.calls.method(node, args))
        args = tuple(map(self.check, node.args))
        return self._folded(node, self.calls.function(node, args))

    def _folded(self, node: syntax.Call, found: Tree) -> Tree:
        """`timestamp('...')` and `duration('...')` of a literal are read now."""
        if not isinstance(found, tree.Function) or found.name not in ("timestamp", "duration"):
            return found
        argument = found.args[0]
        if not isinstance(argument, tree.Constant) or argument.type != STRING or argument.label:
            return found
        read: Callable[[str], Any] = times.timestamp if found.name == "timestamp" else times.duration
        try:
            value = read(str(argument.value))
        except Fault as fault:
            return self.problem(node.args[0], str(fault), code="literal")
        return tree.Constant(found.type, found.start, found.end, value)

    def _has(self, node: syntax.Call) -> Tree:
        argument = node.args[0] if len(node.args) == 1 else None
        if not isinstance(argument, syntax.Select):
            return self.problem(
                node, "`has` takes one key of a map", code="arguments", hint="write `has(args.name)`"
            )
        found = self.check(argument)
        if isinstance(found, tree.Member) and isinstance(found.key, tree.Constant):
            return tree.Has(BOOL, node.start, node.end, found.operand, str(found.key.value))
        if isinstance(found, tree.Fact):
            return self.problem(
                argument,
                f"`has` asks for a key of a map, `{found.name}` is a fact of its own",
                code="arguments",
                hint="a declared fact is there, or the evaluation fails",
                at_start=True,
            )
        if isinstance(found, tree.Constant) and found.label:
            return self.problem(
                argument, "`has` asks for a key of a map, not for a constant", code="arguments"
            )
        return _poison(node)

    def _macro(self, node: syntax.Call, target: syntax.Node) -> Tree:
        source = self.check(target)
        of = source.type
        if of.kind not in ("list", "map", "dyn"):
            return self.problem(node, f"`{node.function}` takes a list or a map, got {of}", code="type")
        name_node = node.args[0]
        if not isinstance(name_node, syntax.Name):
            return self.problem(
                name_node, f"`{node.function}` takes the name of a variable first", code="arguments",
                hint=f"write `list.{node.function}(x, ...)`",
            )  # fmt: skip
        if len(self._variables) >= NESTING_MAX:
            return self.problem(node, "macros nested too deep", code="too-large")
        self._slots += 1
        variable = tree.Variable(
            of.params[0] if of.params else DYN,
            name_node.start,
            name_node.end,
            name_node.name,
            self._slots,
            tree.is_raw(source),
        )
        self._variables.append(variable)
        try:
            test: Tree | None = None
            result: Tree | None = None
            kind = node.function
            if kind != "map" or len(node.args) == 3:
                test = self._condition(node.args[1], f"`{kind}`")
            if kind == "map":
                result = self.check(node.args[-1])
        finally:
            self._variables.pop()
        if result is not None:
            made, raw = list_of(result.type), tree.is_raw(result)
        elif kind == "filter":
            made, raw = list_of(variable.type), variable.is_raw
        else:
            made, raw = BOOL, False
        return tree.Loop(made, node.start, node.end, kind, source, variable, test, result, raw)


def _poison(node: syntax.Node) -> Tree:
    """What stands for a part with a mistake: it goes with everything."""
    return tree.Variable(DYN, node.start, node.end, "?", 0, is_raw=True)
