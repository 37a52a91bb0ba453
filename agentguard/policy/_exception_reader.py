"""Read documents of the kind Exception, and check them against the rules they lift."""

from __future__ import annotations

from collections.abc import Sequence

from agentguard.policy._exceptions import LIFTED
from agentguard.policy._model import Approvers, Policy, PolicyException
from agentguard.policy._nodes import Node, Scalar
from agentguard.policy._policy_reader import read_date, read_metadata
from agentguard.policy._problems import did_you_mean, quoted
from agentguard.policy._reader import Reader, plain

_REQUIRED = ("policy", "rule", "owner", "ticket", "reason", "approver", "expires")
_SCOPE = ("agents", "environments", "tools", "principals")


def read_exception(reader: Reader, node: Node) -> PolicyException | None:
    """Read one exception."""
    found = reader.fields(
        node, "an Exception", required=("apiVersion", "kind", "metadata", *_REQUIRED), optional=("scope",)
    )
    if found is None:
        return None
    head = read_metadata(reader, found.get("metadata"))
    texts = {name: reader.text(found.get(name), name, characters_max=400) for name in _REQUIRED[:-1]}
    expires = read_date(reader, found.get("expires"), "expires")
    scope: dict[str, tuple[str, ...]] = {}
    if "scope" in found:
        fields = reader.fields(found["scope"], "scope", required=(), optional=_SCOPE) or {}
        scope = {name: reader.texts(value, f"scope.{name}") or () for name, value in fields.items()}
        if not scope:
            reader.problem(
                found["scope"],
                "scope names nothing",
                code="empty-list",
                hint="leave it out, or name something",
            )
    owner, approver = texts["owner"], texts["approver"]
    if owner and approver and owner.strip().casefold() == approver.strip().casefold():
        reader.problem(
            found["approver"], f"the approver is the owner {quoted(owner)}: nobody approves their own exception",
            code="self-approved", hint="another person approves it",
        )  # fmt: skip
    if head is None or expires is None or None in texts.values():
        return None
    name_node = head["name"]
    assert isinstance(name_node, Scalar)
    return PolicyException(
        name=name_node.text, policy=texts["policy"] or "", rule_id=texts["rule"] or "", owner=owner or "",
        ticket=texts["ticket"] or "", reason=texts["reason"] or "", approver=approver or "", expires=expires,
        agents=scope.get("agents", ()), environments=scope.get("environments", ()), tools=scope.get("tools", ()),
        principals=scope.get("principals", ()), place=reader.place(node), content=plain(node),
    )  # fmt: skip


def exceptions_agree(
    read: Sequence[tuple[Reader, PolicyException]], policies: Sequence[Policy], approvers: Sequence[Approvers]
) -> None:
    """
    Check that every exception lifts a rule that is there, by a person who may approve.

    Args:
        read:
            Exceptions and what they were read by.
        policies:
            The loaded policies.
        approvers:
            Documents of people; where there is one, approvers of exceptions are among them.
    """
    rules = {(policy.name, rule.id): rule for policy in policies for rule in (*policy.rules, *policy.budgets)}
    people = {person.id for document in approvers for group in document.groups.values() for person in group}
    names: set[str] = set()
    for reader, exception in read:
        place = Scalar("", exception.place.line, exception.place.column)
        if exception.name in names:
            reader.problem(place, f"exception `{exception.name}` stands twice", code="duplicate-exception")
        names.add(exception.name)
        rule = rules.get((exception.policy, exception.rule_id))
        if rule is None:
            known = [f"{policy}/{rule_id}" for policy, rule_id in rules]
            wanted = f"{exception.policy}/{exception.rule_id}"
            reader.problem(
                place, f"exception `{exception.name}` lifts rule {quoted(wanted)}, which is not there",
                code="unknown-rule", hint=did_you_mean(wanted, known),
            )  # fmt: skip
        elif rule.effect not in LIFTED or rule.action.is_budget:
            reader.problem(
                place, f"exception `{exception.name}` lifts {rule.id}, whose effect is {rule.effect}",
                code="not-supported", hint="exceptions lift `deny` and `require_approval`",
            )  # fmt: skip
        if people and exception.approver not in people:
            reader.problem(
                place, f"exception `{exception.name}`: approver {quoted(exception.approver)} is in no Approvers document",
                code="unknown-approver", hint=did_you_mean(exception.approver, people),
            )  # fmt: skip
