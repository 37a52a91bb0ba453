"""A governed call, whole: real policies, real store, real decision log."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentguard
from agentguard.errors import AuditError, ConfigurationError, PolicyDocumentError
from agentguard.runtime.active import ACTIVE
from agentguard.seal import SigningKey
from agentguard.state import sign_vote
from tests.unit.runtime.conftest import HEAD, Start, decisions, spans

LIMIT = """
- id: REF-001
  title: Refunds up to 100
  at: tool.before
  when: tool.name == 'refund' && args.amount_usd > 100.0
  then: deny
  record: required
"""


@agentguard.tool(effect="write")
def refund(order: str, amount_usd: float = 5.0) -> str:
    """Refund an order."""
    RAN.append((order, amount_usd))
    return f"refunded {amount_usd:g}"


@agentguard.tool(name="refund")
async def refund_async(order: str, amount_usd: float = 5.0) -> str:
    """Refund an order."""
    RAN.append((order, amount_usd))
    return f"refunded {amount_usd:g}"


RAN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    """Begin each test with no call made."""
    RAN.clear()


def test_allowed_call_is_recorded(start: Start) -> None:
    """A call under the limit runs; span, decision and outcome are joined by its id."""
    runtime = start(LIMIT)
    with agentguard.run(principal="ann", conversation_id="c1", labels={"tier": "gold"}):
        assert refund("a", 50.0) == "refunded 50"
    [span] = spans(runtime)
    assert (span.name, span.kind, span.status) == ("execute_tool refund", "tool", "unset")
    assert span.attributes["gen_ai.conversation.id"] == "c1"
    assert span.attributes["agentguard.label.tier"] == "gold"
    admitted, outcome = (stored.record for stored in decisions(runtime))
    assert (admitted.point, admitted.decision.is_allowed, admitted.principal) == ("tool.before", True, "ann")
    assert (outcome.point, outcome.outcome) == ("outcome", "ok")
    assert admitted.call_id == outcome.call_id == span.span_id


@pytest.mark.parametrize("is_async", [False, True])
def test_denied_call_does_not_run(start: Start, is_async: bool) -> None:
    """A call over the limit raises, with the reason for the reviewer and no number for the model."""
    runtime = start(LIMIT)
    with pytest.raises(agentguard.CallDenied) as caught:
        if is_async:
            asyncio.run(refund_async("a", 500.0))
        else:
            refund("a", 500.0)
    assert RAN == []
    denied = caught.value
    assert denied.decision.rule_id == "REF-001"
    assert "500" in denied.decision.reason
    text = str(denied)
    assert text.startswith(
        f"Denied by policy REF-001 (decision {denied.decision_id[:4]}). This is a rule, not a fault."
    )
    assert "500" not in text
    assert "100" not in text.replace("REF-001", "").replace(denied.decision_id[:4], "")
    assert pickle.loads(pickle.dumps(denied)).decision_id == denied.decision_id
    [span] = spans(runtime)
    assert (span.status, span.attributes["error.type"]) == ("error", "denied")
    [stored] = decisions(runtime)
    assert stored.record.decision_id == denied.decision_id


def test_defaults_of_the_function_are_judged(start: Start) -> None:
    """An argument that the caller leaves out is judged by its default."""
    start(LIMIT.replace("> 100.0", "> 4.0"))
    with pytest.raises(agentguard.CallDenied):
        refund("a")


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_do_not_compare_deny(start: Start, amount: float) -> None:
    """NaN and infinity cannot slip past a comparison."""
    start(LIMIT)
    with pytest.raises(agentguard.CallDenied) as caught:
        refund("a", amount)
    assert caught.value.decision.errors
    assert RAN == []


def test_missing_argument_denies_instead_of_passing(start: Start) -> None:
    """A rule that reads an argument which the call does not have cannot be evaluated: denied."""
    start(LIMIT.replace("tool.name == 'refund' && ", ""))

    @agentguard.tool
    def other(text: str) -> str:
        return text

    with pytest.raises(agentguard.CallDenied) as caught:
        other("x")
    assert "amount_usd" in " ".join(caught.value.decision.errors)


def test_wrong_arguments_raise_the_functions_own_error(start: Start) -> None:
    """A call that does not fit the signature is a TypeError, as without a decorator."""
    start(LIMIT)
    with pytest.raises(TypeError, match="refund"):
        refund("a", 1.0, "more")  # type: ignore[call-arg]


def test_unmatched_deny_needs_an_allow_rule(start: Start) -> None:
    """Under `unmatched: deny` a warning permits nothing; an allow rule does."""
    start(
        """
        - {id: W, title: Noted, at: tool.before, when: "true", then: warn}
        - {id: A, title: Small ones, at: tool.before, when: tool.name == 'refund' && args.amount_usd < 10.0, then: allow}
        """,
        unmatched="deny",
    )
    assert refund("a", 5.0) == "refunded 5"
    with pytest.raises(agentguard.CallDenied):
        refund("a", 50.0)


def test_redaction_of_arguments_and_results(start: Start) -> None:
    """What the detectors find is replaced before the function sees it, and in what it returns."""
    runtime = start(
        """
        - {id: R1, title: No cards, at: tool.before, when: tool.name == 'note', then: {redact: [card]}}
        - {id: R2, title: No mail, at: tool.after, when: tool.name == 'note', then: {redact: [email]}}
        """
    )
    seen: list[str] = []

    @agentguard.tool
    def note(text: str) -> dict[str, str]:
        seen.append(text)
        return {"contact": "ann@corp.example"}

    assert note("card 4111 1111 1111 1111") == {"contact": "[REDACTED:email]"}
    assert seen == ["card [REDACTED:card]"]
    [span] = spans(runtime)
    assert "4111" not in repr(span)
    assert span.attributes["agentguard.content.redactions"] == 1


def test_after_rule_withholds_the_result(start: Start) -> None:
    """The function has run, but its caller does not see what it returned."""
    start(
        """
        - {id: AFT, title: Nothing secret, at: tool.after, when: "detects(result, ['secret'])", then: deny}
        """
    )

    @agentguard.tool
    def read(key: str) -> str:
        RAN.append(key)
        return f"AWS key AKIA{'A' * 16}" if key == "aws" else "fine"

    assert read("x") == "fine"
    with pytest.raises(agentguard.CallDenied) as caught:
        read("aws")
    assert RAN == ["x", "aws"]
    assert caught.value.record.point == "tool.after"


def test_after_rule_holds_a_generator_back(start: Start) -> None:
    """A caller sees no item before all of them have been judged."""
    start("""
        - {id: AFT, title: Nothing secret, at: tool.after, when: "detects(result, ['email'])", then: deny}
    """)

    @agentguard.tool
    def lines(bad: bool) -> Iterator[str]:
        yield "first"
        yield "ann@corp.example" if bad else "second"

    @agentguard.tool
    async def lines_async(bad: bool) -> AsyncIterator[str]:
        yield "first"
        yield "ann@corp.example" if bad else "second"

    assert list(lines(False)) == ["first", "second"]
    seen = []
    with pytest.raises(agentguard.CallDenied):
        for line in lines(True):
            seen.append(line)

    async def main() -> None:
        assert [line async for line in lines_async(False)] == ["first", "second"]
        with pytest.raises(agentguard.CallDenied):
            async for line in lines_async(True):
                seen.append(line)

    asyncio.run(main())
    assert seen == []


def test_warn_and_shadow_let_the_call_run_and_say_so(start: Start) -> None:
    """Rules that do not enforce are on the record with what they would have done."""
    runtime = start(
        """
        - {id: S, title: Tried out, mode: shadow, at: tool.before, when: tool.name == 'refund', then: deny}
        - {id: W, title: Loud, mode: warn, at: tool.before, when: tool.name == 'refund', then: deny}
        """
    )
    assert refund("a") == "refunded 5"
    admitted = decisions(runtime)[0].record.decision
    assert admitted.is_allowed
    assert {rule.rule_id for rule in admitted.matched} == {"S", "W"}
    assert str(admitted.would_be) == "deny"
    [span] = spans(runtime)
    assert span.events[0].name == "agentguard.policy"


APPROVAL = """
- id: PAY
  title: A person decides
  at: tool.before
  when: tool.name == 'refund' && args.amount_usd >= 50.0
  then: {require_approval: {from: [group:payments], approvals: 1, expires: 15m, on_timeout: deny}}
