"""Read a document of kind Policy: its head, and its rules as drafts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from agentguard.policy._budget_reader import read_budgets
from agentguard.policy._model import BEFORE_POINTS, Place
from agentguard.policy._nodes import Fields, Node, Scalar
from agentguard.policy._problems import quoted
from agentguard.policy._reader import Reader, plain
from agentguard.policy._rule_reader import ID, ID_FORM, RuleDraft, read_rule
from agentguard.values import Mode, Point

RULES_MAX = 20_000
"""Rules of one document."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_FORM = "letters, digits, `.`, `_`, `-`; at most 100"
_VARIABLE = re.compile(r"[a-z][A-Za-z0-9_]{0,63}")
_GLOB = re.compile(r"[A-Za-z0-9_.:/@ *?-]{1,200}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}([-+.][A-Za-z0-9.-]+)?")
_UNMATCHED = ("allow", "deny")
_KINDS = {"agent": Point.AGENT_BEFORE, "model": Point.MODEL_BEFORE, "tool": Point.TOOL_BEFORE}

_LATER = {
    "invariants": "invariants are not proved by this version; write a deny rule and a test for it",
}


@dataclass(frozen=True, slots=True, eq=False)
class PolicyDraft:
    """A policy whose conditions are not compiled yet."""

    reader: Reader
    name: str
    name_node: Node
    version: str
    title: str
    owner: str
    reviewers: tuple[str, ...]
    recertify_by: date | None
    agents: tuple[str, ...]
    environments: tuple[str, ...]
    unmatched: Mapping[Point, bool]
    mode: Mode
    timezone: str
    variables: Mapping[str, object]
    rules: tuple[RuleDraft, ...]
    budgets: tuple[RuleDraft, ...]
    place: Place
    content: object


def read_metadata(
    reader: Reader, node: Node | None, *, optional: tuple[str, ...] = ()
) -> dict[str, Node] | None:
    """
    Read `metadata`, which names a document.

    Args:
        reader:
            Of its document.
        node:
            The mapping, or None where it is missing, which was noted already.
        optional:
            Keys beside `name`.

    Returns:
        The values by key; `name` is of the right form.
    """
    if node is None:
        return None
    found = reader.fields(node, "metadata", required=("name",), optional=optional)
    if found is None or reader.name(found.get("name"), "name", _NAME, NAME_FORM) is None:
        return None
    return found


def read_policy(reader: Reader, node: Node) -> PolicyDraft | None:
    """
    Read one policy.

    Args:
        reader:
            Of its document.
        node:
            The whole document.

    Returns:
        The policy, or None where it cannot be used; why not is noted.
    """
    found = reader.fields(
        node, "a Policy",
        required=("apiVersion", "kind", "metadata", "defaults", "rules"),
        optional=("scope", "vars", "budgets"), later=_LATER,
    )  # fmt: skip
    if found is None:
        return None
    head = read_metadata(
        reader, found.get("metadata"), optional=("version", "title", "owner", "reviewers", "recertify_by")
    )
    version = title = owner = ""
    reviewers: tuple[str, ...] = ()
    recertify_by = None
    if head:
        version = reader.name(head.get("version"), "version", _VERSION, "a version such as `1.0.0`") or ""
        title = reader.text(head.get("title"), "title", characters_max=200) or ""
        owner = reader.text(head.get("owner"), "owner", characters_max=200) or ""
        reviewers = reader.texts(head.get("reviewers"), "reviewers") or ()
        recertify_by = read_date(reader, head.get("recertify_by"), "recertify_by")
    agents, environments = _scope(reader, found.get("scope"))
    variables = _variables(reader, found.get("vars"))
    rules = _rules(reader, found.get("rules"))
    budgets = read_budgets(reader, found.get("budgets"), {rule.id for rule in rules})
    points = {point for rule in rules for point in rule.points}
    defaults = _defaults(reader, found.get("defaults"), points)
    # After a problem the load fails anyway; what is missing is made up, so that conditions are still checked.
    unmatched, mode, timezone = defaults or ({}, Mode.ENFORCE, "UTC")
    name_node = head["name"] if head else node
    return PolicyDraft(
        reader=reader, name=name_node.text if isinstance(name_node, Scalar) else "", name_node=name_node, version=version, title=title, owner=owner,
        reviewers=reviewers, recertify_by=recertify_by, agents=agents, environments=environments,
        unmatched=unmatched, mode=mode, timezone=timezone, variables=variables,
        rules=rules, budgets=budgets, place=reader.place(node), content=plain(node),
    )  # fmt: skip


def read_date(reader: Reader, node: Node | None, what: str) -> date | None:
    """Read a day such as 2027-02-28; YAML 1.2 leaves it as text."""
    text = reader.text(node, what)
    if text is None or node is None:
        return None
    try:
        if len(text) == len("2027-02-28"):
            return date.fromisoformat(text)
    except ValueError:
        pass
    reader.problem(node, f"{what} {quoted(text)}: expected a day such as `2027-02-28`", code="wrong-form")
    return None


