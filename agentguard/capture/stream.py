"""
Streams that are watched while somebody else consumes them.

Takes an iterator, an async iterator or a stream object of an SDK, gives a proxy (`stream_proxies`)
that behaves as it did. The observer hears of the first content and, exactly once, of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from opentelemetry.context import Context

from agentguard.capture.cost import Rate
from agentguard.capture.failures import is_cancellation
from agentguard.capture.stream_usage import StreamUsage
from agentguard.capture.usage import extract_usage
from agentguard.capture.usage_quick import UNPRICED
from agentguard.values import Usage
from agentguard.values import attributes as names
from agentguard.wrapping import LazyContext

_SNAPSHOTS: Final = ("current_message_snapshot", "current_completion_snapshot")


class StreamObserver(Protocol):
    """What a proxy tells; nothing of it may raise."""

    @property
    def context(self) -> Context | None:
        """The context for the steps of the stream; None leaves the consumer's."""
        ...

    def first_chunk(self) -> Callable[[], object] | None:
        """
        Hear that the first chunk with content is here.

        Returns:
            What is to hear of each further one; None for nobody.

        """
        ...

    def end(self, usage: Any, outcome: str, error: BaseException | None) -> None:
        """
        Say that the stream is over; called once.

        Args:
            usage:
                What the chunks said, a `Usage`; of a stream that is ok and for which rates were given it is
                what `StreamUsage.said` gives. None: unknown.
            outcome:
                ok, error, cancelled or abandoned.
            error:
                What ended it, for error and cancelled.

        """
        ...


class Watch(StreamUsage):
    """
    What the proxies of one stream share: what its chunks said, and that the end comes once.

    Only they hold it, so that it is gone with the last of them.
    """

    __slots__ = ("_inner", "_later", "_observer", "_open", "context", "is_over")

    def __init__(self, inner: object, observer: StreamObserver, rates: Mapping[str, Rate]) -> None:
        self.is_over = False
        # As `StreamUsage` begins, without its frame: there is one for each stream.
        self._rates = rates
        self._usage = self._answer = self.passes = None
        self._reasons = ()
        self.is_complete = False
        self._inner = inner
        self._observer = observer
        self._later: Callable[[], object] | None = None
        self._open = True
        # A call that is a context is its own.
        self.context: Context | None = observer if isinstance(observer, LazyContext) else observer.context

    def __del__(self) -> None:
        if not self.is_over:
            self.leave()

    def follow(self, inner: object) -> None:
        """Look at another object for the final usage: a manager has handed out its stream."""
        self._inner = inner

    def note(self, chunk: object, found: bool | None = False) -> None:
        """Look at a chunk of which `passes` has told this, and tell the observer where it has content."""
        if found is None and self.take_reading(chunk):
            return
        if self.chunk(chunk):
            later = self._later
            if later is None:
                later = self._later = self._observer.first_chunk() or _nobody
            else:
                later()
            if later is not _nobody:
                self.passes = None  # Somebody is to hear of each.

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """Report the end, once."""
        try:
            # Deleting a slot is one step of the interpreter: of two threads, one gets here.
            del self._open
        except AttributeError:
            return
        self.is_over = True
        if outcome == names.OUTCOME_OK and self._rates is not UNPRICED:
            said = self._usage
            if said is None or self._reasons:
                said = self.said() or self._last_known()
            self._observer.end(said, outcome, error)
            return
        usage = self.usage() or self._last_known()
        if usage is not None and not (outcome == names.OUTCOME_OK or self.is_complete):
            # What the model wrote after this was not seen: the count so far would pass for the whole.
            usage = usage._replace(output_tokens=None, reasoning_tokens=None)
            usage = None if usage.input_tokens is None else usage
        self._observer.end(usage, outcome, error)

    def fail(self, error: BaseException) -> None:
        """Report what a step raised."""
        self.end(names.OUTCOME_CANCELLED if is_cancellation(error) else names.OUTCOME_ERROR, error)

    def leave(self, error: BaseException | None = None) -> None:
        """Report that the consumer reads no further."""
        if error is not None:
            self.fail(error)
        elif self.is_complete:
            self.end(names.OUTCOME_OK)
        else:
            self.end(names.OUTCOME_ABANDONED)

    def _last_known(self) -> Usage | None:
        """Give what the snapshot says that the SDK keeps, where no chunk said anything."""
        for name in _SNAPSHOTS:
            try:
                usage = extract_usage(getattr(self._inner, name, None))
            except Exception:  # noqa: S112 - the snapshot of a stream that gave nothing may raise
                continue
            if usage is not None:
                return usage
        return None


def _nobody() -> None:
    """Stand for who hears of further content where nobody does."""