"""


def approvers(key: SigningKey) -> str:
    """A document that lists one approver."""
    import base64

    public = base64.b64encode(key.verify_key.raw).decode()
    return f"""---
apiVersion: agentguard/v1
kind: Approvers
metadata: {{name: people}}
groups:
  payments:
    - {{id: bob@corp.example, public_key: "ed25519:{public}"}}
"""


@pytest.mark.parametrize("is_async", [False, True])
def test_approval_by_a_person_lets_exactly_that_call_run_once(start: Start, is_async: bool) -> None:
    """Asked, signed by a listed approver, run once; another amount, or a second time, is asked anew."""
    key = SigningKey.generate()
    runtime = start(APPROVAL, more=approvers(key))

    def call(amount: float) -> str:
        return asyncio.run(refund_async("a", amount)) if is_async else refund("a", amount)

    with agentguard.run(principal="ann"):
        with pytest.raises(agentguard.ApprovalPending) as caught:
            call(80.0)
        assert "needs_approval" in str(caught.value)
        request = runtime.state.approvals.show(caught.value.token)
        vote = sign_vote(
            key,
            store_id=runtime.state.approvals.store_id,
            token=request.token,
            digest=request.digest,
            approver="bob@corp.example",
            verdict="approve",
            time_unix_s=runtime.clock.unix_ns() // 10**9,
        )
        runtime.state.approvals.grant(caught.value.token, vote, runtime.approvers)
        with pytest.raises(agentguard.ApprovalPending):
            call(81.0)
        assert call(80.0) == "refunded 80"
        with pytest.raises(agentguard.ApprovalPending):
            call(80.0)
    assert len(RAN) == 1
    allowed = [s.record for s in decisions(runtime) if s.record.approval_id]
    assert [record.decision.rule_id for record in allowed] == ["PAY"]


def test_what_cannot_be_frozen_cannot_be_approved(start: Start) -> None:
    """Objects that are no plain data are denied, not asked about."""
    start(APPROVAL.replace(" && args.amount_usd >= 50.0", ""), strict=False)
    with pytest.raises(agentguard.CallDenied):
        refund(object())  # type: ignore[arg-type]


def test_required_record_that_fails_denies(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """No durable record, no call, where the rule says so."""
    runtime = start(
        """
        - {id: A, title: Recorded, at: tool.before, when: "true", then: allow, record: required}
        """,
        strict=False,
    )

    def full(_record: object) -> None:
        raise AuditError("disk full")

    monkeypatch.setattr(runtime.journal, "append", full)
    with pytest.raises(agentguard.CallDenied, match="default of the policies"):
        refund("a")
    assert RAN == []


def test_kill_switch_stops_all_calls_at_once(start: Start) -> None:
    """An order stops calls also where no policies are loaded."""
    runtime = start()
    assert refund("a")
    runtime.state.kill.set("tool:refund", reason="runaway", by="ops@corp.example")
    with pytest.raises(agentguard.CallDenied) as caught:
        refund("a")
    assert "runaway" in caught.value.decision.reason
    runtime.state.kill.clear("tool:refund")
    assert refund("a")


def test_loops_are_seen_by_their_repeats(start: Start) -> None:
    """The fact `run.repeats` counts the very same call within one run."""
    start(
        """
        - {id: LOOP, title: No loops, at: tool.before, when: run.repeats >= 3, then: deny}
        """
    )
    with agentguard.run():
        for _ in range(3):
            refund("a")
        refund("b")
        with pytest.raises(agentguard.CallDenied):
            refund("a")
    with agentguard.run():
        refund("a")


def test_nothing_runs_ungoverned_before_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    """With policies configured the first call initialises; where they do not load, it raises."""
    policies = tmp_path / "p"
    policies.mkdir()
    document = policies / "p.yaml"
    monkeypatch.setenv("AGENTGUARD_POLICIES", str(policies))
    monkeypatch.setenv("AGENTGUARD_DRIFT_INTERVAL_S", "0")
    document.write_text(HEAD.format(unmatched="allow") + "  - {id: X, whne: 'true'}\n", encoding="utf-8")
    with pytest.raises(PolicyDocumentError):
        refund("a", 500.0)
    document.write_text(HEAD.format(unmatched="allow") + LIMIT.replace("\n", "\n  "), encoding="utf-8")
    with pytest.raises(agentguard.CallDenied):
        refund("a", 500.0)
    assert ACTIVE.runtime is not None
    assert RAN == []


def test_without_policies_calls_before_init_are_plain() -> None:
    """Nothing configured, nothing set up: the function runs as if it were not decorated."""
    assert refund("a") == "refunded 5"
    assert ACTIVE.runtime is None
    assert agentguard.current() is None
    assert agentguard.flush().is_complete


def test_policies_stay_in_force_after_shutdown(start: Start) -> None:
    """Shutting down ends the recording, not the rules."""
    start(LIMIT, strict=False)
    agentguard.shutdown()
    with pytest.raises(agentguard.CallDenied):
        refund("a", 500.0)
    assert RAN == []


def test_missing_and_empty_policy_folders_are_errors(tmp_path: Path) -> None:
    """A configured folder that is not there or holds nothing is never an allow-all."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        agentguard.init(store=tmp_path / "s", policies=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyDocumentError):
        agentguard.init(store=tmp_path / "s", policies=tmp_path / "empty")
    assert ACTIVE.runtime is None


