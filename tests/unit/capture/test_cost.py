"""Known models have a price, unknown ones have none."""

from __future__ import annotations

import pytest

from agentguard.capture import Price, PriceTable, parse_prices
from agentguard.errors import ConfigurationError
from agentguard.values import Usage


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 1_000_000, model="gpt-4o"), 12.5),
        (Usage(1_000_000, 0, model="gpt-4o-2024-08-06"), 2.5),
        (Usage(1_000_000, 0, cache_read_tokens=1_000_000, model="openai/gpt-4o"), 1.25),
        (Usage(1_000_000, 0, cache_read_tokens=9_000_000, model="gpt-4o"), 1.25),
        (
            Usage(100_000, 0, cache_read_tokens=40_000, cache_write_tokens=20_000, model="claude-opus-4-5"),
            0.345,
        ),
        (Usage(300_000, 100_000, model="gemini-2.5-pro"), 2.25),
        (Usage(100_000, 100_000, model="gemini-2.5-pro"), 1.125),
        (Usage(1_000_000, None, model="text-embedding-3-small"), 0.02),
        (Usage(0, 0, model="gpt-4o"), 0.0),
        (Usage(5, None, model="gpt-4o"), None),
        (Usage(None, 5, model="gpt-4o"), None),
        (Usage(5, 5, model="somebody/else"), None),
        (Usage(5, 5), None),
    ],
)
def test_prices(usage: Usage, cost: float | None) -> None:
    """Cached, long and dated models; what is not known is None, not zero."""
    found = PriceTable().price_usd(usage)
    assert found == (None if cost is None else pytest.approx(cost))


def test_a_users_price_goes_first() -> None:
    """Own prices override pinned ones."""
    table = PriceTable(parse_prices('[prices."gpt-4o"]\ninput = 1\noutput = 1', "p.toml"))
    assert table.price_usd(Usage(1_000_000, 1_000_000, model="gpt-4o-2024-08-06")) == pytest.approx(2.0)
    assert PriceTable({"mine": Price(1.0, 0.0)}).price_usd(Usage(1_000_000, 5, model="mine")) == 1.0


def test_names_made_up_for_each_call_do_not_fill_the_memory() -> None:
    """The cache of names is bounded."""
    table = PriceTable()
    for number in range(5_000):
        table.price_usd(Usage(1, 1, model=f"model-{number}"))
    assert len(table.rates) <= 1_024


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "p.toml: "),
        ("x = 1", "unknown key `x`"),
        ("prices = 1", "table of models"),
        ("[prices]\nm = 1", "got no table"),
        ("[prices.m]\ninput = 1", "`output` is missing"),
        ("[prices.m]\ninput = -1\noutput = 1", "`input` is to be dollars"),
        ("[prices.m]\ninput = true\noutput = 1", "`input` is to be dollars"),
        ("[prices.m]\ninput = nan\noutput = 1", "`input` is to be dollars"),
        ('[prices.m]\ninput = "1"\noutput = 1', "`input` is to be dollars"),
        ("[prices.m]\ninput = 1\noutput = 1\ninptu = 1", "unknown key `inptu`"),
    ],
)
def test_files_that_cannot_be_used(text: str, problem: str) -> None:
    """Each mistake is named, with the file."""
    with pytest.raises(ConfigurationError) as caught:
        parse_prices(text, "p.toml")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("p.toml")
