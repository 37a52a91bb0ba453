"""
What each attribute of a span means: type, where it stands, in which profiles.

The reference page comes from this table, and a test holds it against the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from agentguard.values import attributes as names
from agentguard.values.attributes import Profile

AttributeType: TypeAlias = Literal["string", "int", "double", "boolean", "string[]"]


class AttributeSpec(NamedTuple):
    """One attribute."""

    name: str
    type: AttributeType
    where: str
    """Kinds of spans, or the event, that carry it."""
    description: str
    profiles: tuple[Profile, ...] = names.PROFILES
    is_content: bool = False
    """Whether it holds what people or models wrote: only with capture `redacted` or `full`."""


_COMPAT: Final[tuple[Profile, ...]] = ("compat", "both")
_LATEST: Final[tuple[Profile, ...]] = ("latest", "both")
_MODEL: Final = "model"
_ALL: Final = "all"

_SPECS: tuple[AttributeSpec, ...] = (
    AttributeSpec(names.OPERATION_NAME, "string", _ALL, "Operation, such as chat, execute_tool, invoke_agent."),
    AttributeSpec(names.PROVIDER_NAME, "string", _MODEL, "Provider of the model, such as openai."),
    AttributeSpec(names.CONVERSATION_ID, "string", _ALL, "Conversation, if the application gave one."),
    AttributeSpec(names.OUTPUT_TYPE, "string", _MODEL, "Requested kind of output: text, json, image, speech."),
    AttributeSpec(names.REQUEST_MODEL, "string", _MODEL, "Requested model."),
    AttributeSpec(names.REQUEST_STREAM, "boolean", _MODEL, "True where a stream was requested."),
    AttributeSpec(names.REQUEST_SEED, "int", _MODEL, "Requested seed."),
    AttributeSpec(names.REQUEST_TOP_K, "int", _MODEL, "Requested top_k."),
    AttributeSpec(names.REQUEST_TOP_P, "double", _MODEL, "Requested top_p."),
    AttributeSpec(names.REQUEST_CHOICE_COUNT, "int", _MODEL, "Requested choices, where not 1."),
    AttributeSpec(names.REQUEST_MAX_TOKENS, "int", _MODEL, "Most output tokens requested."),
    AttributeSpec(names.REQUEST_TEMPERATURE, "double", _MODEL, "Requested temperature."),
    AttributeSpec(names.REQUEST_FREQUENCY_PENALTY, "double", _MODEL, "Requested frequency penalty."),
    AttributeSpec(names.REQUEST_PRESENCE_PENALTY, "double", _MODEL, "Requested presence penalty."),
    AttributeSpec(names.REQUEST_STOP_SEQUENCES, "string[]", _MODEL, "Requested stop sequences."),
    AttributeSpec(names.REQUEST_REASONING_LEVEL, "string", _MODEL, "Requested effort of reasoning.", _LATEST),
    AttributeSpec(names.REQUEST_ENCODING_FORMATS, "string[]", "embeddings", "Requested encodings."),
    AttributeSpec(names.PROMPT_NAME, "string", _MODEL, "Name of the prompt."),
    AttributeSpec(names.PROMPT_VERSION, "string", _MODEL, "Version of the prompt."),
    AttributeSpec(names.RESPONSE_ID, "string", _MODEL, "Id of the response, from the provider."),
    AttributeSpec(names.RESPONSE_MODEL, "string", _MODEL, "Model that answered."),
    AttributeSpec(names.RESPONSE_FINISH_REASONS, "string[]", "model, agent", "Why each choice ended."),
    AttributeSpec(names.TIME_TO_FIRST_CHUNK_S, "double", _MODEL, "Seconds from the start to the first chunk with content; streams only."),
    AttributeSpec(names.INPUT_TOKENS, "int", _MODEL, "Input tokens, cached ones included. On agent spans only if so configured."),
    AttributeSpec(names.OUTPUT_TOKENS, "int", _MODEL, "Output tokens, reasoning included."),
    AttributeSpec(names.CACHE_READ_TOKENS, "int", _MODEL, "Input tokens read from a cache."),
    AttributeSpec(names.CACHE_CREATION_TOKENS, "int", _MODEL, "Input tokens written to a cache.", _COMPAT),
    AttributeSpec(names.CACHE_WRITE_TOKENS, "int", _MODEL, "Input tokens written to a cache.", _LATEST),
    AttributeSpec(names.REASONING_TOKENS, "int", _MODEL, "Output tokens used for reasoning."),
    AttributeSpec(names.COST_AMOUNT, "double", _MODEL, "Cost of the call, where the price is known.", _LATEST),
    AttributeSpec(names.COST_CURRENCY, "string", _MODEL, "Currency of the cost: USD.", _LATEST),
    AttributeSpec(names.COST_SOURCE, "string", _MODEL, "Who says so: provider or local.", _LATEST),
    AttributeSpec(names.INPUT_MESSAGES, "string", _MODEL, "Messages sent.", is_content=True),
    AttributeSpec(names.OUTPUT_MESSAGES, "string", _MODEL, "Messages received.", is_content=True),
    AttributeSpec(names.SYSTEM_INSTRUCTIONS, "string", _MODEL, "Instructions of the system.", is_content=True),
    AttributeSpec(names.TOOL_DEFINITIONS, "string", _MODEL, "Tools offered to the model.", is_content=True),
    AttributeSpec(names.AGENT_NAME, "string", "agent, tool, model", "Name of the innermost agent."),
    AttributeSpec(names.AGENT_ID, "string", "agent", "Stable id of a hosted agent."),
    AttributeSpec(names.AGENT_VERSION, "string", "agent", "Declared version of the agent.", _COMPAT),
    AttributeSpec(names.AGENT_DESCRIPTION, "string", "agent", "Declared description of the agent."),
    AttributeSpec(names.WORKFLOW_NAME, "string", "workflow", "Name of the workflow."),
    AttributeSpec(names.DATA_SOURCE_ID, "string", "retriever", "What was searched."),
    AttributeSpec(names.RETRIEVAL_TOP_K, "int", "retriever", "Results asked for."),
    AttributeSpec(names.RETRIEVAL_QUERY, "string", "retriever", "The query.", is_content=True),
    AttributeSpec(names.RETRIEVAL_DOCUMENTS, "string", "retriever", "What was found.", is_content=True),
    AttributeSpec(names.TOOL_NAME, "string", "tool", "Name of the tool."),
    AttributeSpec(names.TOOL_TYPE, "string", "tool", "function, extension or datastore."),
    AttributeSpec(names.TOOL_DESCRIPTION, "string", "tool", "Declared description of the tool."),
    AttributeSpec(names.TOOL_CALL_ID, "string", "tool", "Id of the call, from the model."),
    AttributeSpec(names.TOOL_CALL_ARGUMENTS, "string", "tool", "Arguments as JSON.", is_content=True),
    AttributeSpec(names.TOOL_CALL_RESULT, "string", "tool", "Result, as text or JSON.", is_content=True),
    AttributeSpec(names.EMBEDDINGS_DIMENSION_COUNT, "int", "embeddings", "Dimensions of the vectors."),
    AttributeSpec(names.EVALUATION_NAME, "string", "event gen_ai.evaluation.result", "What was judged."),
    AttributeSpec(names.EVALUATION_SCORE_VALUE, "double", "event gen_ai.evaluation.result", "The score."),
    AttributeSpec(names.EVALUATION_SCORE_LABEL, "string", "event gen_ai.evaluation.result", "The score in words."),
    AttributeSpec(names.TOKEN_TYPE, "string", "metrics", "input or output.", _COMPAT),
    AttributeSpec(names.TOKEN_MODALITY, "string", "metrics", "Kind of the tokens: `unknown`, since SDKs do not say.", _LATEST),
    AttributeSpec(names.GUARDRAIL_TARGET_TYPE, "string", "event agentguard.policy", "input or output.", _LATEST),
    AttributeSpec(names.GUARDRAIL_VERDICT_TYPE, "string", "event agentguard.policy", "What the rule says.", _LATEST),
    AttributeSpec(names.GUARDRAIL_ACTION_TYPE, "string", "event agentguard.policy", "What was done.", _LATEST),
    AttributeSpec(names.MCP_METHOD_NAME, "string", "tool", "Method of the Model Context Protocol."),
    AttributeSpec(names.MCP_SESSION_ID, "string", "tool", "Session of the protocol."),
    AttributeSpec(names.MCP_PROTOCOL_VERSION, "string", "tool", "Version of the protocol."),
    AttributeSpec(names.ERROR_TYPE, "string", _ALL, "Code of the provider, else class of the exception; `cancelled`, `denied`, `_OTHER` for an abandoned stream."),
    AttributeSpec(names.EXCEPTION_TYPE, "string", "events exception, gen_ai.client.operation.exception", "Class of the exception."),
    AttributeSpec(names.EXCEPTION_MESSAGE, "string", "event exception", "Its text.", is_content=True),
    AttributeSpec(names.EXCEPTION_STACKTRACE, "string", "event exception", "Its trace, if somebody else recorded one.", is_content=True),
    AttributeSpec(names.HTTP_RESEND_COUNT, "int", _ALL, "Retries inside the call; only where there were any."),
    AttributeSpec(names.HTTP_STATUS_CODE, "int", "event agentguard.retry", "Status of the failed attempt."),
    AttributeSpec(names.SERVER_ADDRESS, "string", _MODEL, "Host of the model."),
    AttributeSpec(names.SERVER_PORT, "int", _MODEL, "Its port."),
    AttributeSpec(names.SESSION_ID, "string", _ALL, "Session, if the application gave one."),
    AttributeSpec(names.USER_ID, "string", _ALL, "User, only if the application asks for it."),
    AttributeSpec(names.RUN_ID, "string", _ALL, "The run that the call belongs to."),
    AttributeSpec(names.LABEL_TENANT, "string", _ALL, "Label `tenant` of the run: drift is looked for in each tenant apart. Other labels have the same prefix."),
    AttributeSpec(names.CALL_ID, "string", "event gen_ai.evaluation.result", "The call that was judged, where its trace is not known any more."),
    AttributeSpec(names.OWN_AGENT_VERSION, "string", "agent", "Declared version of the agent, which the later conventions have for hosted agents only.", _LATEST),
    AttributeSpec(names.SEMCONV, "string", _ALL, "Version of the GenAI conventions that the names follow."),
    AttributeSpec(names.OUTCOME, "string", _ALL, "error, cancelled, abandoned or denied; not set where the call went well."),
    AttributeSpec(names.ATTEMPTS, "int", _ALL, "Retries and one; only where there were retries."),
    AttributeSpec(names.RETRY_ATTEMPT, "int", "event agentguard.retry", "Number of the failed attempt, from 1."),
    AttributeSpec(names.RETRY_SOURCE, "string", "event agentguard.retry", "Who retries: sdk, http, tenacity, stamina, agentguard."),
    AttributeSpec(names.RETRY_BACKOFF_S, "double", "event agentguard.retry", "Seconds before the next attempt."),
    AttributeSpec(names.STREAM_OUTCOME, "string", _ALL, "abandoned, where a stream was not read to its end."),
    AttributeSpec(names.USAGE_MISSING, "boolean", _MODEL, "True where a call that went well, or was abandoned, said nothing of its tokens."),
    AttributeSpec(names.USAGE_TOTAL_INPUT_TOKENS, "int", "agent and others around model calls", "Input tokens of all calls inside, each counted once."),
    AttributeSpec(names.USAGE_TOTAL_OUTPUT_TOKENS, "int", "agent and others around model calls", "Output tokens of all calls inside."),
    AttributeSpec(names.USAGE_BILLED_INPUT_TOKENS, "int", _MODEL, "Input tokens over all attempts that answered, where there were several."),
    AttributeSpec(names.USAGE_BILLED_OUTPUT_TOKENS, "int", _MODEL, "Output tokens over all attempts that answered."),
    AttributeSpec(names.USAGE_COUNTED_BY, "string", "spans of other libraries", "The model call of ours around this span, which has its tokens."),
    AttributeSpec(names.COST_USD, "double", _MODEL, "Cost of the call in US dollars, where the price is known."),
    AttributeSpec(names.COST_BILLED_USD, "double", _MODEL, "Cost over all attempts that answered, where there were several and each has a price."),
    AttributeSpec(names.COST_TOTAL_USD, "double", "agent and others around model calls", "Cost of all calls inside with a known price."),
    AttributeSpec(names.TOOL_EFFECT, "string", "tool", "none, read or write, as declared."),
    AttributeSpec(names.PRINCIPAL_HASH, "string", _ALL, "Keyed hash of the principal."),
    AttributeSpec(names.PRINCIPAL_ID, "string", _ALL, "On whose behalf the call ran; beside content, and sealed and erased with it.", is_content=True),
    AttributeSpec(names.INPUT_HASH, "string", _ALL, "Keyed hash of what went in."),
    AttributeSpec(names.OUTPUT_HASH, "string", _ALL, "Keyed hash of what came out."),
    AttributeSpec(names.INPUT_CONTENT, "string", _ALL, "What went in, for kinds without a name of the conventions.", is_content=True),
    AttributeSpec(names.OUTPUT_CONTENT, "string", _ALL, "What came out, for kinds without a name of the conventions.", is_content=True),
    AttributeSpec(names.CONTENT_REDACTIONS, "int", _ALL, "Findings replaced in arguments, result or content."),
    AttributeSpec(names.CONTENT_TRUNCATED, "boolean", _ALL, "True where content was cut to its limit."),
    AttributeSpec(names.CONTENT_UNREADABLE, "string", _ALL, "Why content that was recorded is not shown: `erased`, `no_key` where the key that opens it is not there, or `damaged`. Set when a span is read."),
    AttributeSpec(names.PARENT_FOREIGN, "boolean", _ALL, "True where the span above is another library's and may not be stored."),
    AttributeSpec(names.PARENT_CALL_ID, "string", _ALL, "The nearest call of ours around this one, where the span above is foreign."),
    AttributeSpec(names.DROPPED_ATTRIBUTES, "int", _ALL, "Attributes dropped: limit, type or key."),
    AttributeSpec(names.DROPPED_EVENTS, "int", _ALL, "Events dropped over the limit."),
    AttributeSpec(names.DROPPED_LINKS, "int", _ALL, "Links dropped over the limit."),
    AttributeSpec(names.LOAD_IN_FLIGHT, "int", _ALL, "Calls of the same kind that ran in the process when this one began, itself included."),
    AttributeSpec(names.LOAD_WAITED_S, "double", _ALL, "Seconds the call waited before it could begin."),
    AttributeSpec(names.DECISION_ID, "string", "event agentguard.policy", "The record in the decision log."),
    AttributeSpec(names.POLICY_ID, "string", "event agentguard.policy", "Name of the policy document."),
    AttributeSpec(names.POLICY_VERSION, "string", "event agentguard.policy", "Revision of the bundle."),
    AttributeSpec(names.POLICY_RULE_ID, "string", "event agentguard.policy", "The rule that decided."),
    AttributeSpec(names.POLICY_VERDICT, "string", "event agentguard.policy", "What the rules say, shadow ones included."),
    AttributeSpec(names.POLICY_ACTION, "string", "event agentguard.policy", "What was done."),
    AttributeSpec(names.POLICY_MODE, "string", "event agentguard.policy", "enforce, warn or shadow."),
    AttributeSpec(names.POLICY_REASON_CODE, "string", "event agentguard.policy", "Kind of the denial."),
    AttributeSpec(names.FALLBACK_FROM, "string", _ALL, "What was asked for, where a rule sent the call elsewhere."),
    AttributeSpec(names.FALLBACK_RULE_ID, "string", _ALL, "The rules that sent it there."),
    AttributeSpec(names.POLICY_LATENCY_US, "double", "event agentguard.policy", "Microseconds the decision took."),
)  # fmt: skip

ATTRIBUTES: Final[Mapping[str, AttributeSpec]] = {spec.name: spec for spec in _SPECS}
"""All attributes by name, in the order of the reference page."""
