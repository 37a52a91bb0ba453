"""
Write the page of starter policies: their rules, and the controls that these support.

Run `python docs/generate_starters.py`; with `--check` nothing is written, and
the exit status says whether the page differs from the policies.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agentguard.policy import CONTROLS, Rule, load_bundle

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "reference" / "starter-policies.md"
FRAMEWORKS = {
    "OWASP-ASI": "OWASP Top 10 for Agentic Applications 2026",
    "OWASP-LLM": "OWASP Top 10 for LLM Applications 2025",
    "NIST-AI-RMF:": "NIST AI Risk Management Framework 1.0",
    "ISO-42001:": "ISO/IEC 42001:2023, Annex A",
    "EU-AI-Act:": "Regulation (EU) 2024/1689 (EU AI Act)",
}
HEAD = """\
# Starter policies

`agentguard init` copies the policies of the first table into a new project; `agentguard policy init --template NAME`
copies any of them into a folder, with its cases. Change the names and limits under `vars` to your own, then run

    agentguard policy check --strict policies
    agentguard policy test --coverage --mutate policies

Every rule has cases, and every change of an operator, a limit, a text or a term is noticed by one of them.

{first}

Templates:

{templates}

## What the rules support

A rule *supports* a control: it is one measure that somebody who works with that framework can point to, together with the
decisions that it left in the log. No rule, and no set of rules, fulfils a framework. Titles are those of the
frameworks; `policy check` names a control that its framework does not have.
"""


def table(rules: dict[str, tuple[str, list[Rule]]]) -> str:
    """The policies of one table: name, title, rules."""
    lines = ["| policy | what it is for | rules |", "|---|---|---|"]
    for name, (title, found) in rules.items():
        lines.append(f"| `{name}` | {title} | {', '.join(rule.id for rule in found)} |")
    return "\n".join(lines)


def key(control: str) -> list[tuple[int, str]]:
    """What sorts A.10.3 after A.9.2."""
    parts = control.replace("-", ".").replace(":", ".").split(".")
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def page() -> str:
    """All of the page."""
    folder = ROOT / "policies"
    first: dict[str, tuple[str, list[Rule]]] = {}
    templates: dict[str, tuple[str, list[Rule]]] = {}
    supported: dict[str, list[str]] = {}
    for policy in load_bundle([folder]).policies:
        rules = [*policy.rules, *policy.budgets]
        shelf = templates if "templates" in Path(policy.place.path).parts else first
        shelf[policy.name] = (policy.title, rules)
        for rule in rules:
            for control in rule.controls:
                supported.setdefault(control, []).append(rule.id)
    text = HEAD.format(first=table(first), templates=table(templates))
    for prefix, title in FRAMEWORKS.items():
        text += f"\n### {title}\n\n| control | title | rules |\n|---|---|---|\n"
        for control in sorted((name for name in supported if name.startswith(prefix)), key=key):
            text += f"| `{control}` | {CONTROLS[control]} | {', '.join(supported.pop(control))} |\n"
    if supported:
        raise SystemExit(f"controls of no framework: {', '.join(supported)}")
    return text


def main() -> int:
    """Write the page, or compare."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") == text:
            return 0
        sys.stderr.write(f"differs from the policies: {PAGE.name}\n")
        return 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
