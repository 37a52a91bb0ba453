"""What an application says about the call that is running, or about one that ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentguard.runtime.active import ACTIVE

if TYPE_CHECKING:
    # Only the types: this file is loaded by `import agentguard`.
    from agentguard.capture import Span
    from agentguard.values import AttributeValue


def current() -> Span | None:
    """
    Give the innermost span of ours, or None outside any guarded call.

    Its `call_id` can be kept, to record an outcome when a label arrives.
    """
    if ACTIVE.runtime is None:
        return None
    from agentguard.capture import current_span

    return current_span()


def record_usage(
    value: object = None,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost_usd: float | None = None,
) -> bool:
    """
    Say what the current call used.

    Args:
        value:
            A `Usage`, or a response object of a model SDK.
        input_tokens:
            Overrides what *value* says, as do the other numbers.
        output_tokens:
            Reasoning included.
        cost_usd:
            What the provider says that the call cost.

    Returns:
        Whether anything was found and kept; False outside any guarded call.
    """
    span = current()
    return span is not None and span.record_usage(
        value, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost_usd
    )


def record_retry(
    attempt: int | None = None,
    error: BaseException | str | None = None,
    backoff_s: float | None = None,
    *,
    source: str = "agentguard",
    status_code: int | None = None,
) -> None:
    """
    Say that an attempt of the current call failed and another one follows.

    Args:
        attempt:
            Number of the failed attempt, from 1; counted where not given.
        error:
            What made it fail: an exception, or a value for `error.type`.
        backoff_s:
            Seconds waited before the next attempt.
        source:
            Who retries.
        status_code:
            HTTP status of the failed attempt.
    """
    span = current()
    if span is not None:
        span.record_retry(attempt, error, backoff_s, source, status_code=status_code)


def record_outcome(
    *,
    call_id: str | None = None,
    predicted_label: str | None = None,
    true_label: str | None = None,
    score: float | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> bool:
    """
    Say what became known of a call: labels, a score. It may come long after the call.

    Args:
        call_id:
            `agentguard.current().call_id` of that call; the current call by default.
        predicted_label:
            What the agent answered, as a class.
        true_label:
            What was right.
        score:
            Any number that judges the answer.
        attributes:
            More about the outcome.

    Returns:
        Whether it was queued; False where there is no such call or no runtime.
    """
    runtime = ACTIVE.runtime
    span = current()
    if call_id is None:
        call_id = span.call_id if span is not None else None
    if runtime is None or runtime.is_closed or call_id is None:
        return False
    from agentguard.values import OutcomeRecord

    return runtime.record_outcome(
        OutcomeRecord(
            call_id=call_id,
            time_unix_ns=runtime.clock.unix_ns(),
            predicted_label=None if predicted_label is None else str(predicted_label),
            true_label=None if true_label is None else str(true_label),
            score=None if score is None else float(score),
            attributes=dict(attributes or {}),
        ),
        trace_id=span.trace_id if span is not None and span.call_id == call_id else "",
    )