def _scope(reader: Reader, node: Node | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read `scope`: globs of agents and environments."""
    if node is None:
        return (), ()
    found = reader.fields(node, "scope", required=(), optional=("agents", "environments"))
    if not found:
        if found is not None and isinstance(node, Fields) and not node.entries:
            reader.problem(
                node, "scope is empty", code="missing-field", hint="leave it out to cover every call"
            )
        return (), ()
    globs: list[tuple[str, ...]] = []
    for name in ("agents", "environments"):
        texts = reader.texts(found.get(name), name) or ()
        for text in texts:
            if not _GLOB.fullmatch(text):
                reader.problem(
                    found[name], f"{quoted(text)} in {name}: expected a name, with `*` and `?` as wildcards",
                    code="wrong-form",
                )  # fmt: skip
        globs.append(texts)
    return globs[0], globs[1]


def _variables(reader: Reader, node: Node | None) -> dict[str, object]:
    """Read `vars`: constants of the conditions."""
    if node is None:
        return {}
    if not isinstance(node, Fields):
        reader.problem(node, f"vars: got {node.says}, expected a mapping", code="wrong-type")
        return {}
    values: dict[str, object] = {}
    for name, (key, value) in node.entries.items():
        if not _VARIABLE.fullmatch(name):
            reader.problem(
                key,
                f"variable {quoted(name)}: expected a small letter, then letters, digits, `_`",
                code="wrong-form",
            )
            continue
        if isinstance(value, Scalar) and value.value is None:
            reader.problem(value, f"variable `{name}` has no value", code="wrong-type")
            continue
        values[name] = reader.data(value, f"variable `{name}`")
    return values


def _defaults(
    reader: Reader, node: Node | None, points: set[Point]
) -> tuple[Mapping[Point, bool], Mode, str] | None:
    """Read `defaults`; all of it must be written."""
    if node is None:
        return None
    found = reader.fields(node, "defaults", required=("unmatched", "mode", "timezone"))
    if found is None:
        return None
    unmatched = _unmatched(reader, found.get("unmatched"), points)
    mode = reader.word(found.get("mode"), "mode", tuple(Mode))
    timezone = reader.text(found.get("timezone"), "timezone", characters_max=100)
    if timezone is not None and not _is_zone(timezone):
        reader.problem(
            found["timezone"], f"unknown time zone {quoted(timezone)}", code="unknown-timezone",
            hint="a name of the IANA database, such as `UTC` or `Europe/Berlin`",
        )  # fmt: skip
        timezone = None
    if unmatched is None or mode is None or timezone is None:
        return None
    return unmatched, mode, timezone


def _unmatched(reader: Reader, node: Node | None, points: set[Point]) -> Mapping[Point, bool] | None:
    """
    Read what happens to a call that no gate matched.

    One word speaks of tool calls, and of model and agent calls where the
    document has a rule for them; a mapping says it for each kind.
    """
    if node is None:
        return None
    if isinstance(node, Fields):
        found = reader.fields(node, "unmatched", required=tuple(_KINDS))
        if found is None:
            return None
        words = {kind: reader.word(found.get(kind), f"unmatched.{kind}", _UNMATCHED) for kind in _KINDS}
        if any(word is None for word in words.values()):
            return None
        return {point: words[kind] == "allow" for kind, point in _KINDS.items()}
    word = reader.word(node, "value of unmatched", _UNMATCHED)
    if word is None:
        return None
    return {
        point: word == "allow" or not (point is Point.TOOL_BEFORE or point in points)
        for point in BEFORE_POINTS
    }


def _is_zone(name: str) -> bool:
    """Whether the IANA database has the zone."""
    if name == "UTC":
        return True
    # Late: it brings the table of `sysconfig`, half a megabyte.
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _rules(reader: Reader, node: Node | None) -> tuple[RuleDraft, ...]:
    """Read `rules`; ids are unique in the document."""
    items = reader.items(node, "rules")
    if items is None:
        return ()
    if len(items) > RULES_MAX:
        reader.problem(
            items[RULES_MAX], f"more than {RULES_MAX} rules", code="file-too-large", hint="split the file"
        )
        return ()
    rules: list[RuleDraft] = []
    seen: dict[str, int] = {}
    for item in items:
        entry = item.entries.get("id") if isinstance(item, Fields) else None
        if entry and isinstance(entry[1], Scalar) and ID.fullmatch(entry[1].text):
            rule_id = entry[1].text
            if rule_id in seen:
                reader.problem(
                    entry[1], f"rule id `{rule_id}` stands twice, first in line {seen[rule_id]}",
                    code="duplicate-rule", hint=f"an id is {ID_FORM}, and unique",
                )  # fmt: skip
            seen.setdefault(rule_id, entry[1].line)
        rule = read_rule(reader, item)
        if rule is not None:
            rules.append(rule)
    return tuple(rules)
