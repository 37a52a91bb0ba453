"""The past once more: the same policies answer as they did, and others are told apart from what nobody knows."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

import agentguard
from agentguard.policy import Bundle
from agentguard.review import Replay, ReplayReport, read_past
from agentguard.values import Decision, DecisionRecord, Effect, SpanRecord
from tests.support.policies import bundle, document
from tests.unit.runtime.conftest import Start, decisions, spans, start  # noqa: F401 - a fixture

DAY_NS = 86_400 * 10**9
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
RULES = """
- {id: CALLS, title: Long runs, at: tool.before, when: run.calls > 40, then: deny}
- {id: TOOLS, title: Many of one, at: tool.before, when: "tool.name == 'search' && tool.calls_5m > 60", then: deny}
- {id: ERRORS, title: Failing run, at: tool.before, when: run.errors > 6, then: deny}
- {id: AGAIN, title: Loops, at: tool.before, when: run.repeats >= 4, then: deny}
- {id: SUM, title: Much in a day, at: tool.before, when: "tool.name == 'pay' && history.sum('amount', '1d', principal.id) + args.amount > 900.0", then: deny}
- {id: SEQ, title: Never after reading, at: tool.before, when: "tool.name == 'send' && history.called('read', '10m')", then: deny}
- {id: COST, title: Dear day, at: model.before, when: cost.usd_today > 0.9, then: deny}
- {id: RUNCOST, title: Dear run, at: model.before, when: run.tokens > 90000, then: deny}
- {id: RATE, title: Few sends, at: tool.before, when: tool.name == 'send', then: {throttle: {limit: 12, window: 1h, key: [tool.name]}}}
- {id: REST, title: Failing tools rest, at: tool.before, when: "tool.error_rate_5m > 0.4 && tool.calls_5m >= 8", then: {circuit_break: {key: tool.name, open_for: 1h}}}
"""
BUDGETS = """
budgets:
  - {id: TOKENS, title: Tokens of a day, key: [agent.name], measure: tokens, limit: 400000, window: 1d, reserve: estimate, then: deny}
  - {id: PAYS, title: Payments of a day, key: [tool.name], measure: calls, limit: 25, window: 1d, reserve: estimate, then: deny, when: "tool.name == 'pay'"}
