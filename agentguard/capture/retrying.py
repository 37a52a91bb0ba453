"""The attempts inside one call: what failed, and what another attempt followed."""

from __future__ import annotations

from typing import NamedTuple

from agentguard.capture.failures import error_type
from agentguard.capture.recording import DROPPED_ATTRIBUTE, RecordingSpan
from agentguard.values import attributes as names


class FailedAttempt(NamedTuple):
    """An attempt over HTTP that another one followed."""

    status_code: int
    waited_s: float
    """Seconds between the failed response and the next request."""


class RetryingSpan(RecordingSpan):
    """A span that keeps count of its attempts; `Span` sets the slot."""

    __slots__ = ("retries",)

    retries: int
    """Attempts beyond the first, so far."""

    def record_retry(
        self,
        attempt: int | None = None,
        error: BaseException | str | None = None,
        backoff_s: float | None = None,
        source: str = "agentguard",
        *,
        status_code: int | None = None,
    ) -> None:
        """
        Say that an attempt failed and another one follows.

        Args:
            attempt:
                Number of the failed attempt, from 1; counted where not given.
            error:
                What made it fail: an exception, or a value for `error.type`.
            backoff_s:
                Seconds waited before the next attempt, at least 0.
            source:
                Who retries: sdk, tenacity, stamina, langchain, agentguard ...
            status_code:
                HTTP status of the failed attempt.

        """
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return
        self.retries += 1
        noted: dict[str, object] = {
            names.RETRY_ATTEMPT: self.retries if attempt is None else attempt,
            names.RETRY_SOURCE: source,
        }
        if error is not None:
            noted[names.ERROR_TYPE] = (
                # By the type: what is given may be anything, and must not raise here.
                error_type(error) if issubclass(type(error), BaseException) else error  # type: ignore[arg-type]
            )
        if status_code is not None:
            noted[names.HTTP_STATUS_CODE] = status_code
        if backoff_s is not None:
            try:
                noted[names.RETRY_BACKOFF_S] = float(backoff_s)
            except Exception:
                self._drop(DROPPED_ATTRIBUTE)
        self.add_event(names.EVENT_RETRY, noted)  # type: ignore[arg-type]

    def note_failed_attempt(self, target: str, status_code: int) -> None:
        """Remember an attempt that failed, in case another one follows; only the last one is kept."""
        self._own_rare().failed_attempt = (target, status_code, self.elapsed_ns)

    def take_failed_attempt(self, target: str) -> FailedAttempt | None:
        """Give and forget the failed attempt, if it went to the same target."""
        failed = self._rare.failed_attempt
        if failed is None or failed[0] != target:
            return None
        self._own_rare().failed_attempt = None
        return FailedAttempt(failed[1], max(self.elapsed_ns - failed[2], 0) / 1e9)

    @property
    def elapsed_ns(self) -> int:
        """How long the call has run so far, or took."""
        if self._duration_ns >= 0:
            return self._duration_ns
        return self._environment.monotonic_ns() - self._start_monotonic_ns
