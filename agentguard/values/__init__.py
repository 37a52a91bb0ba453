"""
Frozen values and ports: the words that all rooms share.

Takes nothing, gives the vocabulary. This room imports no other room and no
third-party package.
"""

from agentguard.values import attributes, metric_names
from agentguard.values.content import (
    CONVERSATION_ATTRIBUTES,
    USER_ATTRIBUTES,
    is_content,
    is_personal,
)
from agentguard.values.decision import (
    GATES,
    MODIFIERS,
    WAYS_OUT,
    ApprovalTerms,
    BreakerTerms,
    BudgetTerms,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    MatchedRule,
    Mode,
    Point,
    RecordMode,
    StateGate,
    ThrottleTerms,
)
from agentguard.values.facts import FACT_SCHEMA_VERSION, FACTS, FactSpec
from agentguard.values.features import (
    EVERYDAY_FEATURES,
    FEATURE_BLOCK_VERSION,
    FEATURES,
    FeatureSpec,
    FeatureType,
)
from agentguard.values.ports import (
    Clock,
    DecisionSink,
    DecisionSource,
    Ids,
    InternalErrorHook,
    KeyProvider,
    SpanSink,
    SpanSource,
    Verifier,
)
from agentguard.values.span import (
    Attributes,
    AttributeValue,
    FlushResult,
    GapRecord,
    OutcomeRecord,
    SpanEvent,
    SpanLink,
    SpanRecord,
    Usage,
)
from agentguard.values.verdict import NO_VERDICT, DriftStatus, FeatureVerdict, Verdict

__all__ = [
    "CONVERSATION_ATTRIBUTES",
    "EVERYDAY_FEATURES",
    "FACTS",
    "FACT_SCHEMA_VERSION",
    "FEATURES",
    "FEATURE_BLOCK_VERSION",
    "GATES",
    "MODIFIERS",
    "NO_VERDICT",
    "USER_ATTRIBUTES",
    "WAYS_OUT",
    "ApprovalTerms",
    "AttributeValue",
    "Attributes",
    "BreakerTerms",
    "BudgetTerms",
    "Clock",
    "Decision",
    "DecisionRecord",
    "DecisionSink",
    "DecisionSource",
    "DenialKind",
    "DriftStatus",
    "Effect",
    "FactSpec",
    "FeatureSpec",
    "FeatureType",
    "FeatureVerdict",
    "FlushResult",
    "GapRecord",
    "Ids",
    "InternalErrorHook",
    "KeyProvider",
    "MatchedRule",
    "Mode",
    "OutcomeRecord",
    "Point",
    "RecordMode",
    "SpanEvent",
    "SpanLink",
    "SpanRecord",
    "SpanSink",
    "SpanSource",
    "StateGate",
    "ThrottleTerms",
    "Usage",
    "Verdict",
    "Verifier",
    "attributes",
    "is_content",
    "is_personal",
    "metric_names",
]
