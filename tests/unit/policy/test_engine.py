"""The engine: gates, defaults, modes, documents, errors, and what a decision says."""

from __future__ import annotations

import pytest

from agentguard.errors import PolicyEvaluationError
from agentguard.policy import Engine, load_texts
from agentguard.values import ApprovalTerms, DenialKind, Effect, Mode, RecordMode
from tests.support.policies import bundle, call, document, engine

ALLOW = "A | tool.before | true | allow"
DENY = "D | tool.before | args.n > 10 | deny"
HOLD = "H | tool.before | args.n > 5 | { require_approval: { from: [alice], expires: 1h } }"


def test_the_most_restrictive_gate_wins_whatever_the_order() -> None:
    """Deny before approval before allow, in every order of the rules."""
    for rules in ((ALLOW, DENY, HOLD), (DENY, HOLD, ALLOW), (HOLD, ALLOW, DENY)):
        asked = engine(*rules)
        assert asked.decide("tool.before", call(args={"n": 1})).effect is Effect.ALLOW
        assert asked.decide("tool.before", call(args={"n": 6})).effect is Effect.REQUIRE_APPROVAL
        assert asked.decide("tool.before", call(args={"n": 11})).effect is Effect.DENY


def test_every_matching_rule_is_named() -> None:
    """The decision lists all matches in the order of the document."""
    decision = engine(ALLOW, DENY, HOLD).decide("tool.before", call(args={"n": 11}))
    assert [rule.rule_id for rule in decision.matched] == ["A", "D", "H"]
    assert decision.rule_id == "D"
    assert decision.policy == "p"


def test_unmatched_deny_lets_only_an_allow_or_an_approval_through() -> None:
    """Redact and warn never permit."""
    asked = engine(
        "A | tool.before | tool.name == 'a' | allow",
        "W | tool.before | tool.name == 'w' | warn",
        "R | tool.before | tool.name == 'r' | { redact: [card] }",
        "H | tool.before | tool.name == 'h' | { require_approval: { from: [alice], expires: 1h } }",
        unmatched="deny",
    )
    answers = {name: asked.decide("tool.before", call(name)).effect for name in "awrhx"}
    assert answers == {
        "a": Effect.ALLOW, "w": Effect.DENY, "r": Effect.DENY, "h": Effect.REQUIRE_APPROVAL, "x": Effect.DENY
    }  # fmt: skip
    denied = asked.decide("tool.before", call("x"))
    assert denied.reason == "denied by the default of p: no rule of it allows this call (unmatched: deny)"
    assert denied.policy == "p"
    assert denied.kind is DenialKind.FORBIDDEN


def test_unmatched_speaks_of_tools_and_of_kinds_that_have_rules() -> None:
    """One word covers model calls only where the document has a rule for them."""
    tools_only = engine("A | tool.before | true | allow", unmatched="deny")
    facts = {"agent.name": "a", "env.name": "", "model.name": "m", "args": {}}
    assert tools_only.decide("model.before", facts).is_allowed
    both = engine(
        "A | tool.before | true | allow", "M | model.before | model.name == 'x' | allow", unmatched="deny"
    )
    assert not both.decide("model.before", facts).is_allowed
    written = engine("A | tool.before | true | allow", unmatched="{ agent: allow, model: deny, tool: deny }")
    assert not written.decide("model.before", facts).is_allowed
    assert written.decide("agent.before", facts).is_allowed


def test_unmatched_never_withholds_a_result() -> None:
    """After a call only a rule can deny."""
    assert engine(ALLOW, unmatched="deny").decide("tool.after", call(result=1)).is_allowed


def test_each_document_decides_for_itself() -> None:
    """An allow in one document does not permit what another one does not."""
    one = document("A | tool.before | tool.name == 'a' | allow", name="one", unmatched="deny")
    two = document("B | tool.before | tool.name in ['a', 'b'] | allow", name="two", unmatched="deny")
    three = document("C | tool.before | tool.name == 'c' | deny", name="three")
    asked = Engine(bundle(one, two, three))
    assert asked.decide("tool.before", call("a")).is_allowed
    denied = asked.decide("tool.before", call("b"))
    assert (denied.effect, denied.policy) == (Effect.DENY, "one")


