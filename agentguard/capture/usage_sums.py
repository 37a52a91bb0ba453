"""
Adding up usages: reports of one response become one, attempts are billed together.

Also says which attributes a span of a given kind carries for them. Pure but for
one lock, which guards the sums of a span that several threads add to.
"""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from agentguard.capture.usage_shapes import token_count
from agentguard.forks import free_in_child
from agentguard.values import AttributeValue, Usage
from agentguard.values import attributes as names
from agentguard.values.attributes import Profile

_TOKEN_FIELDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
"""The fields of `Usage` that count tokens."""

_OWN_USAGE_KINDS: Final = frozenset({"model", "embeddings"})
"""Kinds whose spans carry `gen_ai.usage.*`; on others backends would count the tokens twice."""


class UsageTotals(NamedTuple):
    """Sums over several responses; `None` where no response said anything."""

    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


_new: Final = tuple.__new__
"""Makes totals of three values as a row of them, in one step: each model call adds some."""


# One that a thread may take again: what the interpreter collects while it is held may be a stream that
# nobody has read to its end, which is a call that ends there.
SUMS_LOCK: Final = free_in_child(threading.RLock())
"""Held while the totals of a span are added to; never across I/O."""


def totals_of(usage: Usage) -> UsageTotals | None:
    """Take the sums of one usage; None where it has no numbers."""
    inputs, outputs, cost_usd = usage[0], usage[1], usage[9]
    if inputs is None and outputs is None and cost_usd is None:
        return None
    return _new(UsageTotals, (inputs, outputs, cost_usd))


def add_totals(first: UsageTotals | None, second: UsageTotals) -> UsageTotals:
    """Add two sums, field by field; what is unknown adds nothing."""
    if first is None:
        return second
    inputs, outputs, cost_usd = first
    more_inputs, more_outputs, more_usd = second
    return _new(
        UsageTotals,
        (
            more_inputs if inputs is None else inputs + (more_inputs or 0),
            more_outputs if outputs is None else outputs + (more_outputs or 0),
            more_usd if cost_usd is None else cost_usd + (more_usd or 0.0),
        ),
    )


def combine_usage(old: Usage, new: Usage, billed: UsageTotals | None) -> tuple[Usage, UsageTotals | None]:
    """
    Put a further report beside an earlier one.

    Args:
        old:
            What the span has.
        new:
            What is reported now.
        billed:
            The sum over attempts so far, or None while there was only one.

    Returns:
        The usage that stands, and the new sum over attempts. Reports of the same
        response id, and reports that do not contradict each other, are one response;
        any other report is a further attempt.

    """
    is_same = new.response_id is not None and new.response_id == old.response_id
    is_other = None not in {old.response_id, new.response_id} and not is_same
    if is_same or not (is_other or _contradicts(old, new)):
        return _fill(old, new), billed
    first = billed if billed is not None else totals_of(old)
    more = totals_of(new)
    return new, first if more is None else add_totals(first, more)


def _contradicts(old: Usage, new: Usage) -> bool:
    """Whether both give the same count, and not the same number."""
    pairs = ((getattr(old, field), getattr(new, field)) for field in _TOKEN_FIELDS)
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _fill(old: Usage, new: Usage) -> Usage:
    """Put the newer report over the older one."""
    said = {field: value for field, value in new._asdict().items() if value not in (None, ())}
    return old._replace(**said)


def with_numbers(
    usage: Usage | None, input_tokens: int | None, output_tokens: int | None, cost_usd: float | None
) -> Usage:
    """Put given numbers over those found; numbers that cannot be counts are ignored."""
    usage = usage or Usage()
    given_input, given_output = token_count(input_tokens), token_count(output_tokens)
    is_price = isinstance(cost_usd, (int, float)) and 0 <= cost_usd < float("inf")
    return usage._replace(
        input_tokens=usage.input_tokens if given_input is None else given_input,
        output_tokens=usage.output_tokens if given_output is None else given_output,
        cost_usd=float(cost_usd) if is_price and cost_usd is not None else usage.cost_usd,
    )


