"""
What official instrumentations saw of a model's messages, brought into the store.

An entry point of the group `opentelemetry_genai_completion_hook`: with
`OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK=agentguard` every instrumentation that
stands on opentelemetry-util-genai hands its messages here. What is kept of them is
what the setting `capture` says, redacted before it is queued.

Source: opentelemetry-util-genai 1.3b0, `completion_hook.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import get_current

from agentguard.runtime.active import ACTIVE


class CompletionHook:
    """The hook; before `init()`, and with `otel = "off"`, it does nothing."""

    def on_completion(
        self,
        *,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        system_instruction: Sequence[Any],
        tool_definitions: Sequence[Any] | None = None,
        span: Any = None,
        log_record: Any = None,  # noqa: ARG002 - the signature is the hook's
    ) -> None:
        """
        Take the messages of one completion.

        Args:
            inputs:
                Messages to the model.
            outputs:
                Messages from it.
            system_instruction:
                Parts of the instructions.
            tool_definitions:
                Tools offered to the model.
            span:
                Of the completion; one of ours where the instrumentation made none.
            log_record:
                The event of the completion, where one is emitted.
        """
        runtime = ACTIVE.runtime
        if runtime is None or runtime.is_closed or not runtime.mirror.is_visible:
            return
        # Imported here: the entry point may be loaded before agentguard is set up.
        from agentguard.capture import current_span
        from agentguard.runtime.calls import CALL_KEY, GuardedCall

        try:
            call = get_current().get(CALL_KEY)
            # A callable that asked for less is taken at its word, also for what runs inside it.
            content = call.content if isinstance(call, GuardedCall) else runtime.content[runtime.capture]
            found = content.messages(
                inputs=inputs, outputs=outputs, instructions=system_instruction, tools=tool_definitions
            )
            if not found:
                return
            ours = current_span()
            identity = span.get_span_context() if span is not None else None
            if ours is not None and (
                identity is None
                or not identity.is_valid
                or identity.span_id == ours.get_span_context().span_id
            ):
                ours.set_content(found)
            elif identity is not None and identity.is_valid and span.is_recording():
                runtime.mirror.processor.keep_content(span, found)
        except Exception as error:
            runtime.health("runtime.completion", error)
