"""
The one table of names: attributes, span names, events and metrics, by profile.

The GenAI conventions of OpenTelemetry are all still in development, so their
names stand in this module only. The profile says which generation is emitted:
`compat` is what released instrumentations emit, `latest` is the development
version, `both` is the union. Names that begin with `agentguard.` are ours and
do not depend on the profile.

Source: open-telemetry/semantic-conventions 1.41.0 (docs/gen-ai) and
open-telemetry/semantic-conventions-genai (docs/gen-ai, model/gen-ai, model/mcp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

Profile: TypeAlias = Literal["compat", "latest", "both"]

PROFILES: Final[tuple[Profile, ...]] = ("compat", "latest", "both")

SEMCONV_VERSION: Final[Mapping[Profile, str]] = {
    "compat": "1.41.0",
    "latest": "1.42.0-dev",
    "both": "1.41.0+1.42.0-dev",
}
"""Version of the GenAI conventions a profile follows; it is written on each span."""

SCHEMA_URL: Final[Mapping[Profile, str]] = {
    "compat": "https://opentelemetry.io/schemas/1.41.0",
    "latest": "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev",
    "both": "https://opentelemetry.io/schemas/1.41.0",
}
"""What tracers, meters and loggers of OpenTelemetry are given as the schema of the names."""

ATTRIBUTE_SCHEMA_VERSION: Final = 1
"""Raised when a name of ours changes its meaning or type."""

# Names of the conventions ---------------------------------------------------

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
COST_SOURCE: Final = "gen_ai.usage.cost.source"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_VERSION: Final = "gen_ai.agent.version"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, no secret
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - the same
GUARDRAIL_TARGET_TYPE: Final = "gen_ai.guardrail.target.type"
GUARDRAIL_VERDICT_TYPE: Final = "gen_ai.guardrail.verdict.type"
GUARDRAIL_ACTION_TYPE: Final = "gen_ai.guardrail.action.type"
MCP_METHOD_NAME: Final = "mcp.method.name"
MCP_SESSION_ID: Final = "mcp.session.id"
MCP_PROTOCOL_VERSION: Final = "mcp.protocol.version"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"

# Our own names --------------------------------------------------------------

RUN_ID: Final = "agentguard.run.id"
CALL_ID: Final = "agentguard.call.id"
OWN_AGENT_VERSION: Final = "agentguard.agent.version"
SEMCONV: Final = "agentguard.semconv"
OUTCOME: Final = "agentguard.outcome"
ATTEMPTS: Final = "agentguard.attempts"
RETRY_ATTEMPT: Final = "agentguard.retry.attempt"
RETRY_SOURCE: Final = "agentguard.retry.source"
RETRY_BACKOFF_S: Final = "agentguard.retry.backoff_s"
STREAM_OUTCOME: Final = "agentguard.stream.outcome"
USAGE_MISSING: Final = "agentguard.usage.missing"
USAGE_TOTAL_INPUT_TOKENS: Final = "agentguard.usage.total.input_tokens"
USAGE_TOTAL_OUTPUT_TOKENS: Final = "agentguard.usage.total.output_tokens"
USAGE_BILLED_INPUT_TOKENS: Final = "agentguard.usage.billed.input_tokens"
USAGE_BILLED_OUTPUT_TOKENS: Final = "agentguard.usage.billed.output_tokens"
USAGE_COUNTED_BY: Final = "agentguard.usage.counted_by"
COST_USD: Final = "agentguard.cost.usd"
COST_BILLED_USD: Final = "agentguard.cost.billed_usd"
COST_TOTAL_USD: Final = "agentguard.cost.total_usd"
TOOL_EFFECT: Final = "agentguard.tool.effect"
PRINCIPAL_HASH: Final = "agentguard.principal.hash"
PRINCIPAL_ID: Final = "agentguard.principal.id"
INPUT_HASH: Final = "agentguard.input.hash"
OUTPUT_HASH: Final = "agentguard.output.hash"
INPUT_CONTENT: Final = "agentguard.input.content"
OUTPUT_CONTENT: Final = "agentguard.output.content"
CONTENT_REDACTIONS: Final = "agentguard.content.redactions"
CONTENT_TRUNCATED: Final = "agentguard.content.truncated"
CONTENT_UNREADABLE: Final = "agentguard.content.unreadable"
PARENT_FOREIGN: Final = "agentguard.parent.foreign"
PARENT_CALL_ID: Final = "agentguard.parent.call_id"
DROPPED_ATTRIBUTES: Final = "agentguard.dropped.attributes"
DROPPED_EVENTS: Final = "agentguard.dropped.events"
DROPPED_LINKS: Final = "agentguard.dropped.links"
LOAD_IN_FLIGHT: Final = "agentguard.load.in_flight"
LOAD_WAITED_S: Final = "agentguard.load.waited_s"
DECISION_ID: Final = "agentguard.policy.decision_id"
POLICY_ID: Final = "agentguard.policy.id"
POLICY_VERSION: Final = "agentguard.policy.version"
POLICY_RULE_ID: Final = "agentguard.policy.rule.id"
POLICY_VERDICT: Final = "agentguard.policy.verdict"
POLICY_ACTION: Final = "agentguard.policy.action"
POLICY_MODE: Final = "agentguard.policy.mode"
POLICY_REASON_CODE: Final = "agentguard.policy.reason_code"
FALLBACK_FROM: Final = "agentguard.fallback.from"
FALLBACK_RULE_ID: Final = "agentguard.fallback.rule.id"
POLICY_LATENCY_US: Final = "agentguard.policy.latency_us"
LABEL_PREFIX: Final = "agentguard.label."
"""A label of the run becomes an attribute with this prefix."""
LABEL_TENANT: Final = LABEL_PREFIX + "tenant"
"""The label whose values are segments of drift."""

FOREIGN_PREFIXES: Final = ("gen_ai.", "mcp.")
"""What tells the spans of other libraries that concern us."""

FOREIGN_KEPT_PREFIXES: Final = (
    "gen_ai.usage.",
    "mcp.method.",
    "mcp.protocol.",
    "network.",
    "rpc.",
    "jsonrpc.",
)
"""Names and numbers on such spans that can hold no content, beyond those of the table."""

USAGE_PREFIX: Final = "gen_ai.usage."

# Events ---------------------------------------------------------------------

EVENT_RETRY: Final = "agentguard.retry"
EVENT_POLICY: Final = "agentguard.policy"
EVENT_EXCEPTION: Final = "exception"
EVENT_EVALUATION: Final = "gen_ai.evaluation.result"
EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_OPERATION_EXCEPTION: Final = "gen_ai.client.operation.exception"

# Values ---------------------------------------------------------------------

OUTCOME_OK: Final = "ok"
OUTCOME_ERROR: Final = "error"
OUTCOME_CANCELLED: Final = "cancelled"
OUTCOME_ABANDONED: Final = "abandoned"
OUTCOME_DENIED: Final = "denied"
ERROR_OTHER: Final = "_OTHER"
"""`error.type` where nothing better is known; the value of the conventions."""


class OperationSpec(NamedTuple):
    """How spans of one operation are named and which role they play."""

    operation: str
    """Value of `gen_ai.operation.name`."""
    kind: str
    """Our word for it: `kind` of the span record."""
    otel_kind: Literal["internal", "client", "server", "producer", "consumer"]
    subject: str
    """The attribute whose value follows the operation in the name of the span; may be empty."""


_OPERATIONS: tuple[OperationSpec, ...] = (
    OperationSpec("chat", "model", "client", REQUEST_MODEL),
    OperationSpec("generate_content", "model", "client", REQUEST_MODEL),
    OperationSpec("text_completion", "model", "client", REQUEST_MODEL),
    OperationSpec("embeddings", "embeddings", "client", REQUEST_MODEL),
    OperationSpec("invoke_agent", "agent", "internal", AGENT_NAME),
    OperationSpec("create_agent", "create_agent", "client", AGENT_NAME),
    OperationSpec("invoke_workflow", "workflow", "internal", WORKFLOW_NAME),
    OperationSpec("plan", "plan", "internal", AGENT_NAME),
    OperationSpec("execute_tool", "tool", "internal", TOOL_NAME),
    OperationSpec("retrieval", "retriever", "client", DATA_SOURCE_ID),
    OperationSpec("search_memory", "memory", "client", ""),
    OperationSpec("create_memory", "memory", "client", ""),
    OperationSpec("update_memory", "memory", "client", ""),
    OperationSpec("upsert_memory", "memory", "client", ""),
    OperationSpec("delete_memory", "memory", "client", ""),
    OperationSpec("run_guardrail", "guardrail", "internal", ""),
)

OPERATIONS: Final[Mapping[str, OperationSpec]] = {spec.operation: spec for spec in _OPERATIONS}
"""By the value of `gen_ai.operation.name`."""

KIND_OPERATION: Final[Mapping[str, str]] = {
    "model": "chat",
    "embeddings": "embeddings",
    "agent": "invoke_agent",
    "create_agent": "create_agent",
    "workflow": "invoke_workflow",
    "plan": "plan",
    "tool": "execute_tool",
    "retriever": "retrieval",
    "memory": "search_memory",
    "guardrail": "run_guardrail",
}
"""The operation of a span kind where nothing else is said."""


def operation_spec(kind: str, operation: str = "") -> OperationSpec:
    """
    Say how a span of this kind is to be named.

    Args:
        kind:
            Our word: agent, model, tool, workflow, retriever, or any other.
        operation:
            The value for `gen_ai.operation.name`; empty takes the kind's own.

    Returns:
        The row of the table; for a kind or operation that is not in it an
        internal operation of that very name, without a subject.

    Example:
        >>> operation_spec("tool").operation
        'execute_tool'
        >>> operation_spec("summarise").operation
        'summarise'
    """
    name = operation or KIND_OPERATION.get(kind, kind)
    spec = OPERATIONS.get(name)
    if spec is None:
        known = OPERATIONS.get(KIND_OPERATION.get(kind, ""))
        if known is None:
            return OperationSpec(name, kind, "internal", "")
        return known._replace(operation=name)
    return spec if spec.kind == kind else spec._replace(kind=kind)


def span_name(operation: str, subject: str = "") -> str:
    """
    Name a span as the conventions do.

    Example:
        >>> span_name("execute_tool", "refund")
        'execute_tool refund'
        >>> span_name("chat")
        'chat'
    """
    return f"{operation} {subject}" if subject else operation
