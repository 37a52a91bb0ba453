"""Settings of the writer, with the bounds that keep it from growing."""

from __future__ import annotations

from dataclasses import dataclass

from agentguard.errors import ConfigurationError

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterConfig:
    """How the writer batches, when it brings spans to disk, and what it may hold in memory."""

    queue_bytes_max: int = 8 * _MIB
    """Bytes of memory for what waits to be written: finished spans by estimate, encoded ones as they are."""
    frame_spans_max: int = 512
    """So many spans are in one frame at most; fewer where fewer wait. Each frame has a price, whatever is in it."""
    frame_bytes_max: int = 512 * 1024
    """Estimated bytes after which the writer does not wait for more, and begins another frame."""
    frame_interval_s: float = 0.2
    """Longest wait of a span before it is written."""
    sync_interval_s: float = 0.7
    """Longest wait of written bytes before they are forced to disk."""
    unsynced_bytes_max: int = _MIB // 2
    """Written bytes after which they are forced to disk at once: until then they are kept in memory too."""
    segment_bytes_max: int = 16 * _MIB
    segment_spans_max: int = 20_000
    segment_age_s_max: float = 3600.0
    """After the first of these three a segment is closed and a new one begun; looked at after each sync."""
    backpressure_s_max: float = 1.0
    """How long a full queue may hold up a call before its span is dropped; never on an event loop, not for
    long where the disk refuses, and not again for a while after it was in vain."""
    retry_interval_s: float = 1.0
    """How long the writer waits before it asks a disk again that refused."""
    record_bytes_max: int = 8 * _MIB
    """A span that is longer once encoded is dropped and counted."""
    is_sealing: bool = True
    """Whether closed segments are sealed: where they lie, or in the background where that gains something."""

    def __post_init__(self) -> None:
        problems = [
            f"store.{name}: got {getattr(self, name)}, expected more than 0"
            for name in self.__dataclass_fields__
            if name not in {"is_sealing", "backpressure_s_max"} and not getattr(self, name) > 0
        ]
        if self.frame_spans_max > 10_000:
            problems.append(f"store.frame_spans_max: got {self.frame_spans_max}, expected at most 10000")
        if self.segment_spans_max > 65_000:
            problems.append(f"store.segment_spans_max: got {self.segment_spans_max}, expected at most 65000")
        if self.segment_bytes_max > 48 * _MIB:
            problems.append(
                f"store.segment_bytes_max: got {self.segment_bytes_max}, expected at most {48 * _MIB}"
            )
        if problems:
            raise ConfigurationError(*problems)
