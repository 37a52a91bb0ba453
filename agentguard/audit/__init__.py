"""
The decision log: chained, sealed, signed records of every decision.

Takes decision records, gives them back, proves single ones and says whether all are
unaltered. It decides nothing, and never hands out bytes that do not authenticate.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentguard.audit.adopting import AdoptedJournal, adopt_abandoned
from agentguard.audit.anchoring import Kept, anchor_due, last_kept_unix_ns
from agentguard.audit.anchors import (
    Anchor,
    AnchorSink,
    FileAnchor,
    HookAnchor,
    WebhookAnchor,
    make_anchor,
    read_anchors,
)
from agentguard.audit.call_record import OUTCOME_NUMBERS, RUN_BYTES_MAX
from agentguard.audit.checkpoint import Checkpoint
from agentguard.audit.disk import Safeguards
from agentguard.audit.events import EVENTS, EventKind
from agentguard.audit.journal import DecisionJournal
from agentguard.audit.notes import NoteKey
from agentguard.audit.pruning import PrunedJournals, prune_journals
from agentguard.audit.reader import read_decisions, read_entries
from agentguard.audit.receipts import Receipt, Receipts
from agentguard.audit.records import CallForm, CallRecord, StoredDecision, StoredEvent
from agentguard.audit.report import Answer, Finding, Question, VerdictLine, VerifyReport
from agentguard.audit.targets import EXPECTED as ANCHOR_TARGETS
from agentguard.audit.targets import is_target, sink_for
from agentguard.audit.ticket import JournalLimits
from agentguard.audit.timestamps import TimestampAnchor, check_timestamp

if TYPE_CHECKING:
    from agentguard.audit.proof import (
        Proof,
        ProvenRecord,
        check_against,
        check_proof,
        read_proof,
        write_proof,
    )
    from agentguard.audit.proving import export_tiles, prove, prove_consistency
    from agentguard.audit.verification import verify

__all__ = [
    "ANCHOR_TARGETS",
    "EVENTS",
    "OUTCOME_NUMBERS",
    "RUN_BYTES_MAX",
    "AdoptedJournal",
    "Anchor",
    "AnchorSink",
    "Answer",
    "CallForm",
    "CallRecord",
    "Checkpoint",
    "DecisionJournal",
    "EventKind",
    "FileAnchor",
    "Finding",
    "HookAnchor",
    "JournalLimits",
    "Kept",
    "NoteKey",
    "Proof",
    "ProvenRecord",
    "PrunedJournals",
    "Question",
    "Receipt",
    "Receipts",
    "Safeguards",
    "StoredDecision",
    "StoredEvent",
    "TimestampAnchor",
    "VerdictLine",
    "VerifyReport",
    "WebhookAnchor",
    "adopt_abandoned",
    "anchor_due",
    "check_against",
    "check_proof",
    "check_timestamp",
    "export_tiles",
    "is_target",
    "last_kept_unix_ns",
    "make_anchor",
    "prove",
    "prove_consistency",
    "prune_journals",
    "read_anchors",
    "read_decisions",
    "read_entries",
    "read_proof",
    "sink_for",
    "verify",
    "write_proof",
]

_LATER: Final = {
    "Proof": "proof",
    "ProvenRecord": "proof",
    "check_against": "proof",
    "check_proof": "proof",
    "export_tiles": "proving",
    "prove": "proving",
    "prove_consistency": "proving",
    "read_proof": "proof",
    "verify": "verification",
    "write_proof": "proof",
}
"""What auditors ask of the log, and a governed process does not: loaded on demand."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'agentguard.audit' has no attribute {name!r}")
    return getattr(import_module(f"agentguard.audit.{_LATER[name]}"), name)
