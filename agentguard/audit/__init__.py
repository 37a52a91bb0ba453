"""
The decision log: chained, sealed, signed records of every decision.

Takes decision records, gives them back and says whether they are unaltered. It
decides nothing, and never hands out bytes that do not authenticate.
"""

from agentguard.audit.journal import DecisionJournal
from agentguard.audit.reader import read_decisions, read_entries
from agentguard.audit.records import StoredDecision, StoredEvent
from agentguard.audit.report import Answer, Finding, Question, VerdictLine, VerifyReport
from agentguard.audit.ticket import JournalLimits
from agentguard.audit.verification import verify

__all__ = [
    "Answer",
    "DecisionJournal",
    "Finding",
    "JournalLimits",
    "Question",
    "StoredDecision",
    "StoredEvent",
    "VerdictLine",
    "VerifyReport",
    "read_decisions",
    "read_entries",
    "verify",
]
