"""Model drift: the provider puts another version behind the same name."""

from __future__ import annotations

import statistics

from agentguard.cli.demo.brain import DRIFTED, TESTED
from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.stage import Stage
from agentguard.values import DriftStatus, Verdict

_REFUND = "Please refund USD 85 for order B-2077, it broke."


def play(stage: Stage) -> Finding:
    """Learn what is normal, look once, change the model, look again, and ask for a refund."""
    size = stage.size
    stage.serve(size.reference)
    stage.fit_reference()
    quiet_from = stage.now()
    stage.serve(size.window)
    quiet = stage.check_drift(quiet_from)
    before = _median_words(stage.serve_bare(size.window // 2))

    stage.server.behaviour = DRIFTED
    drifted_from = stage.now()
    stage.serve(size.window)
    verdict = stage.check_drift(drifted_from)
    after = _median_words(stage.serve_bare(size.window // 2))
    bare_paid, paid = len(stage.bare_desk.refunds_usd), len(stage.desk.refunds_usd)
    stage.bare_agent.answer(_REFUND)
    stage.talk(_REFUND)
    bare_paid, paid = len(stage.bare_desk.refunds_usd) - bare_paid, len(stage.desk.refunds_usd) - paid
    decision = stage.last_decision("DRF-040")
    is_held = decision is not None and not decision.record.decision.is_allowed and paid == 0
    moved = _moved(verdict) - _moved(quiet)

    stage.server.behaviour = TESTED
    restored = _recover(stage)
    return Finding(
        title="Model drift",
        story="The provider puts another version behind the same model name: longer answers, slower.",
        without=f"answers grew from {before:.0f} to {after:.0f} words, and {bare_paid} refund was paid on "
        "the word of a model that nobody had tested",
        with_guard=(
            f"checker, {size.window} customers before the change: {_status(quiet)}; "
            f"after: {_status(verdict)}",
            *(f.sentence for f in verdict.features if f.feature in moved),
            f"the verdict is a fact for policy: DRF-040 put the next refund before a person, {paid} paid; "
            f"once the old version was back: {_status(restored)}",
        ),
        command="agentguard drift status",
        caught=verdict.status is DriftStatus.DRIFT and bool(moved) and is_held and bare_paid == 1,
        short=f"seen after {size.window} customers; refund held",
        figures={
            "words_before": before,
            "words_after": after,
            "quiet": str(quiet.status),
            "drifted": list(verdict.drifted),
            "restored": str(restored.status),
            "refunds_paid": paid,
            "bare_refunds_paid": bare_paid,
        },
    )


def _recover(stage: Stage) -> Verdict:
    """Serve with the old version again until the checker finds nothing, for three windows at most."""
    for _ in range(3):
        stage.restart_watch()
        since = stage.now()
        stage.serve(stage.size.window)
        verdict = stage.check_drift(since)
        if verdict.status is not DriftStatus.DRIFT:
            break
    # The next scene begins with an open mind, on a noisy machine too.
    stage.restart_watch()
    return verdict


def _moved(verdict: Verdict) -> set[str]:
    """Name what moved of the answers themselves; latency also moves when the machine is busy."""
    return {name for name in verdict.drifted if name.startswith("model.") and "_ms" not in name}


def _status(verdict: Verdict) -> str:
    return f"{verdict.status} in {', '.join(verdict.drifted)}" if verdict.drifted else str(verdict.status)


def _median_words(answers: list[str]) -> float:
    return statistics.median(len(answer.split()) for answer in answers)