def usage_attributes(
    found: dict[str, AttributeValue],
    *,
    kind: str,
    usage: Usage | None,
    billed: UsageTotals | None,
    is_billed_whole: bool,
    totals: UsageTotals | None,
    is_failed: bool,
    is_ended: bool,
    profile: Profile,
    is_plain_on_agents: bool,
) -> None:
    """
    Write what is known of the usage into the attributes of a span.

    Args:
        found:
            The attributes, changed in place; names set by hand stay.
        kind:
            Kind of the span.
        usage:
            What the call reported itself.
        billed:
            The sum over its attempts, where there were several.
        is_billed_whole:
            Whether each attempt has a price; the price of some would pass for that of all.
        totals:
            The sum over the calls below it.
        is_failed:
            Whether the call raised, was cancelled or denied: no usage is then no gap.
        is_ended:
            Whether nothing more can be reported.
        profile:
            Which generation of names to write.
        is_plain_on_agents:
            Write `gen_ai.usage.*` on spans of other kinds too.

    """
    # Around another model call whose usage is known, the inner span is the owner of the tokens.
    is_model = kind in _OWN_USAGE_KINDS and totals is None
    if usage is not None and (is_model or is_plain_on_agents):
        _write_usage(found, usage, profile)
    if usage is not None and not is_model:
        _write_answer(found, usage)
    if is_model:
        if billed is not None:
            _put(found, names.USAGE_BILLED_INPUT_TOKENS, billed.input_tokens)
            _put(found, names.USAGE_BILLED_OUTPUT_TOKENS, billed.output_tokens)
            if is_billed_whole:
                _put(found, names.COST_BILLED_USD, billed.cost_usd)
        if (
            is_ended
            and not is_failed
            and names.INPUT_TOKENS not in found
            and names.OUTPUT_TOKENS not in found
        ):
            found.setdefault(names.USAGE_MISSING, True)
        return
    sums = totals or billed or (totals_of(usage) if usage is not None else None)
    if sums is not None:
        _put(found, names.USAGE_TOTAL_INPUT_TOKENS, sums.input_tokens)
        _put(found, names.USAGE_TOTAL_OUTPUT_TOKENS, sums.output_tokens)
        _put(found, names.COST_TOTAL_USD, sums.cost_usd)


def _put(found: dict[str, AttributeValue], key: str, value: AttributeValue | None) -> None:
    """Set what is known and was not set by hand."""
    if value is not None:
        found.setdefault(key, value)


def _write_answer(found: dict[str, AttributeValue], usage: Usage) -> None:
    """Write who answered and how it ended."""
    if usage.finish_reasons:
        _put(found, names.RESPONSE_FINISH_REASONS, usage.finish_reasons)


def _write_usage(found: dict[str, AttributeValue], usage: Usage, profile: Profile) -> None:
    """Write the tokens, the price and the answer of one model call."""
    _put(found, names.INPUT_TOKENS, usage.input_tokens)
    _put(found, names.OUTPUT_TOKENS, usage.output_tokens)
    _put(found, names.CACHE_READ_TOKENS, usage.cache_read_tokens)
    if profile != "latest":
        _put(found, names.CACHE_CREATION_TOKENS, usage.cache_write_tokens)
    if profile != "compat":
        _put(found, names.CACHE_WRITE_TOKENS, usage.cache_write_tokens)
    _put(found, names.REASONING_TOKENS, usage.reasoning_tokens)
    _put(found, names.RESPONSE_MODEL, usage.model)
    _put(found, names.RESPONSE_ID, usage.response_id)
    _put(found, names.PROVIDER_NAME, usage.provider)
    _write_answer(found, usage)
    if usage.cost_usd is not None:
        _put(found, names.COST_USD, usage.cost_usd)
        if profile != "compat":
            _put(found, names.COST_AMOUNT, usage.cost_usd)
            _put(found, names.COST_CURRENCY, "USD")
            # Where we priced it ourselves, the span says `local` already.
            _put(found, names.COST_SOURCE, "provider")