"""


def live(seed: int) -> None:
    """Let agents do things at random, some of which fail, and some of which are denied."""
    chance = random.Random(seed)

    @agentguard.tool(effect="write")
    def pay(amount: float) -> str:
        if chance.random() < 0.1:
            raise ValueError("no")
        return "paid"

    @agentguard.tool(effect="read")
    def search(query: str) -> str:
        if chance.random() < 0.5:
            raise ValueError("no")
        return query

    @agentguard.tool(effect="read")
    def read() -> str:
        return "read"

    @agentguard.tool(effect="write")
    def send() -> str:
        return "sent"

    @agentguard.model(provider="openai", name="small")
    def ask() -> str:
        agentguard.record_usage(
            input_tokens=chance.randrange(9_000), output_tokens=10, cost_usd=chance.random() / 20
        )
        return "said"

    @agentguard.agent(name="clerk")
    def work() -> None:
        for _ in range(chance.randrange(3, 25)):
            try:
                match chance.randrange(6):
                    case 0:
                        pay(chance.choice([10.0, 50.0, 120.0]))
                    case 1:
                        search(chance.choice("ab"))
                    case 2:
                        read()
                    case 3:
                        send()
                    case _:
                        ask()
            except (ValueError, agentguard.CallDenied):
                continue

    for _ in range(10):
        with agentguard.run(principal=chance.choice(["ann", "bob"])):
            for _ in range(chance.randrange(1, 4)):
                work()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_policies_answer_as_they_did(start: Start, seed: int) -> None:  # noqa: F811
    """Sums, windows, budgets, throttles, breakers and histories come out as they were, every one of them."""
    runtime = start(RULES, more=BUDGETS, capture="full")
    live(seed)
    records = [entry.record for entry in decisions(runtime)]
    asked = [record for record in records if record.point.endswith(".before")]
    denied = Counter(
        f"{one.decision.policy}/{one.decision.rule_id}" for one in asked if not one.decision.is_allowed
    )
    assert runtime.bundle is not None
    report = Replay(
        runtime.bundle,
        read_past(records, spans(runtime)),
        fixed={"env.name": runtime.config.environment},
        unpriced_usd_per_million=runtime.config.unpriced_usd_per_million,
    ).play()
    assert report.calls == len(asked)
    assert (report.newly_blocked, report.newly_allowed, report.unknown, report.counterfactual) == (
        0,
        0,
        0,
        0,
    ), str(report)
    assert report.by_rule == denied
    assert len(denied) >= 4


# A past made by hand


def past(*lines: str) -> tuple[list[DecisionRecord], list[SpanRecord]]:
    """
    Make a past of lines such as `12.5 run-a tool:pay allow ok 300`.

    Time in seconds from noon on, run, what is called, what was answered (`allow`, `deny` or `approved`), how it
    ended, and tokens.
    """
    records, kept = [], []
    for number, line in enumerate(lines):
        at, run, what, answer, outcome, tokens, *parent = line.split()
        kind, name = what.split(":")
        time_ns = NOON_NS + int(float(at) * 1e9)
        call_id = f"{number:016x}"
        record = DecisionRecord(
            f"d{number}", time_ns, f"{kind}.before",
            Decision(Effect.DENY if answer == "deny" else Effect.ALLOW, rule_id="ASK" if answer == "approved" else "", policy="p"),
            "b", call_id=call_id, run_id=run, agent="a", principal="ann",
            tool=name if kind == "tool" else "", model=name if kind == "model" else "",
            approval_id="x" if answer == "approved" else "",
        )  # fmt: skip
        records.append(record)
        attributes: dict[str, Any] = (
            {"agentguard.run.id": run, "gen_ai.tool.name": name} if kind == "tool" else {}
        )
        if int(tokens):
            attributes |= {"gen_ai.usage.input_tokens": int(tokens), "agentguard.cost.usd": int(tokens) / 1e6}
        kept.append(
            SpanRecord(
                "t", call_id, f"{int(parent[0]):016x}" if parent else "", name, kind, "internal", time_ns, 10**9, "ok", "", attributes
            )
        )  # fmt: skip
        if answer != "deny":
            records.append(
                record._replace(
                    decision_id=f"o{number}", time_unix_ns=time_ns + 10**9, point="outcome", outcome=outcome
                )
            )
    return records, kept


def ask(candidate: Bundle, *lines: str, **more: Any) -> ReplayReport:
    """Replay a past made by hand."""
    return Replay(candidate, read_past(*past(*lines)), **more).play()


def one(*rules: str, more: str = "") -> Bundle:
    """A bundle of these rules."""
    return bundle(document(*rules) + more)


def test_a_throttle_goes_on_in_the_time_of_the_events() -> None:
    """What is let through depends on when the calls were, not on when they are replayed."""
    candidate = one("T | tool.before | true | { throttle: { limit: 2, window: 10s, key: [tool.name] } }")
    report = ask(candidate, *(f"{at} run{at} tool:x allow ok 0" for at in (0, 1, 2, 3, 20, 21, 22)))
    assert (report.newly_blocked, report.by_rule) == (3, {"p/T": 3})
    assert [example.number for example in report.examples] == [2, 3, 6]


def test_a_breaker_rests_after_the_failures_of_then() -> None:
    """The outcomes of the log open the breaker; a call that would have been stopped has no outcome."""
    candidate = one(
        "B | tool.before | tool.error_rate_5m > 0.5 && tool.calls_5m >= 3 | { circuit_break: { key: tool.name, open_for: 60s } }"
    )
    lines = [f"{at} r{at} tool:x allow {'error' if at < 8 else 'ok'} 0" for at in (0, 2, 4, 6, 30, 500)]
    report = ask(candidate, *lines)
    assert [example.number for example in report.examples] == [3, 4]


def test_a_budget_counts_what_the_candidate_lets_run() -> None:
    """A call that would not have run uses nothing: the next run fits again."""
    budget = "budgets:\n  - {id: B, title: B, key: [agent.name], measure: tokens, limit: 1000, window: 1d, reserve: none, then: deny}\n"
    candidate = one("D | model.before | model.name == 'dear' | deny", more=budget)
    report = ask(
        candidate, "0 r1 model:cheap allow ok 600", "2 r2 model:dear allow ok 600", "4 r3 model:cheap allow ok 500",
        "6 r4 model:cheap allow ok 1",
    )  # fmt: skip
    assert report.newly_by_rule == {"p/D": 1, "p/B": 1}
    assert [example.number for example in report.examples] == [1, 3]


def test_after_a_divergence_a_run_is_counterfactual() -> None:
    """Nobody knows what the agent would have done next; calls inside one that did not run are not asked."""
    candidate = one("D | tool.before | tool.name == 'x' | deny")
    report = ask(
        candidate, "0 r1 tool:y allow ok 0", "1 r1 tool:x allow ok 0", "1.5 r1 tool:z allow ok 0 1", "3 r1 tool:x allow ok 0",
        "4 r2 tool:x allow ok 0",
    )  # fmt: skip
    assert (report.calls, report.newly_blocked, report.counterfactual) == (4, 2, 2)
    assert (report.runs, report.runs_diverged) == (2, 2)
    assert "2 are counterfactual, in 2 of 2 runs that diverge" in str(report)


def test_an_approval_of_then_counts_under_its_rule_alone() -> None:
    """People answered one question; another rule would have put another one."""
    same = one("ASK | tool.before | true | { require_approval: { from: [a], expires: 1h } }")
    other = one("NEW | tool.before | true | { require_approval: { from: [a], expires: 1h } }")
    line = "0 r1 tool:x approved ok 0"
    assert (ask(same, line).held, ask(same, line).newly_blocked) == (0, 0)
    assert (ask(other, line).held, ask(other, line).newly_blocked) == (1, 1)


def test_what_nobody_kept_is_unknown() -> None:
    """Arguments that were not captured, sums of them, drift, and what a newly allowed model call would have used."""
    for rule in (
        "R | tool.before | args.n > 3 | deny",
        "R | tool.before | history.sum('n', '1d', principal.id) > 3.0 | deny",
        "R | tool.before | drift.kind == 'drift' | deny",
        "R | tool.before | run.repeats > 3 | deny",
    ):
        report = ask(one(rule), "0 r1 tool:x allow ok 0", "1 r1 tool:x allow ok 0")
        assert report.unknown >= 1, rule
        assert (report.newly_blocked, report.newly_allowed) == (0, 0), rule
    spend = one("S | model.before | cost.usd_today > 5.0 | deny")
    report = ask(
        spend, "0 r1 model:m allow ok 100", "2 r2 model:m deny denied 0", "4 r3 model:m allow ok 100"
    )
    assert (report.newly_allowed, report.unknown) == (1, 1)
    assert report.missing == {"cost.usd_today": 1}


def test_what_was_before_fills_the_windows_and_is_not_counted() -> None:
    """The first judged call finds the sums of the calls before it."""
    candidate = one("C | tool.before | tool.calls_5m >= 2 | deny")
    lines = [f"{at} r{at} tool:x allow ok 0" for at in (0, 2, 4)]
    report = ask(candidate, *lines, judged_from_ns=NOON_NS + 3 * 10**9)
    assert (report.calls, report.newly_blocked) == (1, 1)


def test_orders_to_stop_are_not_the_policies() -> None:
    """A call that a person has stopped stays stopped."""
    records, kept = past("0 r1 tool:x deny denied 0")
    killed = records[0]._replace(decision=Decision(Effect.KILL))
    report = Replay(one("A | tool.before | tool.name == 'y' | deny"), read_past([killed], kept)).play()
    assert (report.calls, report.newly_allowed) == (0, 0)
