"""A decorated tool and its ToolSchema: where they disagree the tool is refused."""

from __future__ import annotations

import pytest

import agentguard
from agentguard.runtime import decorated_tools
from tests.unit.runtime.conftest import Start, decisions

RULE = """
- id: REF-001
  title: Refunds up to 100
  at: tool.before
  when: tool.name == 'pay' && args.amount_usd > 100.0
  then: deny
"""

SCHEMA = """---
apiVersion: agentguard/v1
kind: ToolSchema
metadata: { name: tools }
tools:
  pay: { args: { order: string, amount_usd: double } }
"""


@agentguard.tool(name="pay")
def pay(order: str, amount_usd: float) -> str:
    """Pay as declared."""
    return f"{order} {amount_usd}"


@agentguard.tool(name="pay")
def pay_more(order: str, amount_usd: float, tip_usd: float = 0.0) -> str:
    """Pay with an argument that no rule was checked for."""
    return f"{order} {amount_usd} {tip_usd}"


class Desk:
    """Has a tool as a method."""

    @agentguard.tool(name="pay")
    def pay(self, order: str, amount_usd: int) -> str:
        """Pay as declared: whole numbers stand for doubles."""
        return f"{order} {amount_usd}"


def test_a_tool_as_declared_runs(start: Start) -> None:
    """The function and the method, whose receiver is no argument."""
    start(RULE, more=SCHEMA)
    assert pay("a", 5.0) == "a 5.0"
    assert Desk().pay("a", 5) == "a 5"


def test_a_tool_that_disagrees_is_refused(start: Start) -> None:
    """Denied, with the argument in the reason; the other one of the same name still runs."""
    runtime = start(RULE, more=SCHEMA)
    for _ in range(2):
        with pytest.raises(agentguard.CallDenied) as caught:
            pay_more("a", 5.0)
        assert "tool pay: the function takes `tip_usd`" in caught.value.decision.reason
    assert pay("a", 5.0) == "a 5.0"
    assert [stored.record.decision.is_allowed for stored in decisions(runtime)][:2] == [False, False]


def test_without_a_schema_nothing_is_compared(start: Start) -> None:
    """Arguments of tools that are not declared are checked when a rule reads them."""
    start(RULE)
    assert pay_more("a", 5.0) == "a 5.0 0.0"


def test_where_nothing_is_enforced_nothing_is_refused(start: Start) -> None:
    """In shadow a tool runs as it is."""
    start(RULE, more=SCHEMA)
    agentguard.shutdown(5.0)
    from agentguard.policy import load_bundle
    from agentguard.runtime.active import ACTIVE
    from agentguard.runtime.declared import DeclaredTools
    from agentguard.runtime.spec import make_spec

    assert ACTIVE.runtime is not None
    folder = ACTIVE.runtime.config.policies[0]
    spec = make_spec(pay_more, kind="tool", name="pay")
    assert "tip_usd" in DeclaredTools(load_bundle([folder])).refusal(spec)
    text = (folder / "test.yaml").read_text()
    (folder / "test.yaml").write_text(text.replace("mode: enforce", "mode: shadow"))
    assert DeclaredTools(load_bundle([folder])).refusal(spec) == ""


def test_the_tools_of_a_module_are_listed() -> None:
    """With the arguments of each, in order."""
    found = [dict(tool.arguments.types) for tool in decorated_tools(__name__)]
    assert {"order": "string", "amount_usd": "double"} in found
    assert {"order": "string", "amount_usd": "int"} in found
    assert len(found) == 3
