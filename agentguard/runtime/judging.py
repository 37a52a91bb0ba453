"""An outcome in the words of the conventions: how a call was judged."""

from __future__ import annotations

from agentguard.values import AttributeValue, OutcomeRecord
from agentguard.values import attributes as names

_NAME = "agentguard.outcome"
"""What was judged, where the application does not say."""


def judgement(outcome: OutcomeRecord, trace_id: str) -> dict[str, AttributeValue]:
    """
    Name the score of an outcome for the event `gen_ai.evaluation.result`.

    Labels are the application's own words and stay here; the event says only
    whether the answer was right.

    Args:
        outcome:
            With a score.
        trace_id:
            The trace of the judged call; empty where it is not known, and the
            event then names the call itself.

    Returns:
        Attributes of the event.
    """
    found: dict[str, AttributeValue] = {
        names.EVALUATION_NAME: str(outcome.attributes.get(names.EVALUATION_NAME, _NAME)),
    }
    if outcome.score is not None:
        found[names.EVALUATION_SCORE_VALUE] = outcome.score
    if outcome.predicted_label is not None and outcome.true_label is not None:
        is_right = outcome.predicted_label == outcome.true_label
        found[names.EVALUATION_SCORE_LABEL] = "correct" if is_right else "incorrect"
    if not trace_id:
        found[names.CALL_ID] = outcome.call_id
    return found