def test_scope_chooses_documents_and_the_unknown_is_in_every_scope() -> None:
    """Globs of agents and environments; a call that no document covers is denied."""
    asked = engine(
        "D | tool.before | tool.name == 'x' | deny",
        scope="{ agents: ['fin-*'], environments: [prod, 'stage-?'] }",
    )
    assert not asked.decide("tool.before", call("x", agent__name="fin-1")).is_allowed
    assert asked.decide("tool.before", call("y", agent__name="fin-1", env__name="stage-2")).is_allowed
    assert not asked.decide("tool.before", call("x", agent__name="fin-1", env__name="")).is_allowed
    assert not asked.decide("tool.before", call("x", agent__name="")).is_allowed
    outside = asked.decide("tool.before", call("y", agent__name="hr"))
    assert not outside.is_allowed
    assert "no policy document covers" in outside.reason


def test_shadow_and_warn_do_not_stop_and_say_what_they_would_have_done() -> None:
    """Neither rules nor defaults in these modes are enforced."""
    shadow = engine(DENY + " | mode: shadow").decide("tool.before", call(args={"n": 11}))
    assert (shadow.effect, shadow.would_be, shadow.warnings) == (Effect.ALLOW, Effect.DENY, ())
    assert shadow.reason.startswith("NOT ENFORCED (shadow): would be denied by D")
    assert shadow.values == {"args.n": 11}
    warn = engine(DENY, mode="warn").decide("tool.before", call(args={"n": 11}))
    assert (warn.effect, warn.would_be, warn.warnings) == (Effect.ALLOW, Effect.DENY, ("D",))
    default = engine("A | tool.before | tool.name == 'a' | allow", mode="warn", unmatched="deny")
    decision = default.decide("tool.before", call("b"))
    assert (decision.effect, decision.would_be, decision.warnings) == (
        Effect.ALLOW,
        Effect.DENY,
        ("p:default",),
    )


def test_an_allow_that_is_not_enforced_permits_nothing() -> None:
    """Under `unmatched: deny` a shadow allow is no allow."""
    decision = engine(ALLOW + " | mode: shadow", unmatched="deny").decide("tool.before", call())
    assert (decision.effect, decision.rule_id, decision.would_be) == (Effect.DENY, "", None)


@pytest.mark.parametrize(
    "then", ["deny", "allow", "{ redact: [card] }", "{ require_approval: { from: [a], expires: 1h } }"]
)
def test_a_rule_that_cannot_be_evaluated_denies(then: str) -> None:
    """Whatever it would have done, except warn; the decision names rule and error."""
    asked = engine(f"R | tool.before | args.n > 1 | {then}")
    decision = asked.decide("tool.before", call())
    assert (decision.effect, decision.rule_id, decision.policy) == (Effect.DENY, "R", "p")
    assert decision.errors[0].startswith("R: ")
    assert "cannot be evaluated" in decision.reason
    assert decision.record is RecordMode.PREFERRED


def test_what_is_not_enforced_only_notes_its_errors() -> None:
    """A warning, and rules in modes `warn` and `shadow`, let the call run."""
    for rule in ("R | tool.before | args.n > 1 | warn", DENY + " | mode: shadow", DENY + " | mode: warn"):
        decision = engine(rule).decide("tool.before", call())
        assert decision.is_allowed
        assert len(decision.errors) == 1
        assert decision.would_be is (None if rule.split(" | ")[3] == "warn" else Effect.DENY)


def test_a_failing_fact_denies_and_its_words_are_not_repeated() -> None:
    """A fact that is computed when asked may raise anything."""

    class Lazy(dict[str, object]):
        def __missing__(self, name: str) -> object:
            raise RuntimeError("user data 4111")

    decision = engine("R | tool.before | cost.usd_today > 1.0 | deny").decide("tool.before", Lazy(call()))
    assert decision.effect is Effect.DENY
    assert "4111" not in str(decision)


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), [1, [float("-inf")]], {"a": {"b": float("nan")}}, (1.0, float("nan"))]
)
def test_numbers_that_are_not_finite_deny_though_no_rule_reads_them(bad: object) -> None:
    """Anywhere in the arguments, before the call."""
    decision = engine("R | tool.before | tool.name == 'x' | deny").decide(
        "tool.before", call("y", args={"n": bad})
    )
    assert (decision.effect, decision.kind) == (Effect.DENY, DenialKind.FIX_INPUT)
    assert "finite" in decision.errors[0]


def test_a_tool_call_without_a_name_cannot_be_judged() -> None:
    """The name is what rules are found by."""
    facts = call()
    del facts["tool.name"]
    assert engine(ALLOW).decide("tool.before", facts).effect is Effect.DENY
    assert engine(ALLOW).decide("tool.before", call(**{"tool.name": 7})).effect is Effect.DENY


