"""The loaded set of documents, and the digest that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from agentguard.policy._model import (
    API_VERSION,
    Approver,
    Approvers,
    Policy,
    PolicyException,
    PolicyTest,
    Rule,
    ToolSchema,
)
from agentguard.values import FACT_SCHEMA_VERSION, FactSpec


@dataclass(frozen=True, eq=False)
class Bundle:
    """
    All documents of one load, checked; what the engine decides by.

    A bundle never changes. Two loads of the same content have the same
    `revision`, whatever the files are called, however they are laid out, and
    whatever tests lie beside them.
    """

    policies: tuple[Policy, ...]
    """Documents of kind Policy, in the order of their files."""
    approver_documents: tuple[Approvers, ...]
    schemas: tuple[ToolSchema, ...]
    tests: tuple[PolicyTest, ...]
    facts: Mapping[str, FactSpec]
    """The catalogue, and the facts that the application registered."""
    paths: tuple[str, ...]
    """Files that were read."""
    exceptions: tuple[PolicyException, ...] = ()
    """Documents of kind Exception, expired ones included; `lift` says which count."""
    serials: Mapping[str, int] = field(default_factory=dict)
    """Serial of the lock by real path of its folder, where signatures were checked."""

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all documents, in order."""
        return tuple(rule for policy in self.policies for rule in policy.rules)

    @cached_property
    def budgets(self) -> tuple[Rule, ...]:
        """The budgets of all documents, in order."""
        return tuple(budget for policy in self.policies for budget in policy.budgets)

    @cached_property
    def approvers(self) -> Mapping[str, tuple[Approver, ...]]:
        """People by `group:NAME` and by id, as `require_approval.from` names them."""
        found: dict[str, tuple[Approver, ...]] = {}
        for document in self.approver_documents:
            for group, people in document.groups.items():
                found[f"group:{group}"] = people
                for person in people:
                    found.setdefault(person.id, (person,))
        return found

    @cached_property
    def tool_schemas(self) -> Mapping[str, Mapping[str, str]]:
        """Types of arguments by tool."""
        return {tool: args for schema in self.schemas for tool, args in schema.tools.items()}

    @cached_property
    def revision(self) -> str:
        """SHA-256 over the canonical content, in hexadecimal; tests are no part of it."""
        content = {
            "api": API_VERSION,
            "facts": FACT_SCHEMA_VERSION,
            "registered": sorted([spec.name, spec.type] for spec in self.facts.values()),
            "documents": sorted(
                json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
                for content in self._contents()
            ),
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def _contents(self) -> list[object]:
        """All documents but tests, as plain data."""
        return [
            *(policy.content for policy in self.policies),
            *(document.content for document in self.approver_documents),
            *(schema.content for schema in self.schemas),
            *(exception.content for exception in self.exceptions),
        ]

    def with_tests(self, tests: tuple[PolicyTest, ...]) -> Bundle:
        """Take other tests, and the same documents."""
        return replace(self, tests=tests)

    def only(self, names: Collection[str]) -> Bundle:
        """
        Take some policies, as if the others had not been there.

        Args:
            names:
                `metadata.name` of the documents; empty: all.

        Returns:
            A bundle of its own revision, with the same approvers and schemas, and without tests.

        Raises:
            KeyError: The bundle has no such document.
        """
        if not names:
            return self
        by_name = {policy.name: policy for policy in self.policies}
        return Bundle(
            policies=tuple(by_name[name] for name in names),
            approver_documents=self.approver_documents,
            schemas=self.schemas,
            tests=(),
            facts=self.facts,
            paths=self.paths,
            exceptions=tuple(one for one in self.exceptions if one.policy in names),
        )
