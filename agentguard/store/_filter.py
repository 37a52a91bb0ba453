"""Conditions on spans, tested on rows before records are made of them."""

from __future__ import annotations

from collections.abc import Sequence

from agentguard.store._footer import Footer
from agentguard.store._rows import KIND, NAME, SHAPE, SPAN, START, STATUS, TRACE, VALUES, Row, id_text
from agentguard.values.attributes import AGENT_NAME

_NEEDLE_CHARS_MIN = 4
"""A shorter beginning of an id is in every frame."""
_ID_BYTES = {TRACE: 16, SPAN: 8}
_FIRST, _LAST = -(2**63), 2**64


class RowFilter:
    """All conditions of one query; `None` is no condition."""

    def __init__(
        self,
        since_unix_ns: int | None = None,
        until_unix_ns: int | None = None,
        trace_id: str | None = None,
        call_id: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        agent: str | None = None,
        status: str | None = None,
    ) -> None:
        asked = {
            "since_unix_ns": since_unix_ns, "until_unix_ns": until_unix_ns, "trace_id": trace_id,
            "call_id": call_id, "kind": kind, "name": name, "agent": agent, "status": status,
        }  # fmt: skip
        self.text = ", ".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        """The conditions, for people."""
        self.since = _FIRST if since_unix_ns is None else since_unix_ns
        self.until = _LAST if until_unix_ns is None else until_unix_ns
        self.has_times = since_unix_ns is not None or until_unix_ns is not None
        self.trace_id = trace_id.lower() if trace_id is not None else None
        self.has_whole_trace_id = self.trace_id is not None and len(self.trace_id) == 32
        self._call_id = call_id.lower() if call_id is not None else None
        self._agent = agent
        self._texts = [
            (place, text)
            for place, text in ((KIND, kind), (NAME, name), (STATUS, status))
            if text is not None
        ]
        self._ids = [
            (place, text)
            for place, text in ((TRACE, self.trace_id), (SPAN, self._call_id))
            if text is not None
        ]

        self.needles = [_id_needles(text) for _, text in self._ids if len(text) >= _NEEDLE_CHARS_MIN]
        self.needles += [(text.encode("utf-8", "replace"),) for text in (name, agent) if text]
        """For each condition on an id or a name what the bytes of a frame must contain, one of them."""

    @property
    def is_everything(self) -> bool:
        """Whether there is no condition."""
        return not (self.has_times or self._ids or self._texts or self._agent is not None)

    def may_be_among(self, footer: Footer) -> bool:
        """Whether a sealed file may hold a row that is wanted, by its footer."""
        if self.has_times and not self.overlaps(*footer.start_range_unix_ns):
            return False
        is_sought = self.has_whole_trace_id and self.trace_id is not None
        return not is_sought or next(footer.chunks_of(self.trace_id or ""), None) is not None

    def may_be_in(self, plain: bytes) -> bool:
        """Whether a frame may hold a row that is wanted, by its bytes."""
        return all(any(needle in plain for needle in needles) for needles in self.needles)

    def overlaps(self, start_min: int, start_max: int) -> bool:
        """Whether spans that start between these two may be wanted."""
        return start_max >= self.since and start_min < self.until

    def contains(self, start_min: int, start_max: int) -> bool:
        """Whether all spans that start between these two are wanted, by their times."""
        return start_min >= self.since and start_max < self.until

    def select(self, rows: Sequence[Row], shapes: Sequence[Sequence[str]]) -> list[Row]:
        """The rows for which every condition holds."""
        found: Sequence[Row] = rows
        if self.has_times:
            found = [row for row in found if self.since <= row[START] < self.until]
        for place, text in self._ids:
            whole = _packed(text, _ID_BYTES[place])
            found = [
                row
                for row in found
                # Most are packed, and one that is sought whole needs not be made text of.
                if (one := row[place]) == whole
                or ((whole is None or type(one) is str) and id_text(one).startswith(text))
            ]
        for place, text in self._texts:
            found = [row for row in found if row[place] == text]
        if self._agent is not None:
            places = [shape.index(AGENT_NAME) if AGENT_NAME in shape else -1 for shape in shapes]
            found = [
                row
                for row in found
                if (place := places[row[SHAPE]]) >= 0 and row[VALUES][place] == self._agent
            ]
        return list(found)


def _packed(text: str, length: int) -> bytes | None:
    """A whole id as bytes; `None` for the beginning of one, and for what is no id."""
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return None
    return packed if len(packed) == length and packed.hex() == text else None


def _id_needles(text: str) -> tuple[bytes, ...]:
    """The forms in which an id that begins so stands in a row: as bytes, or as it is."""
    as_text = text.encode("utf-8", "replace")
    try:
        return bytes.fromhex(text[: len(text) // 2 * 2]), as_text
    except ValueError:
        return (as_text,)
