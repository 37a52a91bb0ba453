"""Batches of a journal: what waits is taken, written, and whoever waits for it is told."""

from __future__ import annotations

from agentguard.audit.committer import Committer
from agentguard.audit.ticket import JournalLimits, not_durable
from agentguard.audit.waiting import Batch, WaitingRecords
from agentguard.errors import AgentGuardError, AuditError
from agentguard.values import InternalErrorHook


class Batches:
    """Brings records from the queue to the files. One at a time writes: who calls `write` holds the committer's lock."""

    def __init__(
        self,
        records: WaitingRecords,
        committer: Committer,
        limits: JournalLimits,
        on_internal_error: InternalErrorHook,
    ) -> None:
        self.records = records
        self.committer = committer
        self.limits = limits
        self.group_size = 1
        """How many waited for the last batch that anybody waited for."""
        self._on_internal_error = on_internal_error

    def write(self, *, must_sync: bool) -> bool:
        """Write a batch of the queue; True where a batch was written."""
        batch = records, tickets, forms = Batch([], [], {})
        failure: AuditError | None = AuditError("decision log: interrupted while a record was written")
        taken = 0
        try:
            taken = self.records.take(self.limits.batch_records_max, batch, self._cannot_be_encoded)
            if records or tickets or self.committer.has_lost:
                self.committer.write(records, forms, must_sync=bool(tickets) or must_sync)
            failure = None
        except (AgentGuardError, OSError) as error:
            failure = error if isinstance(error, AuditError) else not_durable(error)
            self._on_internal_error("audit.write", error)
            alone = len(records) - sum(ticket.payload is not None for ticket in tickets)
            if alone > 0:
                self.committer.count_lost("not written", alone)
        finally:
            if tickets:
                self.group_size = len(tickets)
            for ticket in tickets:
                ticket.finish(failure)
        return failure is None and taken > 0

    def _cannot_be_encoded(self, error: AuditError) -> None:
        self.committer.count_lost("cannot be encoded", 1)
        self._on_internal_error("audit.encode", error)
