"""
What the rooms ask of the world: clock, ids, keys, sinks.

`runtime` hands implementations in; tests hand in frozen ones. A room never
reads a clock, draws a random number or opens a default folder by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from agentguard.values.decision import DecisionRecord
from agentguard.values.span import FlushResult, GapRecord, OutcomeRecord, SpanRecord


class Clock(Protocol):
    """Time from one place. Order never comes from `unix_ns`."""

    def unix_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""
        ...


class Ids(Protocol):
    """Random ids, never 0."""

    def trace_id(self) -> int:
        """128 random bits."""
        ...

    def span_id(self) -> int:
        """64 random bits; span ids and decision ids come from here."""
        ...


class InternalErrorHook(Protocol):
    """Where a room reports an error of its own that the caller must not see."""

    def __call__(self, where: str, error: BaseException) -> None:
        """
        Count the error and log it at most once per kind and interval.

        Args:
            where:
                Room and action, such as `store.append`: the kind.
            error:
                What happened. Its message may hold user data and is not logged;
                its class is.
        """
        ...


class KeyProvider(Protocol):
    """Gives the key-encryption key of a store."""

    @property
    def name(self) -> str:
        """Name of the provider: file, passphrase, environment."""
        ...

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes.

        Args:
            salt:
                16 bytes from the slot of the store; providers that hold a key
                instead of a secret ignore it.

        Raises:
            KeyUnavailableError: The key cannot be had.
        """
        ...


class SpanSource(Protocol):
    """A finished span that is not yet written out: the writer thread asks for the record."""

    @property
    def bytes_estimate(self) -> int:
        """About how much memory the span holds; the queue is bounded by the sum."""
        ...

    def record(self) -> SpanRecord:
        """Make the record. Called once, off the calling thread."""
        ...


class SpanSink(Protocol):
    """Takes finished spans; never raises, never blocks for long."""

    def append(self, source: SpanSource) -> bool:
        """Queue a finished span; False where it was dropped (and counted)."""
        ...

    def append_outcome(self, outcome: OutcomeRecord) -> bool:
        """Queue an outcome."""
        ...

    def append_gap(self, gap: GapRecord) -> None:
        """Count a loss that happened before the sink."""
        ...

    def flush(self, timeout_s: float) -> FlushResult:
        """Bring all that was queued to disk, within the time."""
        ...

    def close(self, timeout_s: float) -> FlushResult:
        """Flush and seal; the sink takes nothing more."""
        ...


DecisionSource: TypeAlias = Callable[[], DecisionRecord | tuple[bytes, object] | bytes | None]
"""A decision that nobody waits for: the log's thread makes the record, once. Else it is as `audit.CallForm` fills it
in. None: there is nothing left to say."""


class DecisionSink(Protocol):
    """Takes decision records and chains them."""

    def append(self, record: DecisionRecord) -> None:
        """
        Chain one record; for `RecordMode.REQUIRED` return only once it is on disk.

        Raises:
            AuditError: A required record could not be made durable.
        """
        ...

    def append_later(self, source: DecisionSource) -> None:
        """Chain a record of mode `async` without values of its own, made when it is written."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Bring all records to disk; True where that is done."""
        ...

    def close(self, timeout_s: float) -> bool:
        """Flush, write a checkpoint, and take nothing more."""
        ...


class Verifier(Protocol):
    """Checks a signature by a named key."""

    def verify(self, *, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether the signature is that key's over the message."""
        ...