def test_an_unknown_point_is_an_error() -> None:
    """Nothing is allowed at a place that does not exist."""
    with pytest.raises(PolicyEvaluationError):
        engine(ALLOW).decide("tool.during", call())


def test_the_reason_has_rule_title_and_values() -> None:
    """The reviewer reads which comparison held, and with what."""
    asked = engine("FIN-001 | tool.before | tool.name == 'sql' && cost.usd_today > 50.0 | deny")
    decision = asked.decide("tool.before", call("sql", cost__usd_today=51.2))
    assert decision.reason == "denied by FIN-001 (About FIN-001): cost.usd_today 51.20 > 50"
    assert decision.values == {"cost.usd_today": 51.2, "tool.name": "sql"}


def test_the_reason_shows_only_the_side_of_an_or_that_held() -> None:
    """And names variables of the document with their value."""
    text = document("R | tool.before | args.n > vars.cap || args.n < 0 | deny").replace(
        "rules:", "vars: { cap: 9 }\nrules:"
    )
    asked = Engine(load_texts({"p.yaml": text}))
    assert asked.decide("tool.before", call(args={"n": 10})).reason.endswith(": args.n 10 > vars.cap (9)")
    assert asked.decide("tool.before", call(args={"n": -1})).reason.endswith(": args.n -1 < 0")


def test_what_a_model_wrote_is_described_and_not_repeated() -> None:
    """Texts that the catalogue does not call plain are in neither reason nor values."""
    asked = engine("R | tool.before | args.to == 'mallory' || principal.id == 'eve' | deny")
    for facts in (
        call(args={"to": "mallory"}, principal__id="x"),
        call(args={"to": "y"}, principal__id="eve"),
    ):
        decision = asked.decide("tool.before", facts)
        assert "<text of" in decision.reason
        assert "mallory" not in str(decision.values)
        assert "principal.id" not in (decision.values or {})


def test_redaction_adds_up_also_for_a_call_that_waits() -> None:
    """Modifiers hold for every call that runs, an approved one included."""
    asked = engine(
        "R1 | tool.before | true | { redact: [card] }", "R2 | tool.before | true | { redact: [secret, card] }",
        "R3 | tool.before | true | { redact: [email] } | mode: shadow", HOLD,
    )  # fmt: skip
    decision = asked.decide("tool.before", call(args={"n": 6}))
    assert decision.effect is Effect.REQUIRE_APPROVAL
    assert decision.redact == ("card", "secret")


def test_approval_terms_are_joined_or_the_call_is_denied() -> None:
    """The same people: the stricter numbers. Different people: those named by both, or nobody."""
    people = """\
apiVersion: agentguard/v1
kind: Approvers
metadata: { name: people }
groups:
  a: [{ id: x, public_key: "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" },
      { id: y, public_key: "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" }]
  b: [{ id: y, public_key: "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" }]
  c: [{ id: x, public_key: "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }]
"""

    def ask(*groups: str) -> object:
        rules = [
            f"R{n} | tool.before | true | {{ require_approval: {{ from: ['group:{g}'], expires: {n + 1}h }} }}"
            for n, g in enumerate(groups)
        ]
        return Engine(bundle(document(*rules), people)).decide("tool.before", call())

    assert ask("a", "a").approval == ApprovalTerms(("group:a",), 1, 3600.0)  # type: ignore[attr-defined]
    assert ask("a", "b").approval == ApprovalTerms(("y",), 1, 3600.0)  # type: ignore[attr-defined]
    assert ask("b", "c").effect is Effect.DENY  # type: ignore[attr-defined]


def test_a_denial_can_tell_the_caller_to_wait_or_to_mend_the_input() -> None:
    """The kind, and the seconds, come from the rule."""
    asked = engine("R | tool.before | true | { deny: { kind: wait, retry_after: 2m } }")
    decision = asked.decide("tool.before", call())
    assert (decision.kind, decision.retry_after_s) == (DenialKind.WAIT, 120.0)


def test_the_record_is_the_firmest_of_what_matched() -> None:
    """A denial is at least preferred, an allow with a required rule is required."""
    assert (
        engine("R | tool.before | true | deny").decide("tool.before", call()).record is RecordMode.PREFERRED
    )
    required = "R | tool.before | true | allow | record: required"
    assert engine(ALLOW, required).decide("tool.before", call()).record is RecordMode.REQUIRED
    assert engine(ALLOW).decide("tool.before", call()).record is RecordMode.ASYNC