def test_init_twice(start: Start, tmp_path: Path) -> None:
    """The same settings give the same runtime; others are refused."""
    runtime = start(LIMIT)
    assert start(LIMIT) is runtime
    with pytest.raises(ConfigurationError, match="set up already"):
        start(LIMIT, service="other")


def test_no_policies_is_said_loudly(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Running without policies is a visible state."""
    with caplog.at_level(logging.WARNING, logger="agentguard"):
        start()
    assert "no policies are loaded" in caplog.text


def test_errors_of_watching_stay_inside(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken sink changes nothing for the caller, and is counted."""
    runtime = start(strict=False)

    def broken(*_: object) -> None:
        raise RuntimeError("broken sink")

    monkeypatch.setattr(runtime.environment, "sink", broken)
    assert refund("a") == "refunded 5"
    assert sum(runtime.health.counts.values()) == 1


def test_exceptions_of_the_function_are_recorded_and_pass(start: Start) -> None:
    """The error class is on the span and the outcome; the exception is the function's own."""
    runtime = start(LIMIT)
    error = KeyError("secret text")

    @agentguard.tool
    def fails() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        fails()
    assert caught.value is error
    assert error.__context__ is None
    [span] = spans(runtime)
    assert (span.attributes["error.type"], span.status) == ("KeyError", "error")
    assert "secret text" not in repr(span)
    assert decisions(runtime)[-1].record.outcome == "error"


def test_disabled_is_a_plain_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`AGENTGUARD_ENABLED=0` makes decorators transparent."""
    monkeypatch.setenv("AGENTGUARD_ENABLED", "0")
    assert agentguard.init(store=tmp_path / "s") is None
    assert refund("a") == "refunded 5"
    assert not (tmp_path / "s").exists()
    ACTIVE.is_off = False


def test_totals_of_children_stand_on_the_agent(start: Start) -> None:
    """Tokens are counted once: on the model span, and as totals of our own name on the agent."""
    runtime = start()

    @agentguard.model(provider="openai", model="gpt-5")
    def ask() -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 10, "completion_tokens": 5}, "model": "gpt-5"}

    @agentguard.agent(name="support")
    def agent() -> None:
        ask()
        ask()
        refund("a")

    agent()
    by_kind = {span.kind: span for span in spans(runtime)}
    assert by_kind["model"].attributes["gen_ai.usage.input_tokens"] == 10
    assert by_kind["agent"].attributes["agentguard.usage.total.input_tokens"] == 20
    assert "gen_ai.usage.input_tokens" not in by_kind["agent"].attributes
    assert by_kind["tool"].attributes["gen_ai.agent.name"] == "support"
    assert by_kind["tool"].parent_span_id == by_kind["agent"].span_id


def test_span_block_and_outcome(start: Start) -> None:
    """A block is a span; an outcome can come by call id, after the call."""
    runtime = start()
    with agentguard.span("think", kind="plan") as span:
        assert span is not None
        agentguard.record_usage(input_tokens=3)
        call_id = span.call_id
    assert agentguard.record_outcome(call_id=call_id, predicted_label="a", true_label="b", score=0.5)
    assert not agentguard.record_outcome(predicted_label="a")
    [record] = spans(runtime)
    assert (record.name, record.kind) == ("plan think", "plan")
    [outcome] = runtime.store.query().outcomes()
    assert (outcome.call_id, outcome.true_label) == (call_id, "b")


@pytest.mark.parametrize(
    ("capture", "has_text", "has_mail"),
    [("metadata", False, False), ("redacted", True, False), ("full", True, True)],
)
def test_content_is_kept_as_far_as_asked(start: Start, capture: str, has_text: bool, has_mail: bool) -> None:
    """Off by default; redacted before it is queued; as it is only where that is said."""
    runtime = start(capture=capture)

    @agentguard.tool
    def send(text: str) -> str:
        return f"sent {text}"

    send("hello ann@corp.example")
    kept = repr(spans(runtime))
    assert ("hello" in kept, "ann@corp.example" in kept) == (has_text, has_mail)


def test_capture_of_one_callable_only_narrows(start: Start) -> None:
    """A decorator may ask for less than the setting, never for more."""
    runtime = start(capture="metadata")

    @agentguard.tool(capture="full")
    def more(text: str) -> str:
        return text

    @agentguard.tool(capture="none")
    def less(text: str) -> str:
        return text

    more("needle")
    less("needle")
    kept = spans(runtime)
    assert [span.name for span in kept] == ["execute_tool more"]
    assert "needle" not in repr(kept)


def test_switch_of_opentelemetry_is_an_upper_bound(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_CONTENT in the environment wins over `capture = full`."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "NO_CONTENT")
    runtime = start(capture="full")
    refund("needle")
    assert "needle" not in repr(spans(runtime))


def test_generator_of_chunks_has_tokens_and_time_to_first_chunk(start: Start) -> None:
    """A model function that yields the chunks of an SDK is counted as the stream itself would be."""
    runtime = start()

    @agentguard.model(model="gpt-5", provider="openai")
    def stream() -> Iterator[dict[str, Any]]:
        yield {"choices": [{"delta": {"role": "assistant"}}]}
        yield {"choices": [{"delta": {"content": "hello"}}], "model": "gpt-5", "id": "r1"}
        yield {
            "choices": [],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
            "model": "gpt-5",
            "id": "r1",
        }

    assert len(list(stream())) == 3
    [span] = spans(runtime)
    assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (
        7,
        2,
    )
    assert isinstance(span.attributes["gen_ai.response.time_to_first_chunk"], float)
