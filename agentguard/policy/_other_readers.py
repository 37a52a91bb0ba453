"""Read documents of the kinds Approvers, ToolSchema and PolicyTest."""

from __future__ import annotations

import base64
import binascii
import re

from agentguard.policy._history import HISTORY_GIVEN
from agentguard.policy._model import Approver, Approvers, Expectation, PolicyTest, TestCase, ToolSchema
from agentguard.policy._nodes import Fields, Items, Node, Scalar
from agentguard.policy._policy_reader import NAME_FORM, read_metadata
from agentguard.policy._problems import did_you_mean, quoted
from agentguard.policy._reader import Reader, plain
from agentguard.policy.conditions.types import parse_type
from agentguard.values import FACTS, DenialKind, Effect, FactSpec, Point

PUBLIC_KEY_BYTES = 32
REPEAT_MAX = 10_000
"""How often a case may ask its question."""
CASES_MAX = 5_000
"""Cases of one document of tests."""

_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
"""Names of arguments: those of Python, and what schemas of other protocols use beside them."""

_TYPES = (
    "int",
    "double",
    "string",
    "bool",
    "dyn",
    "timestamp",
    "list<string>",
    "list<double>",
    "map<string, dyn>",
)
_ANSWERS = ("allow", "deny", "require_approval", "throttle", "circuit_break", "kill")
_TOP = ("apiVersion", "kind", "metadata")


def read_approvers(reader: Reader, node: Node) -> Approvers | None:
    """Read one document of groups of people, each with a public key."""
    found = reader.fields(node, "an Approvers document", required=(*_TOP, "groups"))
    if found is None:
        return None
    head = read_metadata(reader, found.get("metadata"))
    groups_node = found.get("groups")
    if groups_node is None or head is None:
        return None
    if not isinstance(groups_node, Fields) or not groups_node.entries:
        reader.problem(
            groups_node, f"groups: got {groups_node.says}, expected groups of people", code="wrong-type"
        )
        return None
    groups: dict[str, tuple[Approver, ...]] = {}
    for name, (key, value) in groups_node.entries.items():
        if not _GROUP.fullmatch(name):
            reader.problem(key, f"group {quoted(name)}: expected {NAME_FORM}", code="wrong-form")
        people: list[Approver] = []
        for item in reader.items(value, f"group {quoted(name)}") or []:
            person = _approver(reader, item)
            if person is None:
                continue
            if any(person.id == p.id or person.public_key == p.public_key for p in people):
                reader.problem(
                    item, f"`{person.id}` or the key stands twice in the group", code="duplicate-approver"
                )
            people.append(person)
        groups[name] = tuple(people)
    return Approvers(_text(head["name"]), groups, reader.place(node), plain(node))


