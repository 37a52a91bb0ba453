"""
How a batch reaches its destination: tries again, splits, finds the span that is refused.

Waiting and chance are handed in; nothing here reads a clock or starts a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentguard.errors import ExportError
from agentguard.export._config import OtlpConfig
from agentguard.export._transport import Answer, Ending, Transport
from agentguard.values import InternalErrorHook

if TYPE_CHECKING:
    from agentguard.export._encode import Item

FIRST_BACKOFF_S = 1.0
MISCONFIGURED_BACKOFF_S = 30.0
_BATCH_BYTES_MIN = 65_536
_REFUSED_IN_ROW_MAX = 8
"""Single spans that are refused one after the other before the first success, until a pause."""


@dataclass(slots=True)
class ExportCounters:
    """What became of the spans of one destination since the start of this process."""

    sent: int = 0
    """Spans that the destination took."""
    rejected: int = 0
    """Spans that the destination said it did not take (`partial_success`)."""
    too_large: int = 0
    """Spans that are larger than the destination takes, each alone. They stay in the store."""
    refused: int = 0
    """Spans that the destination called bad, each alone, while it took others. They stay in the store."""
    left_out: int = 0
    """Spans of traces that nothing gave a reason to send (`keep`). They stay in the store."""
    unreadable: int = 0
    """Answers that took the spans, and did not say in a readable way whether all of them."""
    requests: int = 0
    failures: int = 0
    """Requests that were tried again."""
    last_failure: str = ""
    """In our own words; empty once a request went through again."""

    @property
    def lost(self) -> int:
        """Spans that the destination will not have."""
        return self.rejected + self.too_large + self.refused


class Delivery:
    """
    Brings batches to one destination, each span at least once.

    Args:
        config:
            The destination.
        transport:
            Sends one request.
        counters:
            Counted into.
        wait:
            Waits so many seconds, and says whether to go on. The second argument
            says whether a flush may cut the wait short.
        chance:
            A number in [0, 1) for the jitter.
        on_internal_error:
            Told of every failure; it limits what is logged.
    """

    def __init__(
        self,
        config: OtlpConfig,
        transport: Transport,
        *,
        counters: ExportCounters,
        wait: Callable[[float, bool], bool],
        chance: Callable[[], float],
        on_internal_error: InternalErrorHook,
    ) -> None:
        self._config = config
        self._transport = transport
        self._counters = counters
        self._wait = wait
        self._chance = chance
        self._on_internal_error = on_internal_error
        self._is_proven = False
        """A request went through: what is refused from now on is the span's fault, not the address's."""
        self.batch_bytes_max = config.batch_bytes_max
        """What the destination has taken so far; smaller after a 413, larger again with each success."""

    def deliver(self, items: Sequence[Item]) -> bool:
        """
        Bring a batch to the destination.

        Returns:
            True where the destination has answered for every span of it; False
            where it has not, and the batch must be brought again.
        """
        parts: deque[Sequence[Item]] = deque([items] if items else [])
        tries = 0
        refused_in_row = 0
        while parts:
            part = parts[0]
            answer = self._transport.send(part)
            self._counters.requests += 1
            if answer.ending is Ending.SENT:
                parts.popleft()
                tries = refused_in_row = 0
                self._sent(len(part), answer)
            elif answer.ending is Ending.TOO_LARGE and len(part) == 1:
                parts.popleft()
                self._counters.too_large += 1
                self._report(answer, "one span is larger than the destination takes")
            elif answer.ending is Ending.REFUSED and len(part) == 1 and self._is_proven:
                parts.popleft()
                self._counters.refused += 1
                self._report(answer, "one span is refused by the destination")
            elif answer.ending in {Ending.TOO_LARGE, Ending.REFUSED} and len(part) > 1:
                if answer.ending is Ending.TOO_LARGE:
                    sent_bytes = sum(len(item.data) for item in part)
                    self.batch_bytes_max = max(_BATCH_BYTES_MIN, min(self.batch_bytes_max, sent_bytes // 2))
                parts.popleft()
                parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
            else:
                is_refused = answer.ending is Ending.REFUSED
                if is_refused:
                    # One span is refused, and nothing went through so far: it may be the span, or the address.
                    # Another span first; if that one is taken, it was this span.
                    refused_in_row += 1
                    parts.rotate(-1)
                    if len(parts) > 1 and refused_in_row % _REFUSED_IN_ROW_MAX:
                        continue
                tries += 1
                self._counters.failures += 1
                self._counters.last_failure = answer.reason
                self._report(answer, "a request is tried again")
                if not self._wait(self._pause_s(answer, tries), answer.retry_after_s is None):
                    return False
                if is_refused and len(parts) == 1:
                    # Later spans, which the next batch has, may show whose fault it is.
                    return False
        return True

    def _sent(self, n_items: int, answer: Answer) -> None:
        self._is_proven = True
        counters = self._counters
        counters.sent += n_items - answer.rejected
        counters.last_failure = ""
        self.batch_bytes_max = min(
            self._config.batch_bytes_max, self.batch_bytes_max + self.batch_bytes_max // 16
        )
        if answer.is_unreadable:
            counters.unreadable += 1
            self._report(answer, "the spans are taken, but the answer cannot be read")
        if answer.rejected:
            counters.rejected += answer.rejected
            self._report(answer, f"{answer.rejected} of {n_items} spans are rejected by the destination")

    def _pause_s(self, answer: Answer, tries: int) -> float:
        """Seconds until the next try: doubled each time, with jitter, or what the server asks for."""
        if answer.retry_after_s is not None:
            return min(answer.retry_after_s, self._config.retry_after_s_max)
        first_s = FIRST_BACKOFF_S if answer.ending is Ending.RETRY else MISCONFIGURED_BACKOFF_S
        pause_s = min(first_s * 2.0 ** min(tries - 1, 16), max(self._config.backoff_s_max, first_s))
        # Between half and all of it, so that many processes do not come back at once.
        return pause_s * (0.5 + 0.5 * self._chance())

    def _report(self, answer: Answer, what: str) -> None:
        # Counted and logged by reason: a wrong key must not hide behind a backend that was full a moment ago.
        self._on_internal_error(
            f"export.otlp ({answer.reason})", ExportError(f"export: {what}: {answer.reason}")
        )
