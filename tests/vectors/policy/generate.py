"""
Write the vectors of policy, or verify them: `python tests/vectors/policy/generate.py [--write]`.

A vector is language-neutral: documents as text, a point, facts, and what must
be decided; or one wrong document, and the place and code of its problem. Run
without `--write` it verifies that this implementation still gives them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine, load_texts

FOLDER = Path(__file__).resolve().parent

HEAD = "apiVersion: agentguard/v1\nkind: Policy\nmetadata: {{ name: {name} }}\n{scope}defaults: {{ unmatched: {unmatched}, mode: {mode}, timezone: UTC }}\nrules:\n"


def policy(
    *rules: str, name: str = "p", unmatched: str = "allow", mode: str = "enforce", scope: str = ""
) -> str:
    """One document; each rule is `ID | when | then`."""
    text = HEAD.format(name=name, unmatched=unmatched, mode=mode, scope=f"scope: {scope}\n" if scope else "")
    for rule in rules:
        rule_id, when, then, *more = (part.strip() for part in rule.split(" | "))
        text += f'  - id: {rule_id}\n    title: {rule_id}\n    at: tool.before\n    when: "{when}"\n    then: {then}\n'
        text += "".join(f"    {field}\n" for field in more)
    return text


ALLOW_A = "A | tool.name == 'a' | allow"
DENY_10 = "D | args.n > 10 | deny"
HOLD_5 = "H | args.n > 5 | { require_approval: { from: [ann], expires: 1h } }"

QUESTIONS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("deny beats approval and allow", [policy("A | true | allow", HOLD_5, DENY_10)], {"args": {"n": 11}}),
    ("approval beats allow", [policy("A | true | allow", HOLD_5, DENY_10)], {"args": {"n": 6}}),
    ("nothing matched, unmatched allow", [policy(DENY_10)], {"args": {"n": 1}}),
    ("nothing matched, unmatched deny", [policy(ALLOW_A, unmatched="deny")], {"tool.name": "b"}),
    ("warn does not permit", [policy("W | true | warn", unmatched="deny")], {}),
    ("redact does not permit", [policy("R | true | { redact: [card] }", unmatched="deny")], {}),
    ("approval may permit", [policy(HOLD_5, unmatched="deny")], {"args": {"n": 6}}),
    ("another document's allow does not permit",
     [policy(ALLOW_A, unmatched="deny"), policy("B | true | allow", name="q", unmatched="deny")], {"tool.name": "b"}),
    ("shadow denies nothing", [policy(DENY_10 + " | mode: shadow")], {"args": {"n": 11}}),
    ("warn mode denies nothing", [policy(DENY_10 + " | mode: warn")], {"args": {"n": 11}}),
    ("a shadow allow permits nothing", [policy(ALLOW_A + " | mode: shadow", unmatched="deny")], {"tool.name": "a"}),
    ("a missing argument denies", [policy(DENY_10)], {"args": {}}),
    ("a text for a number denies", [policy(DENY_10)], {"args": {"n": "11"}}),
    ("a missing fact denies, for an allow too", [policy("A | cost.usd_today < 5.0 | allow")], {}),
    ("false and an error is false", [policy("D | tool.name == 'b' && args.missing > 1 | deny")], {"tool.name": "a"}),
    ("an error in shadow is only noted", [policy("D | args.missing > 1 | deny | mode: shadow")], {}),
    ("redactions add up", [policy("R | true | { redact: [card] }", "S | true | { redact: [iban] }")], {}),
    ("outside every scope", [policy(DENY_10, scope="{ agents: [other] }")], {"args": {"n": 1}}),
    ("an unknown agent is in every scope", [policy(DENY_10, scope="{ agents: [other] }")],
     {"agent.name": "", "args": {"n": 11}}),
]  # fmt: skip

WRONG: list[tuple[str, str]] = [
    ("unknown field", policy(DENY_10).replace("title", "titel")),
    ("unknown effect", policy(DENY_10).replace("deny", "dney")),
    ("unknown fact", policy(DENY_10).replace("args.n", "cost.usd_tody")),
    ("wrong type", policy("D | run.repeats > 'a' | deny")),
    ("duplicate key", policy(DENY_10) + "    then: allow\n"),
    ("anchor", policy(DENY_10).replace("{ name", "&a { name")),
    ("tag", policy(DENY_10).replace("name: p", "name: !!str p")),
    ("tab", policy(DENY_10).replace("    title", "\ttitle")),
    ("missing default", policy(DENY_10).replace(", timezone: UTC", "")),
    ("effect without its terms", policy("D | true | fallback")),
    ("byte order mark", "\ufeff" + policy(DENY_10)),
    ("empty", ""),
]


def facts_of(given: dict[str, Any]) -> dict[str, Any]:
    """The facts of a question, with a tool, an agent and an environment."""
    return {"tool.name": "a", "agent.name": "x", "env.name": "prod", "args": {}, **given}


def answer(documents: list[str], facts: dict[str, Any]) -> dict[str, Any]:
    """What this implementation decides."""
    loaded = load_texts({f"{number}.yaml": text for number, text in enumerate(documents)})
    decision = Engine(loaded).decide("tool.before", facts)
    return {
        "decision": str(decision.effect),
        "rule": decision.rule_id,
        "matched": [rule.rule_id for rule in decision.matched],
        "errors": len(decision.errors),
        "redact": list(decision.redact),
        "would_be": str(decision.would_be) if decision.would_be else None,
    }


def refusal(text: str) -> list[dict[str, Any]]:
    """What this implementation says of a wrong document."""
    try:
        load_texts({"p.yaml": text})
    except PolicyDocumentError as error:
        return [{"line": p.line, "column": p.column, "code": p.code} for p in error.problems]
    return []


def vectors() -> dict[str, list[dict[str, Any]]]:
    """All vectors, by file."""
    return {
        "decisions.json": [
            {"name": name, "documents": documents, "point": "tool.before", "facts": facts_of(given),
             "expect": answer(documents, facts_of(given))}
            for name, documents, given in QUESTIONS
        ],
        "refusals.json": [{"name": name, "document": text, "expect": refusal(text)} for name, text in WRONG],
    }  # fmt: skip


def main() -> int:
    """Write, or compare with what is written."""
    status = 0
    for name, made in vectors().items():
        path = FOLDER / name
        text = json.dumps(made, indent=1, ensure_ascii=True) + "\n"
        if "--write" in sys.argv[1:]:
            path.write_text(text, encoding="ascii")
        elif path.read_text(encoding="ascii") != text:
            print(f"{path}: differs")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
