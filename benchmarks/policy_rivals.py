"""
One policy in the languages of several engines, and one way to ask each of them.

Every engine gets the same eight prohibitions and the same facts, allows what no
prohibition speaks of, and is asked in the most careful way that its Python
package offers: what raises denies, what has no answer denies. What is not
installed is left out and named. `requirements/bench-policy.txt` lists all.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agentguard.version import __version__

Ask = Callable[[Mapping[str, Any]], Callable[[], bool]]
"""Takes the facts of a call and prepares what can be prepared; what it gives says whether the call may run.
Both may raise, which denies."""

NOBODY: dict[str, Any] = {
    "tool": "lookup", "effect": "read", "env": "dev", "usd_today": 3, "drift": "stable", "repeats": 0,
    "roles": ["finance"], "amount": 20, "to_domain": "corp.example",
}  # fmt: skip
"""Facts of a call that no prohibition speaks of."""

PAY = {"tool": "wire_transfer", "effect": "write"}
MAIL = {"tool": "send_email", "effect": "write"}
CALLS: dict[str, tuple[dict[str, Any], bool]] = {
    "lookup": ({}, True),
    "small payment": (PAY, True),
    "payment at the cap": ({**PAY, "amount": 500}, True),
    "shell in dev": ({"tool": "shell", "effect": "write"}, True),
    "mail inside": (MAIL, True),
    "read while drifting": ({"drift": "drift"}, True),
    "payment above the cap": ({**PAY, "amount": 900}, False),
    "payment of less than nothing": ({**PAY, "amount": -5}, False),
    "the day's money is spent": ({"usd_today": 51}, False),
    "shell in production": ({"tool": "shell", "effect": "write", "env": "prod"}, False),
    "write while drifting": ({**MAIL, "drift": "drift"}, False),
    "the same again and again": ({"repeats": 3}, False),
    "payment without the role": ({**PAY, "roles": ["support"]}, False),
    "mail outside": ({**MAIL, "to_domain": "evil.example"}, False),
}
"""Facts that differ from `NOBODY`'s, and whether the call may run."""

AGENTGUARD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: { name: payments }
defaults: { unmatched: allow, mode: enforce, timezone: UTC }
rules:
  - id: R1
    title: cap
    at: tool.before
    when: tool.name == 'wire_transfer' && args.amount > 500
    then: deny
  - id: R2
    title: nothing
    at: tool.before
    when: tool.name == 'wire_transfer' && args.amount <= 0
    then: deny
  - id: R3
    title: day
    at: tool.before
    when: cost.usd_today > 50
    then: deny
  - id: R4
    title: shell
    at: tool.before
    when: tool.name == 'shell' && env.name == 'prod'
    then: deny
  - id: R5
    title: drift
    at: tool.before
    when: tool.effect != 'read' && drift.status == 'drift'
    then: deny
  - id: R6
    title: loop
    at: tool.before
    when: run.repeats >= 3
    then: deny
  - id: R7
    title: role
    at: tool.before
    when: tool.name == 'wire_transfer' && !('finance' in principal.roles)
    then: deny
  - id: R8
    title: mail
    at: tool.before
    when: tool.name == 'send_email' && !(args.to_domain in ['corp.example', 'corp.test'])
    then: deny
"""

REGO = """\
package guard
import rego.v1

default allow := false

allow if count(deny) == 0

deny contains "R1" if {
    input.tool == "wire_transfer"
    input.amount > 500
}
deny contains "R2" if {
    input.tool == "wire_transfer"
    input.amount <= 0
}
deny contains "R3" if input.usd_today > 50
deny contains "R4" if {
    input.tool == "shell"
    input.env == "prod"
}
deny contains "R5" if {
    input.effect != "read"
    input.drift == "drift"
}
deny contains "R6" if input.repeats >= 3
deny contains "R7" if {
    input.tool == "wire_transfer"
    not "finance" in input.roles
}
deny contains "R8" if {
    input.tool == "send_email"
    not input.to_domain in ["corp.example", "corp.test"]
}
"""

MANIFEST = """\
agent_control_specification_version: 0.4.0-alpha.1
policies:
  guard:
    type: rego
    query: data.guard.verdict
intervention_points:
  pre_tool_call:
    policy_target: $.tool_call.args
    tool_name_from: $.tool_call.name
    policy:
      id: guard
tools:
  lookup: { type: Tool, id: lookup }
  wire_transfer: { type: Tool, id: wire_transfer }
  send_email: { type: Tool, id: send_email }
  shell: { type: Tool, id: shell }
