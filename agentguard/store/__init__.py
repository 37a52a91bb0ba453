"""
The store: finished spans in sealed segments, and the way back.

Takes span records, outcomes and gaps; gives segments, queries, feature blocks and
small sealed files. Content never reaches the disk in clear; what is lost is
counted; what is damaged is told apart from what was tampered with. No numpy here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentguard.store._blob import BLOB_KINDS, SealedBlob
from agentguard.store._compaction import Compacted
from agentguard.store._config import WriterConfig
from agentguard.store._damage import Damage, DamageReport
from agentguard.store._disk import Disk
from agentguard.store._features import Column, FeatureBlock
from agentguard.store._hold import HOLD, INCIDENT, Hold, Holds
from agentguard.store._keeping import Housekeeper
from agentguard.store._keyring import CONVERSATION, USER, Subject
from agentguard.store._layout import SEGMENT_VERSION
from agentguard.store._members import Member
from agentguard.store._query import Query
from agentguard.store._reading import Cursor, Positioned, PositionedColumns, SegmentInfo
from agentguard.store._retention import Removed
from agentguard.store._store import Store, StoreInfo
from agentguard.store._telling import has_content, tell_before_content
from agentguard.store._writer import SegmentWriter

if TYPE_CHECKING:
    from agentguard.store._backup import Backup, restore
    from agentguard.store._erasing import Erasure
    from agentguard.store._repair import Repaired
    from agentguard.store._sql import SqlResult
    from agentguard.store._stats import CallStats, stats_of

__all__ = [
    "BLOB_KINDS",
    "CONVERSATION",
    "HOLD",
    "INCIDENT",
    "SEGMENT_VERSION",
    "USER",
    "Backup",
    "CallStats",
    "Column",
    "Compacted",
    "Cursor",
    "Damage",
    "DamageReport",
    "Disk",
    "Erasure",
    "FeatureBlock",
    "Hold",
    "Holds",
    "Housekeeper",
    "Member",
    "Positioned",
    "PositionedColumns",
    "Query",
    "Removed",
    "Repaired",
    "SealedBlob",
    "SegmentInfo",
    "SegmentWriter",
    "SqlResult",
    "Store",
    "StoreInfo",
    "Subject",
    "WriterConfig",
    "has_content",
    "restore",
    "stats_of",
    "tell_before_content",
]

_LATER: Final = {
    "Backup": "_backup",
    "CallStats": "_stats",
    "Erasure": "_erasing",
    "Repaired": "_repair",
    "SqlResult": "_sql",
    "restore": "_backup",
    "stats_of": "_stats",
}
"""What a governed process never does: loaded on demand."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'agentguard.store' has no attribute {name!r}")
    return getattr(import_module(f"agentguard.store.{_LATER[name]}"), name)