def test_decisions_without_values_are_shared() -> None:
    """The common answer is made once."""
    asked = engine(ALLOW, DENY)
    first = asked.decide("tool.before", call(args={"n": 1}))
    assert asked.decide("tool.before", call(args={"n": 2})) is first


def test_tools_of_a_rule_are_the_only_ones_it_is_about() -> None:
    """`tools:` and the condition must both hold."""
    asked = engine("R | tool.before | args.n > 1 | deny | tools: [a, b]")
    assert not asked.decide("tool.before", call("a", args={"n": 2})).is_allowed
    assert asked.decide("tool.before", call("c", args={"n": 2})).is_allowed
    assert asked.decide("tool.before", call("c")).is_allowed


def test_several_points_in_one_rule() -> None:
    """A rule at two points is asked at both, with the facts of each."""
    asked = engine("R | [tool.before, model.before] | run.errors > 3 | deny")
    assert not asked.decide("tool.before", call(run__errors=4)).is_allowed
    facts = {"agent.name": "", "env.name": "", "model.name": "m", "run.errors": 4}
    assert not asked.decide("model.before", facts).is_allowed


def test_what_the_runtime_asks_the_engine() -> None:
    """Which facts are read, and whether a result must be held back."""
    asked = engine(
        "R | tool.after | tool.name == 'a' && detects(result, ['secret']) | { redact: [secret] }",
        "S | tool.after | tool.name == 'b' | warn", "T | model.after | true | deny | mode: shadow",
    )  # fmt: skip
    assert asked.reads == {"tool.name", "result"}
    assert asked.acts_after("tool.after", "a")
    assert not asked.acts_after("tool.after", "b")
    assert not asked.acts_after("model.after", "m")
    assert asked.has_rules("tool.after", "b")
    assert not asked.has_rules("agent.after")
    assert asked.bundle.rules[0].mode is Mode.ENFORCE


def test_ten_thousand_names_are_bounded() -> None:
    """Plans are remembered up to a limit, and answers stay the same."""
    asked = engine("D | tool.before | tool.name == 't9' | deny")
    for number in range(9_000):
        assert asked.decide("tool.before", call(f"t{number}")).is_allowed is (number != 9)
    assert not asked.decide("tool.before", call("t9")).is_allowed


def test_values_are_those_of_the_rules_that_act() -> None:
    """A shadow rule beside an enforced denial adds nothing."""
    asked = engine(
        "R | tool.before | args.n > 3 | deny", "S | tool.before | run.repeats < 3 | deny | mode: shadow"
    )
    assert asked.decide("tool.before", call(args={"n": 4})).values == {"args.n": 4}
    assert asked.decide("tool.before", call(args={"n": 1})).values == {"run.repeats": 0}


def test_the_reason_turns_a_negation_round() -> None:
    """`!(a in b)` is shown as what held: a not in b."""
    asked = engine("R | tool.before | !(env.name in ['dev', 'test']) && !(args.n > 3) | deny")
    decision = asked.decide("tool.before", call(env__name="", args={"n": 1}))
    assert (
        decision.reason.endswith(": args.n 1 <= 3") or "env.name '' not in ['dev', 'test']" in decision.reason
    )


def test_a_name_that_is_not_known_skips_no_rule() -> None:
    """Rules about a missing agent, environment or model are asked, and deny because they cannot be evaluated."""
    asked = engine(
        "E | tool.before | env.name == 'prod' | deny",
        "T | tool.before | tool.name == 'other' | deny",
    )
    for _ in range(3):
        decision = asked.decide(
            "tool.before", {name: value for name, value in call().items() if name != "env.name"}
        )
        assert (decision.effect, decision.rule_id) == (Effect.DENY, "E")
        assert "env.name" in decision.errors[0]
    assert asked.decide("tool.before", call(env__name="")).is_allowed
    models = engine("M | model.before | model.name == 'big' && model.provider == 'x' | deny")
    facts: dict[str, object] = {"agent.name": "a", "env.name": "", "args": {}, "model.provider": "x"}
    assert models.decide("model.before", facts).rule_id == "M"
    agents = engine("A | tool.before | agent.name in ['a', 'b'] | deny")
    assert agents.decide("tool.before", {"tool.name": "t", "env.name": "", "args": {}}).rule_id == "A"