"""


def of_acs(rego: str) -> str:
    """The manifest, and a module of Rego that answers with a verdict and finds its facts in a context."""
    module = rego.replace("default allow := false", 'default verdict := {"decision": "deny"}')
    module = module.replace("allow if count", 'verdict := {"decision": "allow"} if count')
    module = re.sub(r"input\.tool\b", "input.snapshot.tool_call.name", module)
    module = re.sub(r"input\.(amount|to_domain)\b", r"input.policy_target.value.\1", module)
    module = re.sub(
        r"input\.(usd_today|env|effect|drift|repeats|roles)\b", r"input.snapshot.facts.\1", module
    )
    return f"{MANIFEST}--- rego\n{module}"


ACS = of_acs(REGO)

CEDAR = """\
permit(principal, action, resource);
forbid(principal, action == Action::"wire_transfer", resource) when { context.amount > 500 };
forbid(principal, action == Action::"wire_transfer", resource) when { context.amount <= 0 };
forbid(principal, action, resource) when { context.usd_today > 50 };
forbid(principal, action == Action::"shell", resource) when { context.env == "prod" };
forbid(principal, action, resource) when { context.effect != "read" && context.drift == "drift" };
forbid(principal, action, resource) when { context.repeats >= 3 };
forbid(principal, action == Action::"wire_transfer", resource) unless { context.roles.contains("finance") };
forbid(principal, action == Action::"send_email", resource)
unless { ["corp.example", "corp.test"].contains(context.to_domain) };
"""
CEDAR_SCHEMA = """\
entity Agent;
entity Tool;
action lookup, wire_transfer, send_email, shell appliesTo {
  principal: [Agent], resource: [Tool],
  context: { effect: String, env: String, usd_today: Long, drift: String, repeats: Long, roles: Set<String>,
             amount: Long, to_domain: String }
};
"""

CEL = """\
tool == "wire_transfer" && amount > 500
tool == "wire_transfer" && amount <= 0
usd_today > 50
tool == "shell" && env == "prod"
effect != "read" && drift == "drift"
repeats >= 3
tool == "wire_transfer" && !("finance" in roles)
tool == "send_email" && !(to_domain in ["corp.example", "corp.test"])
"""
"""One prohibition a line."""


def ours_facts(facts: Mapping[str, Any]) -> dict[str, object]:
    """The facts by the names of agentguard's catalogue; what is missing stays missing."""
    names = {"tool": "tool.name", "effect": "tool.effect", "env": "env.name", "usd_today": "cost.usd_today",
             "drift": "drift.status", "repeats": "run.repeats", "roles": "principal.roles"}  # fmt: skip
    found: dict[str, object] = {names[name]: value for name, value in facts.items() if name in names}
    found["args"] = {name: facts[name] for name in ("amount", "to_domain") if name in facts}
    found["agent.name"] = "clerk"
    return found


def agentguard(text: str) -> Ask:
    """Load with agentguard."""
    from agentguard.policy import Engine, load_texts

    engine = Engine(load_texts({"policy.yaml": text}))

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        given = ours_facts(facts)
        return lambda: engine.decide("tool.before", given).is_allowed

    return prepare


def regorus(text: str) -> Ask:
    """Load with regorus, an interpreter of Rego."""
    import regorus

    engine = regorus.Engine()
    engine.add_policy("guard.rego", text)
    # The first question finds what is wrong beyond the syntax.
    engine.set_input_json("{}")
    engine.eval_query("data.guard.allow")

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        given = json.dumps(facts)

        def ask() -> bool:
            engine.set_input_json(given)
            return engine.eval_rule("data.guard.allow") is True

        return ask

    return prepare


def acs(text: str) -> Ask:
    """Load with Microsoft's Agent Control Specification: a manifest and its Rego module."""
    from agent_control_spec import ActivatedPolicy
    from agent_hooks import AgentContextBuilder

    manifest, _, rego = text.partition("--- rego\n")
    policy = ActivatedPolicy.from_memory(manifest, {"guard": {"modules": {"guard.rego": rego}}})
    builder = AgentContextBuilder(agent_id="clerk", framework="none", session_id="s")

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        args = {name: facts[name] for name in ("amount", "to_domain") if name in facts}
        context: Any = builder.pre_tool_call(call_id="1", name=facts["tool"], args=args)
        context["facts"] = {name: value for name, value in facts.items() if name not in args}
        return lambda: str(policy.evaluate("pre_tool_call", context).to_wire()["decision"]) == "allow"

    return prepare


