"""
State that decisions need: rates, spend, approvals and the kill switch.

Takes questions of the present and gives answers about the past, of one process
(`MemoryState`, for replay and tests) or of the whole machine (`MachineState`).
It decides nothing. State that is missing, altered or set back raises: whoever
asks must then deny.
"""

from agentguard.state._state import MachineState, MemoryState, State
from agentguard.state.action import Action, freeze_action
from agentguard.state.approval_request import ApprovalRequest, RequestState
from agentguard.state.approver_key import create_approver_key, load_approver_key
from agentguard.state.canonical import canonical_json
from agentguard.state.gates import Answer, Ticket, Used, answer_gates, give_back, settle_tickets
from agentguard.state.kill import KillOrder
from agentguard.state.reviewing import Oversight, Reviewing, oversight
from agentguard.state.scoped_approvals import ScopedGrant
from agentguard.state.scopes import Scope, check_scope, scope_in_words
from agentguard.state.spend import Spend, Spent
from agentguard.state.votes import (
    APPROVE,
    DENY,
    Approver,
    Approvers,
    Vote,
    approvers_of,
    sign_vote,
    vote_document,
    vote_of,
)

__all__ = [
    "APPROVE",
    "DENY",
    "Action",
    "Answer",
    "ApprovalRequest",
    "Approver",
    "Approvers",
    "KillOrder",
    "MachineState",
    "MemoryState",
    "Oversight",
    "RequestState",
    "Reviewing",
    "Scope",
    "ScopedGrant",
    "Spend",
    "Spent",
    "State",
    "Ticket",
    "Used",
    "Vote",
    "answer_gates",
    "approvers_of",
    "canonical_json",
    "check_scope",
    "create_approver_key",
    "freeze_action",
    "give_back",
    "load_approver_key",
    "oversight",
    "scope_in_words",
    "settle_tickets",
    "sign_vote",
    "vote_document",
    "vote_of",
]
