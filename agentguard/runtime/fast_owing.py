"""
What a call on the fast path has used: taken when it ends, and added to sums later.

See `reckoning`: the store's thread does it, many calls at a time, or whoever reads a sum before that.
"""

# ruff: noqa: SLF001 - calls of one class are looked at together

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from agentguard.capture import (
    READING_FIELDS,
    SUMS_LOCK,
    UsageRow,
    UsageTotals,
    add_totals,
    totals_of,
    usage_of,
    usages_of,
)
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.fast_record import RecordedSpan
from agentguard.runtime.gates import add_unpriced_to, ceiling_usd, name_unpriced
from agentguard.runtime.services import Services
from agentguard.state import Spend, Spent
from agentguard.values import AttributeValue, Usage
from agentguard.values import attributes as names


class OwingCall(RecordedSpan):
    """A short span that owes sums what it used; `Owing`."""

    __slots__ = ("has_inner", "owner")

    owner: OwingCall | GuardedCall | None
    """The call inside which it was made, until it ends and what it used is reckoned."""
    has_inner: bool
    """Whether a call inside it has said what it used."""

    @staticmethod
    def reckon(
        calls: Sequence[OwingCall], each: Iterator[OwingCall], *, is_ours: bool
    ) -> list[Callable[[], object]]:
        """As `Owing.reckon`."""
        said: list[Callable[[], object]] = []
        spent: defaultdict[Spend, list[Spent]] = defaultdict(list)
        try:
            found = _look_at_readings(calls)
            for call in each:
                usage: Any = call.usage
                owner, call.owner = call.owner, None
                try:
                    if usage is not None and len(usage) == READING_FIELDS:
                        call.usage = usage = next(found)
                    inside = call.totals
                    if usage is not None:
                        inputs, outputs, *_, cost_usd = usage
                        if cost_usd is not None and type(usage) is tuple:
                            # What is read in one go has our price.
                            tokens, own = inputs + outputs, call.form.own
                            inside = _new(UsageTotals, (inputs, outputs, cost_usd))
                        else:
                            tokens, cost_usd, own = call._reckon_unpriced(usage, owner, said)
                            inside = totals_of(call.usage)  # type: ignore[arg-type] # It may have a price now.
                        if own is not None:
                            call.own = own if call.own is None else {**call.own, **own}
                        if tokens or cost_usd:
                            call.run.add_used(tokens, cost_usd)
                            spent[call.form.spend].append(
                                (cost_usd, tokens, call.start_unix_ns + call.duration_ns)
                            )
                    if owner is not None and inside is not None:
                        _add_inside(owner, inside)
                except Exception as error:
                    said.append(partial(call.form.services.health, "runtime.end", error))
        finally:
            if is_ours:
                for spend, amounts in spent.items():
                    if not spend.add_all(amounts):
                        said += _spend_singly(spend, amounts, calls[0].form.services)
        return said

    def _reckon_unpriced(
        self, usage: Usage | UsageRow, owner: OwingCall | GuardedCall | None, said: list[Callable[[], object]]
    ) -> tuple[int, float, dict[str, AttributeValue] | None]:
        """Look for the price of what was used, or charge it; gives tokens, US dollars, and what a price of ours is marked with."""
        tokens, cost_usd = (usage[0] or 0) + (usage[1] or 0), usage[9]
        if cost_usd is None:
            cost_usd = self._price_usd(usage)
            if cost_usd is not None:
                self.usage = (*usage[:-1], cost_usd)  # type: ignore[assignment] # of the same form
                return tokens, cost_usd, self.form.own
            if tokens:
                cost_usd = self._charge(owner, tokens)
                said.append(partial(name_unpriced, self.form.services, usage[5] or self.form.spec.model))
        return tokens, cost_usd or 0.0, None

    def _price_usd(self, usage: Usage | UsageRow) -> float | None:
        """Look for a price, of the model that answered, or of the one that was asked."""
        price_usd = self.form.environment.price_usd
        if price_usd is None:
            return None
        said = Usage._make(usage) if type(usage) is tuple else usage
        cost_usd = price_usd(said)  # type: ignore[arg-type] # a `Usage` now
        if cost_usd is None and said[5] is None:
            asked = self.form.attributes.get(names.REQUEST_MODEL)
            if isinstance(asked, str):
                cost_usd = price_usd(Usage._make(said)._replace(model=asked))
        return cost_usd

    def _charge(self, owner: OwingCall | GuardedCall | None, tokens: int) -> float:
        """Charge what nobody knows a price for, and tell the nearest call around that can be asked about it."""
        charged = ceiling_usd(self.form.services, tokens)
        around = owner
        while isinstance(around, OwingCall):
            around = around.owner if around.full is None else around.full
        if around is not None:
            add_unpriced_to(around, charged)
        return charged


_new: Final = tuple.__new__
"""Makes totals of three values in one step."""
_usage_of: Final = attrgetter("usage")
_form_of: Final = attrgetter("form")


def _look_at_readings(calls: Sequence[OwingCall]) -> Iterator[Usage | UsageRow | None]:
    """Look at the readings that calls have taken; together, where all of them have prices of one table."""
    rates = calls[0].form.model_rates
    taken: list[Any] = [call for call in calls if call.usage and len(call.usage) == READING_FIELDS]
    if all(form.model_rates is rates for form in set(map(_form_of, taken))):
        return usages_of(list(map(_usage_of, taken)), rates)
    return (usage_of(call.usage, call.form.model_rates) for call in taken)


def _spend_singly(
    spend: Spend, amounts: Sequence[Spent], services: Services
) -> Iterator[Callable[[], object]]:
    """Add what was spent one by one: the slice of time has changed, or a number is none."""
    for amount in amounts:
        try:
            spend.add_at(*amount)
        except Exception as error:
            yield partial(services.health, "runtime.end", error)


def _add_inside(owner: OwingCall | GuardedCall, used: UsageTotals) -> None:
    """Add what a call used, or what was used inside it, to what was used inside the call around it."""
    if isinstance(owner, OwingCall):
        with SUMS_LOCK:
            if owner.full is None:
                before = owner.totals
                owner.totals = used if before is None else add_totals(before, used)
                return
            owner = owner.full
    owner.span.add_inner_usage(used)