def _cedar(text: str, schema: str | None) -> Ask:
    import cedarpy

    if schema is not None:
        checked = cedarpy.validate_policies(text, schema)
        if not checked.validation_passed:
            raise ValueError(str(checked.errors))
    policies = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str("[]")
    typed = None if schema is None else cedarpy.Schema.from_str(schema)

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        context = {name: value for name, value in facts.items() if name != "tool"}
        request = {
            "principal": 'Agent::"clerk"', "action": f'Action::"{facts["tool"]}"', "resource": 'Tool::"t"',
            "context": context,
        }  # fmt: skip
        return lambda: bool(cedarpy.is_authorized(request, policies, entities, schema=typed).allowed)

    return prepare


def cedar(text: str) -> Ask:
    """Load with cedarpy, without a schema."""
    return _cedar(text, None)


def cedar_typed(text: str) -> Ask:
    """Load with cedarpy, policies and requests validated by a schema in which every attribute is required."""
    return _cedar(text, CEDAR_SCHEMA)


def cel_python(text: str) -> Ask:
    """Load with cel-python; an error in a condition denies."""
    import celpy

    environment = celpy.Environment()
    programs = [environment.program(environment.compile(line)) for line in _lines(text)]

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        activation = {name: celpy.json_to_cel(value) for name, value in facts.items()}
        return lambda: not any(bool(program.evaluate(activation)) for program in programs)

    return prepare


def cel_expr(text: str) -> Ask:
    """Load with Google's cel-expr-python and declared types; an error in a condition denies."""
    from cel_expr_python import cel

    simple = {str: cel.Type.STRING, int: cel.Type.INT}
    variables = {
        name: cel.Type.List(cel.Type.STRING) if isinstance(value, list) else simple[type(value)]
        for name, value in NOBODY.items()
    }
    environment = cel.NewEnv(variables=variables)
    programs = [environment.compile(line) for line in _lines(text)]

    def prepare(facts: Mapping[str, Any]) -> Callable[[], bool]:
        activation = environment.Activation(dict(facts))
        return lambda: all(program.eval(activation).value() is False for program in programs)

    return prepare


def _lines(text: str) -> list[str]:
    """The prohibitions of a file; a file without any is no policy."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("//")]
    if not lines:
        raise ValueError("no prohibition")
    return lines


def many(prohibitions: Sequence[tuple[str, str, int]]) -> dict[str, str]:
    """
    Write other prohibitions in every language.

    Args:
        prohibitions:
            Each a tool or an empty text for any, the name of a fact, and the number that it must not exceed.

    Returns:
        Text by distribution.
    """
    ours, rego, cedars, cels = (
        [AGENTGUARD.partition("  - id")[0]],
        [REGO.partition("deny contains")[0]],
        [],
        [],
    )
    cedars.append(CEDAR.partition("\n")[0] + "\n")
    for number, (tool, fact, limit) in enumerate(prohibitions):
        name = {"usd_today": "cost.usd_today", "repeats": "run.repeats", "amount": "args.amount"}[fact]
        when = f"tool.name == '{tool}' && {name} > {limit}" if tool else f"{name} > {limit}"
        ours.append(f'  - {{ id: R{number}, title: limit, at: tool.before, when: "{when}", then: deny }}\n')
        first = f'input.tool == "{tool}"; ' if tool else ""
        rego.append(f'deny contains "R{number}" if {{ {first}input.{fact} > {limit} }}\n')
        action = f'action == Action::"{tool}"' if tool else "action"
        cedars.append(f"forbid(principal, {action}, resource) when {{ context.{fact} > {limit} }};\n")
        cels.append(f'tool == "{tool}" && {fact} > {limit}\n' if tool else f"{fact} > {limit}\n")
    module = "".join(rego)
    return {
        "agentguard": "".join(ours), "gordon-to-regorus": module, "agent-control-spec": of_acs(module),
        "cedarpy": "".join(cedars), "cel-python": "".join(cels), "cel-expr-python": "".join(cels),
    }  # fmt: skip


class Rival(NamedTuple):
    """One engine."""

    name: str
    distribution: str
    text: str
    load: Callable[[str], Ask]
    quote: str
    """What stands around a text in its language."""

    @property
    def version(self) -> str:
        """Of the installed distribution; empty where it is not installed."""
        if self.distribution == "agentguard":
            return __version__
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return ""


RIVALS = (
    Rival("agentguard", "agentguard", AGENTGUARD, agentguard, "'"),
    Rival("Agent Control Specification (Microsoft), Rego", "agent-control-spec", ACS, acs, '"'),
    Rival("regorus, Rego", "gordon-to-regorus", REGO, regorus, '"'),
    Rival("cedarpy, no schema", "cedarpy", CEDAR, cedar, '"'),
    Rival("cedarpy, with a schema", "cedarpy", CEDAR, cedar_typed, '"'),
    Rival("cel-python", "cel-python", CEL, cel_python, '"'),
    Rival("cel-expr-python, declared types", "cel-expr-python", CEL, cel_expr, '"'),
)
