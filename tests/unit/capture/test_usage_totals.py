"""Sums over calls: adding a usage is adding its sums, whatever of it is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture.usage_sums import UsageTotals, add_to_totals, add_totals, totals_of
from agentguard.values import Usage

tokens = st.none() | st.integers(0, 2**63 - 1)
prices = st.none() | st.floats(0, 1e6)
usages = st.builds(Usage, tokens, tokens, cost_usd=prices)


@given(st.none() | st.builds(UsageTotals, tokens, tokens, prices), st.lists(usages, max_size=4))
def test_adding_a_usage_is_adding_its_sums(before: UsageTotals | None, added: list[Usage]) -> None:
    """From any sums on, step by step: the same numbers, and None where nothing is known."""
    known = found = before
    for usage in added:
        more = totals_of(usage)
        if more is not None:
            known = add_totals(known, more)
        found = add_to_totals(found, usage)
        assert found == known
        assert found is None or type(found) is UsageTotals
    assert add_to_totals(None, (5, 3, None, None, None, "m", None, (), None, 0.5)) == (5, 3, 0.5)
