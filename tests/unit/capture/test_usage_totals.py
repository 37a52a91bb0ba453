"""Sums over calls: what is known is added, and what nobody knows stays unknown."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture.usage_sums import UsageTotals, add_totals, totals_of
from agentguard.values import Usage

tokens = st.none() | st.integers(0, 2**63 - 1)
prices = st.none() | st.floats(0, 1e6)
usages = st.builds(Usage, tokens, tokens, cost_usd=prices)


@given(st.lists(usages, max_size=6))
def test_adding_usages(added: list[Usage]) -> None:
    """Field by field, in the order in which they come: the sum of what is known, and None where nothing is."""
    found = reduce(
        lambda sums, more: sums if more is None else add_totals(sums, more), map(totals_of, added), None
    )
    for place, field in enumerate(("input_tokens", "output_tokens", "cost_usd")):
        known = [value for value in (getattr(usage, field) for usage in added) if value is not None]
        total = reduce(lambda first, second: first + second, known) if known else None
        assert (None if found is None else found[place]) == total
    assert found is None or type(found) is UsageTotals
