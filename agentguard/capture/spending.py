"""What a call used and cost: what it said itself, at each of its attempts, and the calls inside it."""

from __future__ import annotations

from functools import partial
from typing import Final

from agentguard.capture.retrying import RetryingSpan
from agentguard.capture.usage import extract_usage
from agentguard.capture.usage_sums import SUMS_LOCK, UsageTotals, add_totals, combine_usage, with_numbers
from agentguard.values import Usage
from agentguard.values import attributes as names

MODEL_KINDS: Final = frozenset({"model", "embeddings"})
_make_usage: Final = partial(tuple.__new__, Usage)


class SpendingSpan(RetryingSpan):
    """A span that takes reports of usage, and prices them; `Span` sets the slots."""

    __slots__ = ("_totals", "_usage", "kind")

    _totals: UsageTotals | None
    _usage: Usage | None
    kind: str

    def record_usage(
        self,
        value: object = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> bool:
        """
        Say what the call used.

        Reports of the same response, and reports that fill each other's gaps,
        become one. A different report is that of another attempt: the last one
        stands as the usage, and all of them are summed as billed.

        Args:
            value:
                A `Usage`, or a response object of a model SDK.
            input_tokens:
                Overrides what *value* says, as do the other numbers.
            output_tokens:
                Reasoning included.
            cost_usd:
                What the provider says that the call cost.

        Returns:
            Whether anything was found and kept.

        """
        if self._duration_ns >= 0:
            self._environment.late_writes += 1
            return False
        try:
            usage = value if isinstance(value, Usage) else extract_usage(value)
            if input_tokens is not None or output_tokens is not None or cost_usd is not None:
                usage = with_numbers(usage, input_tokens, output_tokens, cost_usd)
            if usage is None:
                return False
            if self._usage is None:
                self._usage = usage
            else:
                old, was_billed = self._usage, self._rare.billed
                self._usage, billed = combine_usage(old, usage, was_billed)
                if billed is not was_billed:
                    self._own_rare().billed = billed
                    # A further attempt: what the earlier one cost is known now or never.
                    self._bill(old)
        except Exception as error:
            self._environment.on_internal_error("capture.record_usage", error)
            return False
        return True

    def add_inner_usage(self, usage: UsageTotals) -> None:
        """Add what a call inside this one used to the totals; ignored once this one has ended."""
        if self._duration_ns < 0:
            with SUMS_LOCK:
                self._totals = add_totals(self._totals, usage)

    def _priced(self, usage: Usage) -> Usage:
        """Put a price on a usage that has none, where the model's is known: the one that answered, or was asked."""
        price_usd = self._environment.price_usd
        if price_usd is None:
            return usage
        cost_usd = price_usd(usage)
        if cost_usd is None:
            if usage.model is not None or self.kind not in MODEL_KINDS:
                return usage
            asked = self.held.get(names.REQUEST_MODEL)
            if not isinstance(asked, str):
                return usage
            cost_usd = price_usd(usage._replace(model=asked))
            if cost_usd is None:
                return usage
        if self._environment.profile != "compat":
            self._make_own()[names.COST_SOURCE] = "local"
        return _make_usage((*usage[:-1], cost_usd))

    def _bill(self, usage: Usage) -> None:
        """Add the price of one attempt to the sum over attempts, which has the prices that providers gave."""
        if usage.cost_usd is not None:
            return
        cost_usd = self._priced(usage).cost_usd
        rare = self._own_rare()
        if cost_usd is not None:
            rare.billed = add_totals(rare.billed, UsageTotals(None, None, cost_usd))
            return
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if tokens:
            before = 0 if rare.unpriced is None else rare.unpriced[0]
            rare.unpriced = before + tokens, usage.model or ""

    @property
    def usage(self) -> Usage | None:
        """What the call itself reported last."""
        return self._usage

    @property
    def totals(self) -> UsageTotals | None:
        """What the calls below this one used together; None where none said anything."""
        return self._totals

    @property
    def counted_usage(self) -> Usage | None:
        """
        What to add to sums over a run: all attempts that were billed.

        None where calls inside reported theirs, so nothing counts twice.
        """
        if self._totals is not None:
            return None
        usage, billed = self._usage, self._rare.billed
        if usage is None or billed is None:
            return usage
        return usage._replace(**billed._asdict())

    @property
    def unpriced_attempts(self) -> tuple[int, str] | None:
        """
        Tokens of attempts that nobody has priced, and the last such model; None where there are none.

        Of a call with several attempts that has ended; they are part of `counted_usage`, not of its price.
        """
        return None if self._totals is not None else self._rare.unpriced
