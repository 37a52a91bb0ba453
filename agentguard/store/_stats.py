"""
Calls, errors, latency, tokens and cost by agent, tool and model, from feature blocks alone.

Latencies go into logarithmic bins of 2 % width, so memory does not grow with the
number of spans.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from agentguard.store._features import FeatureBlock
from agentguard.store._query import Query

_GROWTH = math.log(1.02)
GROUPS_MAX = 10_000
"""Groups beyond this many are put together under `(others)`."""
_COLUMNS = (
    "duration_ns", "input_tokens", "output_tokens", "cost_usd", "retries", "is_error", "kind", "agent", "tool",
    "model",
)  # fmt: skip


class CallStats(NamedTuple):
    """The calls of one agent, tool or model."""

    kind: str
    """agent, tool, model, or another kind of span."""
    name: str
    """Of the agent, tool or model; empty where the kind has none."""
    calls: int
    errors: int
    retries: int
    p50_ms: float
    """Median latency, within 1 %."""
    p95_ms: float
    p99_ms: float
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """`None` where no call had a known cost."""


class _Group:
    """What is counted of one group."""

    __slots__ = ("bins", "calls", "cost", "errors", "has_cost", "inputs", "outputs", "retries")

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.calls = self.errors = self.retries = self.inputs = self.outputs = 0
        self.cost = 0.0
        self.has_cost = False

    def quantile_ms(self, share: float) -> float:
        """The latency that *share* of the calls did not exceed."""
        rank, seen = max(math.ceil(share * self.calls), 1), 0
        for number in sorted(self.bins):
            seen += self.bins[number]
            if seen >= rank:
                return math.exp((number - 0.5) * _GROWTH) / 1e6 if number else 0.0
        return 0.0


def stats_of(
    query: Query,
    *,
    since_unix_ns: int | None = None,
    until_unix_ns: int | None = None,
    agent: str | None = None,
) -> list[CallStats]:
    """
    Count the calls of a store by kind and name, the most frequent first.

    Args:
        query:
            What to read.

        since_unix_ns:
            Earliest start, included.

        until_unix_ns:
            Latest start, excluded.

        agent:
            Only calls of this agent.
    """
    blocks = query.features(_COLUMNS, since_unix_ns=since_unix_ns, until_unix_ns=until_unix_ns)
    groups = _count(blocks, agent)
    found = [
        CallStats(
            kind, name, group.calls, group.errors, group.retries, group.quantile_ms(0.5),
            group.quantile_ms(0.95), group.quantile_ms(0.99), group.inputs, group.outputs,
            group.cost if group.has_cost else None,
        )
        for (kind, name), group in groups.items()
    ]  # fmt: skip
    return sorted(found, key=lambda stats: (-stats.calls, stats.kind, stats.name))


def _count(blocks: Iterable[FeatureBlock], agent: str | None) -> dict[tuple[str, str], _Group]:
    """Go through the blocks once."""
    groups: dict[tuple[str, str], _Group] = {}
    for block in blocks:
        columns = block.columns
        if any(name not in columns for name in _COLUMNS):
            continue  # A block of another version that cannot answer this question.
        kinds, agents = columns["kind"].texts(), columns["agent"].texts()
        names = {
            "agent": agents,
            "tool": columns["tool"].texts(),
            "model": columns["model"].texts(),
            "embeddings": columns["model"].texts(),
        }
        for place in range(block.rows):
            if agent is not None and agents[place] != agent:
                continue
            kind = kinds[place]
            key = (kind, names[kind][place] if kind in names else "")
            group = groups.get(key)
            if group is None:
                if len(groups) >= GROUPS_MAX:
                    key = (kind, "(others)")
                group = groups.setdefault(key, _Group())
            _add(group, block, place)
    return groups


def _add(group: _Group, block: FeatureBlock, place: int) -> None:
    """Count one call."""
    columns = block.columns
    group.calls += 1
    group.errors += columns["is_error"].values[place]
    group.retries += columns["retries"].values[place]
    group.inputs += max(columns["input_tokens"].values[place], 0)
    group.outputs += max(columns["output_tokens"].values[place], 0)
    cost = columns["cost_usd"].values[place]
    if math.isfinite(cost):
        group.cost += cost
        group.has_cost = True
    duration = columns["duration_ns"].values[place]
    group.bins[math.ceil(math.log(duration) / _GROWTH) if duration > 0 else 0] += 1
