"""
Prices from `genai-prices`, where it is installed: for models that our own table does not have.

A look-up there takes a good part of a millisecond, so it is made off the calling
thread, when the record is written. The library is loaded at the first unknown model.

Source: genai-prices 0.2.3, `calc_price`; a model that it does not know is a `LookupError`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from agentguard.forks import IMPORTS
from agentguard.values import InternalErrorHook, Usage

_UNKNOWN_MAX: Final = 1_024


class LatePrices:
    """
    Prices that are too slow for the calling thread. Not safe for threads: one asks.

    Nothing is downloaded: the prices are those that came with the library.
    """

    __slots__ = ("_library", "_on_internal_error", "_unknown", "is_there")

    def __init__(self, on_internal_error: InternalErrorHook) -> None:
        self._on_internal_error = on_internal_error
        self._library: Any = None
        self._unknown: set[tuple[str, str | None]] = set()
        self.is_there = find_spec("genai_prices") is not None
        """Whether the library is installed."""

    def price_usd(self, usage: Usage) -> float | None:
        """
        Price one usage.

        Returns:
            US dollars; None where the library is missing, or does not know the model.

        """
        model = usage.model
        if not self.is_there or model is None or usage.input_tokens is None:
            return None
        key = (model, usage.provider)
        if key in self._unknown:
            return None
        try:
            return self._look_up(usage, model)
        except LookupError:
            if len(self._unknown) >= _UNKNOWN_MAX:
                # Names come from providers; they must not fill the memory.
                self._unknown.clear()
            self._unknown.add(key)
        except Exception as error:
            # Law 1: a library of another version must not stop the record.
            self.is_there = False
            self._on_internal_error("capture.late_prices", error)
        return None

    def _look_up(self, usage: Usage, model: str) -> float:
        """
        Ask the library.

        Raises:
            LookupError: It does not know the model.
        """
        if self._library is None:
            with IMPORTS:
                import genai_prices

                self._library = genai_prices
        library = self._library
        used = library.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        try:
            found = library.calc_price(used, model, provider_id=usage.provider)
        except LookupError:
            if usage.provider is None:
                raise
            # The conventions name some providers otherwise; the model may be enough.
            found = library.calc_price(used, model)
        return float(found.total_price)
