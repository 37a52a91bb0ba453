"""
What a model call costs: a small pinned table, and the user's own prices.

Takes usages, gives US dollars, or None for an unknown model: no price is not
zero. Pure; the file of the user is read by others and handed in as text.

Source: prices of the providers as genai-prices 0.2.3 has them, November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Final, NamedTuple, TypeAlias

from agentguard.capture.usage_shapes import NAME_CHARS_MAX
from agentguard.errors import ConfigurationError
from agentguard.values import Usage

PRICES_AS_OF: Final = "2026-11-22"
"""When the pinned table was last compared with its source."""

RATES_MAX: Final = 1_024
"""Names of models of which the rate is remembered."""
_MODEL_SUFFIX: Final = re.compile(r"(?:-\d{4}-\d{2}-\d{2}|-\d{8}|-latest|@\d{8}|-v\d+:\d+)$")
_FIELDS: Final = ("input", "output", "cache_read", "cache_write")


Rate: TypeAlias = tuple[int, float | None, float, float, float]
"""
A price ready to be multiplied: up to how many input tokens it holds, and US dollars for a million tokens of input,
of input from a cache, of input into a cache, of output. None where nobody knows; up to -1 tokens where it cannot
be said so.
"""

TOKENS_MAX: Final = 2**30 - 1
"""The most tokens for which a rate holds: such numbers are compared in one step."""

NO_RATE: Final[Rate] = (TOKENS_MAX, None, 0.0, 0.0, 0.0)
"""That of a model whose price nobody knows."""

_NEVER: Final[Rate] = (-1, 0.0, 0.0, 0.0, 0.0)


class Price(NamedTuple):
    """US dollars for a million tokens of one model."""

    input: float
    output: float
    cache_read: float | None = None
    """For input tokens read from a cache; None: the price of input."""
    cache_write: float | None = None
    """For input tokens written to a cache; None: the price of input."""
    long_above_tokens: int | None = None
    """With more input tokens than this the price of the whole call is another one."""
    long_input_factor: float = 1.0
    long_output_factor: float = 1.0


_PINNED: Final[Mapping[str, Price]] = {
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "o3": Price(2.0, 8.0, 0.5),
    "o4-mini": Price(1.1, 4.4, 0.275),
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-5.1": Price(1.25, 10.0, 0.125),
    "gpt-5.2": Price(1.75, 14.0, 0.175),
    "text-embedding-3-small": Price(0.02, 0.0),
    "text-embedding-3-large": Price(0.13, 0.0),
    "claude-3-5-haiku": Price(0.8, 4.0, 0.08, 1.0),
    "claude-haiku-4-5": Price(1.0, 5.0, 0.1, 1.25),
    "claude-sonnet-4": Price(3.0, 15.0, 0.3, 3.75),
    "claude-sonnet-4-0": Price(3.0, 15.0, 0.3, 3.75),
    "claude-sonnet-4-5": Price(3.0, 15.0, 0.3, 3.75, 200_000, 2.0, 1.5),
    "claude-sonnet-4-6": Price(3.0, 15.0, 0.3, 3.75),
    "claude-opus-4-1": Price(15.0, 75.0, 1.5, 18.75),
    "claude-opus-4-5": Price(5.0, 25.0, 0.5, 6.25),
    "claude-opus-4-6": Price(5.0, 25.0, 0.5, 6.25),
    "gemini-2.0-flash": Price(0.1, 0.4, 0.025),
    "gemini-2.5-flash": Price(0.3, 2.5, 0.03),
    "gemini-2.5-flash-lite": Price(0.1, 0.4, 0.01),
    "gemini-2.5-pro": Price(1.25, 10.0, 0.125, None, 200_000, 2.0, 1.5),
    "gemini-3-flash-preview": Price(0.5, 3.0, 0.05),
    "gemini-3-pro-preview": Price(2.0, 12.0, 0.2, None, 200_000, 2.0, 1.5),
}


class PriceTable:
    """
    Prices by model name. A look-up is a dict access once a name was seen.

    Example:
        >>> round(PriceTable().price_usd(Usage(1_000_000, 100_000, model="gpt-5-2025-08-07")), 6)
        2.25
        >>> PriceTable().price_usd(Usage(5, 5, model="my-own")) is None
        True

    """

    __slots__ = ("_prices", "rates")

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = {**_PINNED, **(prices or {})}
        self.rates: dict[str, Rate] = {}
        """Of each model that was asked for, by its name; for who prices a response while reading it."""

    def find(self, model: str) -> Price | None:
        """Give the price of a model: by its name, else by its name without provider and date."""
        prices = self._prices
        short = model.rpartition("/")[2].lower()
        return prices.get(model) or prices.get(short) or prices.get(_MODEL_SUFFIX.sub("", short))

    def price_usd(self, usage: Usage) -> float | None:
        """
        Price one usage.

        Returns:
            US dollars, or None where the model is unknown, or a count that costs
            something is.

        """
        inputs, outputs, read, written, _, model, _, _, _, _ = usage
        if model is None or inputs is None:
            return None
        most, for_input, for_read, for_written, for_output = self.rates.get(model) or self._rate(model)
        # What is not told apart costs what plain input does.
        read, written = read or 0, written or 0
        if inputs > most or read + written > inputs:
            return self._unusual_usd(usage)
        if for_input is None or (outputs is None and for_output > 0):
            return None
        input_usd = (inputs - read - written) * for_input + read * for_read + written * for_written
        return (input_usd + (outputs or 0) * for_output) / 1e6

    def _rate(self, model: str) -> Rate:
        """Find the rate of a model, and remember it."""
        rate = _rate_of(self.find(model))
        if type(model) is str and 0 < len(model) <= NAME_CHARS_MAX:
            if len(self.rates) >= RATES_MAX:
                # Names come from providers; whoever makes up a new one for each call must not fill the memory.
                self.rates.clear()
            self.rates[model] = rate
        return rate

    def _unusual_usd(self, usage: Usage) -> float | None:
        """Price a usage for which the rate of its model does not hold."""
        inputs, outputs, read, written, _, model, _, _, _, _ = usage
        assert model is not None
        assert inputs is not None
        price = self.find(model)
        if price is None or (outputs is None and price.output > 0):
            return None
        for_input, for_output, for_read, for_written, long_above, long_input, long_output = price
        read, written = read or 0, written or 0
        if read + written > inputs:
            # No more than there are.
            read = min(read, inputs)
            written = inputs - read
        input_usd = (
            (inputs - read - written) * for_input
            + read * (for_input if for_read is None else for_read)
            + written * (for_input if for_written is None else for_written)
        )
        output_usd = (outputs or 0) * for_output
        if long_above is not None and inputs > long_above:
            input_usd *= long_input
            output_usd *= long_output
        return (input_usd + output_usd) / 1e6


def _rate_of(price: Price | None) -> Rate:
    """Make a rate of a price."""
    if price is None:
        return NO_RATE
    for_input, for_output, for_read, for_written, long_above, _, _ = price
    for_read = for_input if for_read is None else for_read
    for_written = for_input if for_written is None else for_written
    rate = for_input, for_read, for_written, for_output
    if not all(type(usd) is float and isfinite(usd) and usd >= 0 for usd in rate):
        return _NEVER
    return (TOKENS_MAX if long_above is None else min(long_above, TOKENS_MAX), *rate)


def parse_prices(text: str, where: str) -> dict[str, Price]:
    r"""
    Read a user's prices from TOML: `[prices."model"]` with dollars a million tokens.

    Args:
        text:
            The file.
        where:
            Its name, for messages.

    Returns:
        Prices by model name; they go before the pinned ones.

    Raises:
        ConfigurationError: The text is no TOML, or not of this form; all problems at once.

    Example:
        >>> parse_prices('[prices."mine"]\ninput = 1.0\noutput = 2.0', "prices.toml")["mine"].output
        2.0

    """
    # Imported here: most programs have no prices of their own, and it stays in memory.
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    tables = document.get("prices", {})
    problems = [f"{where}: got unknown key `{key}`, expected `prices`" for key in document if key != "prices"]
    prices: dict[str, Price] = {}
    if not isinstance(tables, dict):
        raise ConfigurationError(f"{where}: `prices` is to be a table of models")
    for model, table in tables.items():
        wrong = _wrong_fields(table)
        if wrong:
            problems += [f"{where}: prices of `{model}`: {problem}" for problem in wrong]
        else:
            prices[model] = Price(
                input=float(table["input"]),
                output=float(table["output"]),
                cache_read=_given(table.get("cache_read")),
                cache_write=_given(table.get("cache_write")),
            )
    if problems:
        raise ConfigurationError(*problems)
    return prices


def _given(number: float | None) -> float | None:
    """Take a price that may be left out."""
    return None if number is None else float(number)


def _wrong_fields(table: object) -> list[str]:
    """Say what is wrong with the prices of one model."""
    if not isinstance(table, dict):
        return ["got no table, expected `input` and `output`"]
    wrong = [f"got unknown key `{key}`, expected {', '.join(_FIELDS)}" for key in table if key not in _FIELDS]
    wrong += [f"`{field}` is missing" for field in _FIELDS[:2] if field not in table]
    for field in _FIELDS:
        number = table.get(field, 0)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < 1e6:
            wrong.append(f"`{field}` is to be dollars a million tokens, at least 0")
    return wrong
