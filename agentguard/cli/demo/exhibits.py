"""What is shown beside the six scenes: a misspelt rule, a dry run, a proof, two control arms."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from agentguard.audit import Finding, StoredDecision, VerifyReport, verify
from agentguard.cli.demo.arms import ControlArms
from agentguard.cli.demo.findings import Exhibit
from agentguard.cli.demo.stage import Stage

_UNUSABLE = 2


def misspelt_rule(stage: Stage, _: ControlArms) -> Exhibit:
    """Spell one fact of the policy wrong, and try to load it."""
    policy = (stage.folder / "policies" / "support.yaml").read_text(encoding="utf-8")
    broken = stage.folder / "misspelt.yaml"
    broken.write_text(
        policy.replace("args.amount_usd > vars.refund_cap_usd", "args.amount_usd > vars.refund_cap_us")
    )
    said = stage.command("policy", "check", broken.name)
    has_place = re.search(r"misspelt\.yaml:\d+:\d+", said.text) is not None
    return Exhibit(
        title="One letter of a rule is missing",
        lines=(
            (
                "A rule that reads a name which does not exist would never match, and everything would pass. "
                f"It does not load; exit status {said.status}:"
            ),
        ),
        verbatim=said.text,
        command="agentguard policy check misspelt.yaml",
        is_as_promised=said.status == _UNUSABLE
        and has_place
        and "^" in said.text
        and "refund_cap_usd" in said.text,
        figures={"status": said.status},
    )


def candidate_policy(stage: Stage, _: ControlArms) -> Exhibit:
    """Try a stricter policy on what the agent did during the demo."""
    call = {
        "point": "tool.before",
        "tool": {"name": "refund"},
        "args": {"order_id": "B-2077", "amount_usd": 85.0},
    }
    (stage.folder / "call.json").write_text(json.dumps(call), encoding="utf-8")
    report = stage.replay(stage.folder / "candidate")
    return Exhibit(
        title="A stricter policy, tried before anyone enables it",
        lines=(
            (
                f"CAND-001 denies refunds above USD 60. On the demo's own traffic it would block {report.blocked} of "
                f"{report.calls} tool calls that ran."
            ),
        ),
        command="agentguard policy eval candidate -i call.json",
        is_as_promised=0 < report.blocked < report.calls and report.unknown == 0,
        figures={"would_block": report.blocked, "of": report.calls, "unknown": report.unknown},
    )


def proved_decision(stage: Stage, _: ControlArms) -> Exhibit:
    """Verify the record of one decision, change one bit of it, verify again."""
    target = stage.last_decision("REF-010")
    if target is None:
        return Exhibit("One decision, proved", ("There is no denial to prove.",), is_as_promised=False)
    copy = stage.folder / "tampered"
    shutil.copytree(stage.folder / "store", copy)
    try:
        before = verify(copy, stage.store.keystore)
        after = _flip_in_record(stage, copy, target)
    finally:
        shutil.rmtree(copy)
    bad = after.first_bad if after is not None else None
    return Exhibit(
        title="One decision, proved",
        lines=(
            (
                f"Decision {target.record.decision_id} (REF-010, record {target.index} of its journal): "
                f"{before.records} records of the log read, all as written."
            ),
            f"One bit of it changed in a copy: {bad.sentence if bad else 'not noticed'}",
        ),
        command="agentguard decisions verify",
        is_as_promised=before.is_good and bad is not None and _concerns(bad, target),
        figures={"decision_id": target.record.decision_id, "records": before.records},
    )


def _concerns(finding: Finding, target: StoredDecision) -> bool:
    """Whether a record is among those that a finding names."""
    return finding.index <= target.index < finding.index + finding.records


def _flip_in_record(stage: Stage, folder: Path, target: StoredDecision) -> VerifyReport | None:
    """
    Change one bit of one record.

    Records are sealed and differ in length, so their place in the file is found
    by trying: the verification itself says which record a changed byte belongs to.
    """
    (journal,) = (folder / "dec").glob(f"{target.journal}.*")
    journal.chmod(0o600)
    data = journal.read_bytes()
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        journal.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        report = verify(folder, stage.store.keystore)
        bad = report.first_bad
        if bad is None or bad.journal != target.journal:
            return report
        if _concerns(bad, target):
            return report
        low, high = (middle + 1, high) if bad.index < target.index else (low, middle)
    return None


def quiet_days(_: Stage, arms: ControlArms) -> Exhibit:
    """Print how often two watchers cried wolf over the same quiet month."""
    result = arms.result("quiet-days")
    days, naive, ours = result["days"], result["ks_alarms"], result["our_alarms"]
    return Exhibit(
        title=f"Control arm: {days} quiet days, nothing changes",
        lines=(
            f"Kolmogorov-Smirnov at p < 0.05, each hour, on four features: alarms in {naive} of "
            f"{result['ks_hours']} hours, all of them false.",
            f"agentguard's checker on the same {result['n_calls']:,} simulated calls: {ours} alarms.",
        ),
        command="agentguard drift simulate",
        is_as_promised=naive > 10 * (ours + 1),
        figures=dict(result),
    )


def lost_spans(_: Stage, arms: ControlArms) -> Exhibit:
    """Print what was lost by two ways of sending spans to a backend that was dead for a while."""
    result = arms.result("spans")
    usual, ours = result["usual"], result["agentguard"]
    lost = int(usual["made"]) - int(usual["arrived"])
    our_lost = int(ours["made"]) - int(ours["arrived"])
    return Exhibit(
        title="Control arm: the trace backend is dead, then comes back",
        lines=(
            (
                f"OpenTelemetry's BatchSpanProcessor, defaults: {lost} of {usual['made']} spans lost; its flush "
                f"took {usual['flush_s']:.1f} s and answered {usual['flush_said']}."
            ),
            (
                f"agentguard's store and exporter: {our_lost} of {ours['made']} spans lost; the flush to disk took "
                f"{ours['flush_s']:.2f} s, the rest was sent when the backend was back."
            ),
        ),
        command="agentguard export otlp --endpoint URL",
        is_as_promised=lost > 0 and our_lost == 0,
        figures=dict(result),
    )


Show = Callable[[Stage, ControlArms], Exhibit]

EXHIBITS: tuple[tuple[str, Show], ...] = (
    ("a misspelt rule", misspelt_rule),
    ("a candidate policy", candidate_policy),
    ("one decision, proved", proved_decision),
    ("control arm: quiet days", quiet_days),
    ("control arm: a dead backend", lost_spans),
)
"""What is shown, in this order, with what is said meanwhile."""