def _approver(reader: Reader, node: Node) -> Approver | None:
    """Read one person: id, and Ed25519 public key in base64."""
    found = reader.fields(node, "an approver", required=("id", "public_key"))
    if found is None:
        return None
    name = reader.name(found.get("id"), "approver id", _PERSON, "letters, digits, `.`, `_`, `@`, `+`, `-`")
    key = reader.text(found.get("public_key"), "public_key", characters_max=100)
    if name is None or key is None:
        return None
    try:
        raw = base64.b64decode(key.removeprefix("ed25519:"), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != PUBLIC_KEY_BYTES:
        reader.problem(
            found["public_key"], "public_key: expected an Ed25519 public key, 32 bytes in base64", code="wrong-form",
            hint="write `ed25519:` and 44 characters",
        )  # fmt: skip
        return None
    return Approver(name, raw)


def read_tool_schema(reader: Reader, node: Node) -> ToolSchema | None:
    """Read one document of argument types."""
    found = reader.fields(node, "a ToolSchema", required=(*_TOP, "tools"))
    if found is None:
        return None
    head = read_metadata(reader, found.get("metadata"))
    tools_node = found.get("tools")
    if tools_node is None or head is None:
        return None
    if not isinstance(tools_node, Fields) or not tools_node.entries:
        reader.problem(tools_node, f"tools: got {tools_node.says}, expected tools by name", code="wrong-type")
        return None
    tools: dict[str, dict[str, str]] = {}
    for name, (_, value) in tools_node.entries.items():
        fields = reader.fields(value, f"tool {quoted(name)}", required=("args",))
        args = fields.get("args") if fields else None
        if not isinstance(args, Fields):
            if args is not None:
                reader.problem(args, f"args: got {args.says}, expected types by argument", code="wrong-type")
            continue
        types: dict[str, str] = {}
        for argument, (key, type_node) in args.entries.items():
            if not ARGUMENT.fullmatch(argument):
                reader.problem(key, f"argument {quoted(argument)}: expected a name", code="wrong-form")
            text = reader.text(type_node, f"type of `{argument}`", characters_max=200)
            if text is None:
                continue
            try:
                types[argument] = str(parse_type(text))
            except ValueError:
                reader.problem(
                    type_node,
                    f"unknown type {quoted(text)}",
                    code="unknown-type",
                    hint=did_you_mean(text, _TYPES),
                )
        tools[name] = types
    return ToolSchema(_text(head["name"]), tools, reader.place(node), plain(node))


def read_policy_test(
    reader: Reader, node: Node, facts: dict[str, FactSpec] | None = None
) -> PolicyTest | None:
    """Read one document of test cases."""
    specs = dict(FACTS) if facts is None else facts
    found = reader.fields(node, "a PolicyTest", required=(*_TOP, "policies", "cases"), optional=("given",))
    if found is None:
        return None
    head = read_metadata(reader, found.get("metadata"))
    policies = _policies(reader, found.get("policies"))
    shared = _given(reader, found.get("given"), specs)
    items = reader.items(found.get("cases"), "cases")
    if head is None or policies is None or items is None or shared is None:
        return None
    if len(items) > CASES_MAX:
        reader.problem(
            items[CASES_MAX], f"more than {CASES_MAX} cases", code="file-too-large", hint="split the file"
        )
        return None
    cases: list[TestCase] = []
    names: set[str] = set()
    for item in items:
        case = _case(reader, item, specs, shared)
        if case is None:
            continue
        if case.name in names:
            reader.problem(item, f"case {quoted(case.name)} stands twice", code="duplicate-case")
        names.add(case.name)
        cases.append(case)
    return PolicyTest(_text(head["name"]), policies, tuple(cases), reader.place(node))


def _policies(reader: Reader, node: Node | None) -> tuple[str, ...] | None:
    """Read whom the test asks: names, or `all`."""
    if isinstance(node, Items):
        return reader.texts(node, "policies")
    word = reader.word(node, "value of policies", ("all",))
    return () if word else None


def _case(
    reader: Reader, node: Node, specs: dict[str, FactSpec], shared: dict[str, object]
) -> TestCase | None:
    """Read one case."""
    found = reader.fields(node, "a case", required=("name", "at", "given", "expect"), optional=("repeat",))
    if found is None:
        return None
    name = reader.text(found.get("name"), "name", characters_max=200)
    point = reader.word(found.get("at"), "intervention point", tuple(Point))
    given = _given(reader, found.get("given"), specs)
    expect = _expect(reader, found.get("expect"))
    repeat = reader.whole_number(found.get("repeat"), "repeat", least=1, most=REPEAT_MAX)
    if name is None or point is None or given is None or expect is None:
        return None
    return TestCase(name, point, {**shared, **given}, expect, reader.place(node), repeat or 1)


def _given(reader: Reader, node: Node | None, specs: dict[str, FactSpec]) -> dict[str, object] | None:
    """Read facts by dotted name."""
    if node is None:
        return {}
    if not isinstance(node, Fields):
        reader.problem(node, f"given: got {node.says}, expected facts by name", code="wrong-type")
        return None
    facts: dict[str, object] = {}
    for name, (key, value) in node.entries.items():
        spec = specs.get(name) or HISTORY_GIVEN.get(name)
        if spec is None:
            reader.problem(
                key, f"unknown fact {quoted(name)}", code="unknown-fact", hint=did_you_mean(name, specs)
            )
            continue
        data = reader.data(value, f"fact `{name}`", is_finite=False)
        wrong = fact_mismatch(spec, data)
        if wrong:
            reader.problem(value, f"fact `{name}`: {wrong}", code="wrong-type")
            continue
        facts[name] = float(data) if spec.type == "double" and isinstance(data, int) else data
    return facts


def fact_mismatch(spec: FactSpec, value: object) -> str:
    """
    Say in what way a value is not of a fact's type.

    Args:
        spec:
            The fact.
        value:
            Plain data.

    Returns:
        One clause, or empty where it fits.
    """
    wanted = spec.type
    got = "nothing" if value is None else f"a value of type {type(value).__name__}"
    if wanted == "dyn":
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "timestamp": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": is_number and isinstance(value, int),
        "double": is_number,
        "list": isinstance(value, list),
        "map": isinstance(value, dict),
    }.get(wanted.partition("<")[0], True)
    return "" if fits else f"got {got}, expected {wanted}"


def _expect(reader: Reader, node: Node | None) -> Expectation | None:
    """Read what is expected: one word, or a mapping."""
    if node is None:
        return None
    if isinstance(node, Scalar):
        word = reader.word(node, "decision", _ANSWERS)
        return Expectation(Effect(word)) if word else None
    found = reader.fields(
        node,
        "expect",
        required=("decision",),
        optional=("rule", "matched", "redact", "would_be", "kind", "error", "fallback"),
    )
    if found is None:
        return None
    decision = reader.word(found.get("decision"), "decision", _ANSWERS)
    rule = reader.text(found.get("rule"), "rule")
    would_be = reader.word(found.get("would_be"), "decision", _ANSWERS)
    kind = reader.word(
        found.get("kind"), "kind of denial", ("forbidden", "fix_input", "needs_approval", "wait")
    )
    error = reader.text(found.get("error"), "error")
    fallback = reader.text(found.get("fallback"), "fallback")
    matched = _list(reader, found.get("matched"), "matched")
    redact = _list(reader, found.get("redact"), "redact")
    if decision is None:
        return None
    return Expectation(
        Effect(decision), "" if rule == "default" else rule, matched, redact,
        Effect(would_be) if would_be else None, DenialKind(kind) if kind else None, error,
        "" if fallback == "none" else fallback,
    )  # fmt: skip


def _list(reader: Reader, node: Node | None, what: str) -> tuple[str, ...] | None:
    """Read a list that may be empty: nothing is expected then."""
    if isinstance(node, Items) and not node.items:
        return ()
    return reader.texts(node, what) if node is not None else None


def _text(node: Node) -> str:
    """The text of a name that was already found right."""
    assert isinstance(node, Scalar)
    return node.text
