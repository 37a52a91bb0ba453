"""Compile the conditions of a policy, and put their problems where they stand in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from agentguard.errors import PolicyDocumentError, PolicyProblem
from agentguard.policy._detects import DETECTS, wrong_kinds
from agentguard.policy._history import HISTORY, wrong_history
from agentguard.policy._model import Approvers, Policy, Rule, ToolSchema
from agentguard.policy._nodes import Scalar
from agentguard.policy._policy_reader import PolicyDraft
from agentguard.policy._problems import Problems, Source, did_you_mean, quoted
from agentguard.policy._rule_reader import RuleDraft
from agentguard.policy._terms import terms_of
from agentguard.policy._yaml import positions
from agentguard.policy.conditions import Condition, Scope, compile_condition, make_scope
from agentguard.policy.conditions import tree as t
from agentguard.values import FactSpec, Point

_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_DAILY = ("cost.usd_today", "tokens.today")


def join_tool_schemas(schemas: Sequence[ToolSchema], problems: Problems) -> dict[str, Mapping[str, str]]:
    """
    Put the tools of all ToolSchema documents together.

    Args:
        schemas:
            The documents.
        problems:
            Where a tool that is declared twice goes.

    Returns:
        Types of arguments by tool.
    """
    tools: dict[str, Mapping[str, str]] = {}
    for schema in schemas:
        for tool, args in schema.tools.items():
            if tool in tools:
                problems.add(
                    Source(schema.place.path), schema.place.line, schema.place.column,
                    f"tool `{tool}` is declared twice", code="duplicate-tool", hint="keep one of the two",
                )  # fmt: skip
            tools[tool] = args
    return tools


def compile_policy(
    draft: PolicyDraft,
    facts: Mapping[str, FactSpec],
    tools: Mapping[str, Mapping[str, str]],
    approvers: Sequence[Approvers],
    problems: Problems,
) -> Policy:
    """
    Compile every rule of a policy.

    Args:
        draft:
            The policy as it was read.
        facts:
            The catalogue.
        tools:
            Declared arguments by tool.
        approvers:
            Who may approve.
        problems:
            Where the mistakes go.

    Returns:
        The policy; rules with a mistake are left out of it, and the load fails by the problems.
    """
    rules: list[Rule] = []
    budgets: list[Rule] = []
    compiler = _Compiler(draft, facts, tools, problems)
    known = {f"group:{group}" for document in approvers for group in document.groups}
    known |= {person.id for document in approvers for people in document.groups.values() for person in people}
    for rule in (*draft.rules, *draft.budgets):
        _approvers_exist(draft, rule, known, approvers)
        _keys_exist(draft, rule, facts)
        conditions = compiler.compile(rule)
        if conditions is None:
            continue
        (budgets if rule.action.is_budget else rules).append(
            Rule(
                id=rule.id,
                title=rule.title,
                policy=draft.name,
                points=rule.points,
                when=rule.when.text,
                conditions=conditions,
                action=rule.action,
                mode=rule.mode or draft.mode,
                tools=rule.tools,
                record=rule.record,
                agent_message=rule.agent_message,
                controls=rule.controls,
                severity=rule.severity,
                place=rule.place,
                when_place=draft.reader.place(rule.when),
            )
        )
    return Policy(
        name=draft.name, version=draft.version, title=draft.title, owner=draft.owner, reviewers=draft.reviewers,
        recertify_by=draft.recertify_by, agents=draft.agents, environments=draft.environments,
        unmatched=draft.unmatched, mode=draft.mode, timezone=draft.timezone, variables=draft.variables,
        rules=tuple(rules), budgets=tuple(budgets), place=draft.place, content=draft.content,
    )  # fmt: skip


class _Compiler:
    """Compiles the rules of one policy."""

    def __init__(
        self,
        draft: PolicyDraft,
        facts: Mapping[str, FactSpec],
        tools: Mapping[str, Mapping[str, str]],
        problems: Problems,
    ) -> None:
        self._draft = draft
        self._facts = facts
        self._tools = tools
        self._problems = problems
        self._scopes: dict[object, Scope | None] = {}
        self._compiled: dict[object, Condition] = {}
        self._constants = {f"vars.{name}": value for name, value in draft.variables.items()}
        self._schemas = {
            point: {
                spec.name: spec.type for spec in facts.values() if not spec.points or point in spec.points
            }
            for point in Point
        }

    def compile(self, rule: RuleDraft) -> dict[Point, Condition] | None:
        """Compile one rule for each of its points, or note why not."""
        conditions: dict[Point, Condition] = {}
        seen: set[tuple[int, int, str]] = set()
        for point in rule.points:
            try:
                condition = self._compile_at(rule, point)
            except PolicyDocumentError as error:
                for problem in error.problems:
                    key = (problem.line, problem.column, problem.code)
                    if key not in seen:
                        seen.add(key)
                        self._place(rule, point, problem)
                continue
            conditions[point] = condition
            self._check(rule, condition)
        return conditions if len(conditions) == len(rule.points) else None

    def _check(self, rule: RuleDraft, condition: Condition) -> None:
        """Check what the types alone do not say."""
        reader = self._draft.reader
        for start, text, hint in wrong_kinds(condition.tree):
            self._add_at(rule, start, text, code="unknown-detector", hint=hint)
        for start, code, text, hint in wrong_history(condition.tree, dict(self._facts)):
            self._add_at(rule, start, text, code=code, hint=hint)
        for start, text, hint in _unknown_words(condition.tree, self._facts):
            self._add_at(rule, start, text, code="unknown-value", hint=hint)
        for start, text in _numbers_as_text(condition.tree):
            self._add_at(rule, start, text, code="number-as-text", hint="write the number without quotes")
        if self._draft.timezone != "UTC" and any(name in _DAILY for name in condition.reads):
            reader.problem(
                rule.when,
                f"`{next(n for n in _DAILY if n in condition.reads)}` counts days in UTC, "
                f"and this policy names {self._draft.timezone}",
                code="not-supported", hint="write `timezone: UTC`",
            )  # fmt: skip

    def _add_at(self, rule: RuleDraft, start: int, text: str, *, code: str, hint: str) -> None:
        """Note a problem at a character of a condition."""
        source = self._draft.reader.source
        places = positions(source, rule.when)
        line, column = places[start] if places else (rule.when.line, rule.when.column)
        self._problems.add(source, line, column, text, code=code, hint=hint)

    def _compile_at(self, rule: RuleDraft, point: Point) -> Condition:
        """Compile for one point; where the tools are known and declared, with the types of their arguments."""
        schema = self._schemas[point]
        condition = self._compile_text(rule.when.text, point, None)
        pinned = terms_of(condition.tree).names.get("tool.name")
        if rule.tools:
            pinned = frozenset(rule.tools) if pinned is None else pinned & frozenset(rule.tools)
        if not pinned or "args" not in schema or any(tool not in self._tools for tool in pinned):
            return condition
        types: dict[str, str] = {}
        for tool in sorted(pinned):
            for name, kind in self._tools[tool].items():
                types[name] = kind if types.get(name, kind) == kind else "dyn"
        return self._compile_text(rule.when.text, point, types)

    def _compile_text(self, text: str, point: Point, arguments: Mapping[str, str] | None) -> Condition:
        """Compile a text, once for all rules that say the same of the same facts."""
        declared = None if arguments is None else tuple(sorted(arguments.items()))
        condition = self._compiled.get((text, point, declared))
        if condition is not None:
            return condition
        schema = self._schemas[point]
        functions = (DETECTS, *HISTORY) if point is Point.TOOL_BEFORE else (DETECTS,)
        if (point, declared) not in self._scopes:
            self._scopes[point, declared] = make_scope(
                schema, functions=functions, constants=self._constants, arguments=arguments
            )
        condition = compile_condition(
            text, schema, constants=self._constants, functions=functions, arguments=arguments,
            scope=self._scopes[point, declared],
        )  # fmt: skip
        self._compiled[text, point, declared] = condition
        return condition

    def _place(self, rule: RuleDraft, point: Point, problem: PolicyProblem) -> None:
        """Note a problem of a condition where it stands in its file."""
        source = self._draft.reader.source
        line, column = _in_file(source, rule.when, problem.line, problem.column)
        hint = problem.hint
        if problem.code.startswith("unknown"):
            hint = self._elsewhere(rule.when.text, problem, point) or hint
        self._problems.add(source, line, column, problem.text, code=problem.code, hint=hint)

    def _elsewhere(self, text: str, problem: PolicyProblem, point: Point) -> str:
        """Say where a fact does exist that this point does not have."""
        lines = text.split("\n")
        rest = lines[problem.line - 1][problem.column - 1 :] if 0 < problem.line <= len(lines) else ""
        for name, spec in self._facts.items():
            if spec.points and point not in spec.points and rest.startswith(name):
                return f"`{name}` is a fact at {', '.join(spec.points)}, and not at {point}"
        return ""


def _unknown_words(tree: t.Tree, facts: Mapping[str, FactSpec]) -> Iterator[tuple[int, str, str]]:
    """Find texts that a fact of few values can never be."""
    pending = [tree]
    while pending:
        part = pending.pop()
        pending.extend(t.children(part))
        yield from _unknown_keys(part, facts)
        if not isinstance(part, t.Comparison) or part.operator not in ("==", "!=", "in"):
            continue
        for fact, other in ((part.left, part.right), (part.right, part.left)):
            name, words = _words_of(fact, facts)
            if not words:
                continue
            items = other.items if isinstance(other, t.ListOf) else (other,)
            for item in items:
                value = item.value if isinstance(item, t.Constant) else None
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and text not in words:
                        known = [word for word in words if word]
                        said = f"`{name}` is never {quoted(text, 40)}"
                        yield item.start, said, did_you_mean(text, known)


def _words_of(part: t.Tree, facts: Mapping[str, FactSpec]) -> tuple[str, tuple[str, ...]]:
    """Give the fact that a part reads, and the texts that it can be; of a map its values."""
    fact = part.operand if isinstance(part, t.Member) else part
    spec = facts.get(fact.name) if isinstance(fact, t.Fact) else None
    if spec is None or bool(spec.keys) != isinstance(part, t.Member):
        return "", ()
    return spec.name, spec.words


def _unknown_keys(part: t.Tree, facts: Mapping[str, FactSpec]) -> Iterator[tuple[int, str, str]]:
    """Find keys that a fact with known ones never has: `'key' in fact`, `fact['key']`, `has(fact.key)`."""
    if isinstance(part, t.Comparison) and part.operator == "in" and isinstance(part.left, t.Constant):
        fact, key = part.right, part.left.value
    elif isinstance(part, t.Member) and isinstance(part.key, t.Constant):
        fact, key = part.operand, part.key.value
    elif isinstance(part, t.Has):
        fact, key = part.operand, part.name
    else:
        return
    keys = facts[fact.name].keys if isinstance(fact, t.Fact) and fact.name in facts else ()
    if keys and isinstance(key, str) and key.partition(" ")[0] not in keys:
        said = f"`{getattr(fact, 'name', '')}` never has {quoted(key, 40)}"
        yield part.start, said, did_you_mean(key, list(keys))


def _numbers_as_text(tree: t.Tree) -> Iterator[tuple[int, str]]:
    """
    Find limits that are written as text.

    An argument has no type of its own: compared with `'500'` it would be
    compared letter by letter, and `'9'` is more than that.
    """
    pending = [tree]
    while pending:
        part = pending.pop()
        pending.extend(t.children(part))
        if not isinstance(part, t.Comparison) or part.operator not in ("<", "<=", ">", ">="):
            continue
        for side in (part.left, part.right):
            if (
                isinstance(side, t.Constant)
                and isinstance(side.value, str)
                and _NUMBER.fullmatch(side.value.strip())
            ):
                said = (
                    f"`{side.label}` is the text `{side.value}`"
                    if side.label
                    else f"`'{side.value}'` is text"
                )
                yield side.start, f"{said}, expected a number to compare with `{part.operator}`"


def _approvers_exist(
    draft: PolicyDraft, rule: RuleDraft, known: set[str], documents: Sequence[Approvers]
) -> None:
    """
    Where people are declared, a rule names these; and enough of them.

    Without any Approvers document nobody can approve, so that the rule always
    holds the call back: that is a finding, and no danger.
    """
    if not documents:
        return
    for name, node in rule.approver_nodes:
        if name not in known:
            draft.reader.problem(
                node,
                f"unknown approver `{name}`",
                code="unknown-approver",
                hint=did_you_mean(name, sorted(known)),
            )
    terms = rule.action.approval
    if terms is None or not all(name in known for name in terms.approvers):
        return
    people: set[str] = set()
    for document in documents:
        for group, members in document.groups.items():
            for person in members:
                if f"group:{group}" in terms.approvers or person.id in terms.approvers:
                    people.add(person.id)
    if len(people) < terms.approvals and rule.approver_nodes:
        draft.reader.problem(
            rule.approver_nodes[0][1], f"{terms.approvals} approvals of {len(people)} people can never be had",
            code="unknown-approver", hint="name more people, or ask for fewer",
        )  # fmt: skip


def _keys_exist(draft: PolicyDraft, rule: RuleDraft, facts: Mapping[str, FactSpec]) -> None:
    """
    What is counted apart is a fact of each point, and none that a model writes.

    A key that the model can choose would give it a fresh count with each call.
    """
    for name, node in rule.key_nodes:
        spec = facts.get(name)
        if spec is None:
            draft.reader.problem(
                node,
                f"unknown fact `{name}` in key",
                code="unknown-fact",
                hint=did_you_mean(name, sorted(facts)),
            )
        elif spec.points and not set(rule.points) <= set(spec.points):
            missing = ", ".join(point for point in rule.points if point not in spec.points)
            draft.reader.problem(
                node, f"key: `{name}` is no fact at {missing}", code="unknown-fact",
                hint=f"it is one at {', '.join(spec.points)}",
            )  # fmt: skip
        elif not spec.is_trusted:
            draft.reader.problem(
                node, f"key: `{name}` is written by the model, which would count anew by writing something else",
                code="model-supplied-key", hint="count by names and trusted facts, such as `principal.id`",
            )  # fmt: skip
        elif spec.type not in ("string", "int", "bool"):
            draft.reader.problem(
                node, f"key: `{name}` is {spec.type}, expected string, int or bool", code="wrong-type"
            )


def _in_file(source: Source, scalar: Scalar, line: int, column: int) -> tuple[int, int]:
    """Turn a place in a condition into a place in its file."""
    places = positions(source, scalar)
    lines = scalar.text.split("\n")
    if places is None or not 1 <= line <= len(lines):
        return scalar.line, scalar.column
    offset = sum(len(text) + 1 for text in lines[: line - 1]) + max(0, column - 1)
    return places[min(offset, len(places) - 1)]
