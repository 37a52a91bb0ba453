"""
Legal holds: what retention must not remove, whatever its age and whatever the disk.

A hold names a time range and, where it is narrower, an agent. It is kept in one
small sealed file. Where that file cannot be read, nothing may be removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agentguard.errors import AgentGuardError, StoreError, TamperedError
from agentguard.seal import Keystore
from agentguard.store._blob import SealedBlob
from agentguard.store._features import FeatureBlock, decode_features
from agentguard.store._layout import Kind
from agentguard.store._reading import SegmentInfo
from agentguard.store._segment import SegmentFile

HOLDS_MAX = 1000
HOLD = "hold"
INCIDENT = "incident"
_TEXT_CHARS_MAX = 1000
_COLUMNS = frozenset({"start_unix_ns", "agent"})
_AGENT_CHARS_MAX = 512
"""As far as feature blocks keep names."""
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One order to keep what a time range, and an agent, touched."""

    hold_id: str
    """8 random hexadecimal digits."""
    kind: str
    """`hold`, or `incident`, which was opened to look into something."""
    reason: str
    by: str
    created_unix_ns: int
    since_unix_ns: int | None = None
    """Earliest start of a span, included; `None` for the beginning."""
    until_unix_ns: int | None = None
    """Latest start of a span, excluded; `None` for all that is to come."""
    agent: str | None = None
    """Only what this agent did; `None` for all."""

    def overlaps(self, start_min_unix_ns: int, start_max_unix_ns: int) -> bool:
        """Whether anything that started between the two may be held."""
        return (self.until_unix_ns is None or start_min_unix_ns < self.until_unix_ns) and (
            self.since_unix_ns is None or start_max_unix_ns >= self.since_unix_ns
        )


class Holds:
    """The holds of one store. Every look reads the file: another process may have changed it."""

    def __init__(self, blob: SealedBlob, segments: Path, keystore: Keystore) -> None:
        self._blob = blob
        self._segments = segments
        self._keystore = keystore

    def list(self) -> tuple[Hold, ...]:
        """
        Give all holds, the oldest first.

        Raises:
            StoreError: The file cannot be read.
            TamperedError: It is not what was written.
        """
        data = self._blob.read()
        if data is None:
            return ()
        try:
            document = json.loads(data)
            if document["version"] != _VERSION:
                raise TamperedError(f"holds: got version {document['version']}, expected {_VERSION}")
            return tuple(Hold(**entry) for entry in document["holds"])
        except (ValueError, TypeError, KeyError) as error:
            raise TamperedError("holds: got a file that does not decode, expected holds") from error

    def add(
        self,
        *,
        reason: str,
        by: str,
        now_unix_ns: int,
        since_unix_ns: int | None = None,
        until_unix_ns: int | None = None,
        agent: str | None = None,
        kind: str = HOLD,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> Hold:
        """
        Keep what a time range and an agent touched, from now on.

        Raises:
            StoreError: There is no reason, the range is empty, there are too many
                holds, or they cannot be written.
        """
        if not reason.strip():
            raise StoreError("hold: got no reason, expected one sentence")
        if since_unix_ns is not None and until_unix_ns is not None and since_unix_ns >= until_unix_ns:
            raise StoreError("hold: got a range that ends before it begins, expected since before until")
        with self._blob.locked():
            holds = self.list()
            if len(holds) >= HOLDS_MAX:
                raise StoreError(f"holds: got {len(holds) + 1}, expected at most {HOLDS_MAX}")
            hold = Hold(
                hold_id=random_bytes(4).hex(), kind=kind, reason=reason[:_TEXT_CHARS_MAX],
                by=by[:_TEXT_CHARS_MAX], created_unix_ns=now_unix_ns, since_unix_ns=since_unix_ns,
                until_unix_ns=until_unix_ns, agent=agent,
            )  # fmt: skip
            self._write((*holds, hold))
        return hold

    def remove(self, hold_id: str) -> Hold:
        """
        Lift a hold; its id may be shortened to a beginning that only it has.

        Raises:
            StoreError: There is no such hold, there are several, or they cannot be written.
        """
        with self._blob.locked():
            holds = self.list()
            found = self._one_of(holds, hold_id)
            self._write(tuple(hold for hold in holds if hold is not found))
        return found

    @contextmanager
    def unchanging(self) -> Iterator[tuple[Hold, ...]]:
        """
        Give all holds, and let nobody add one until the work that depends on them is done.

        On a disk that is so full that not even a lock can be made they are given
        without: removing must work there.

        Raises:
            StoreError: They cannot be read.
            TamperedError: They are not what was written.
        """
        with ExitStack() as stack:
            with suppress(StoreError):
                stack.enter_context(self._blob.locked())
            yield self.list()

    def get(self, hold_id: str) -> Hold:
        """
        Find a hold by its id, or by a beginning that only it has.

        Raises:
            StoreError: There is no such hold, or there are several.
        """
        return self._one_of(self.list(), hold_id)

    def holder_of(self, segment: SegmentInfo, holds: tuple[Hold, ...] | None = None) -> Hold | None:
        """
        Say which hold keeps a segment; `None` where it may be removed.

        Args:
            segment:
                What the store says of the file.

            holds:
                Those that were read before, when many segments are asked for.

        Raises:
            StoreError: The holds cannot be read.
            TamperedError: They are not what was written.
        """
        for hold in self.list() if holds is None else holds:
            if segment.spans and not hold.overlaps(*segment.start_range_unix_ns):
                continue
            if hold.agent is None or self._has_agent(segment, hold):
                return hold
        return None

    def _has_agent(self, segment: SegmentInfo, hold: Hold) -> bool:
        """Whether a segment has a span of the agent in the time; one that cannot be read may have."""
        troubles: list[object] = []
        try:
            opened = SegmentFile.open(self._segments / segment.name, self._keystore, troubles.append)
            if opened is None:
                return True
            with opened:
                rows = 0
                for frame in opened.frames({Kind.FEATURES}):
                    block = decode_features(frame.plain, _COLUMNS)
                    rows += block.rows
                    if _touches(block, hold):
                        return True
        except (AgentGuardError, OSError):
            return True
        return bool(troubles) or rows < segment.spans

    def _one_of(self, holds: tuple[Hold, ...], hold_id: str) -> Hold:
        """The hold of that id."""
        found = [hold for hold in holds if hold_id and hold.hold_id.startswith(hold_id.lower())]
        if len(found) != 1:
            raise StoreError(f"hold: got {hold_id!r}, which names {len(found)} holds, expected one").hint(
                "`agentguard store hold list` has their ids"
            )
        return found[0]

    def _write(self, holds: tuple[Hold, ...]) -> None:
        document = {"version": _VERSION, "holds": [asdict(hold) for hold in holds]}
        self._blob.write(json.dumps(document, ensure_ascii=True).encode())


def _touches(block: FeatureBlock, hold: Hold) -> bool:
    """Whether a row of a feature block is held."""
    agents, starts = block.columns.get("agent"), block.columns.get("start_unix_ns")
    if agents is None or starts is None or hold.agent is None:
        return True
    wanted = hold.agent[:_AGENT_CHARS_MAX]
    if wanted not in agents.dictionary:
        return False
    number = agents.dictionary.index(wanted)
    return any(
        agent == number and hold.overlaps(start, start)
        for agent, start in zip(agents.values, starts.values, strict=True)
    )
