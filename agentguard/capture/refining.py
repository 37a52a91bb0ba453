"""
What is done with each record off the calling thread: late prices, metrics, exceptions as events.

Takes records in the order in which their calls ended, so that what is inside a
call comes before the call itself. One thread uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from agentguard.capture.late_prices import LatePrices
from agentguard.capture.measuring import CallsMade, measurements
from agentguard.capture.telemetry import Events, Meters, span_context
from agentguard.values import AttributeValue, InternalErrorHook, SpanRecord, Usage
from agentguard.values import attributes as names
from agentguard.values.attributes import Profile

_OPEN_MAX: Final = 10_000
_CLIENT_KINDS: Final = frozenset({"model", "embeddings", "retriever"})


class _Inside(NamedTuple):
    """What calls inside a call have added up to, while that one still runs."""

    inference: int = 0
    tools: int = 0
    late_usd: float = 0.0


_NOTHING: Final = _Inside()


class Refiner:
    """
    Looks at each record before it is written; implements `environment.Refine`.

    Never raises: what fails is reported, and the record is kept as it is.
    """

    def __init__(
        self,
        *,
        profile: Profile,
        meters: Meters | None,
        events: Events | None,
        late_prices: LatePrices | None,
        on_internal_error: InternalErrorHook,
        on_metered: Callable[[bool], object],
    ) -> None:
        """
        Hold what is asked.

        Args:
            profile:
                Which generation of names.
            meters:
                Where measurements go; None for nowhere.
            events:
                Where exceptions go; None for nowhere.
            late_prices:
                Who prices what the table does not know; None for nobody.
            on_internal_error:
                Hears of errors of our own.
            on_metered:
                Told whether a MeterProvider is there, at the first record and when that changes.

        """
        self._profile: Profile = profile
        self._meters = meters
        self._events = events
        self._late_prices = late_prices
        self._on_internal_error = on_internal_error
        self._on_metered = on_metered
        self._is_metered: bool | None = None
        self._inside: dict[str, _Inside] = {}

    def is_idle(self, usages: Iterable[Usage | None], *, has_events: bool) -> bool:
        """
        Whether records of some spans need not be looked at just now, nor made.

        Args:
            usages:
                What each of them used.
            has_events:
                Whether any of them has events.

        Returns:
            True where nobody measures, nothing is left to price, and nobody hears of exceptions.

        """
        try:
            if self._find_meters() is not None:
                return False
            if self._late_prices is not None and (
                self._inside or any(usage is not None and usage[9] is None for usage in usages)
            ):
                return False
            return not has_events or self._events is None or not self._events.find()
        except Exception as error:
            self._on_internal_error("capture.refine", error)
            return False

    def _find_meters(self) -> Meters | None:
        """Look whether anybody measures, and tell when that changes."""
        meters = self._meters if self._meters is not None and self._meters.find() else None
        if (meters is not None) is not self._is_metered:
            self._is_metered = meters is not None
            self._on_metered(self._is_metered)
        return meters

    def __call__(self, record: SpanRecord, usage: Usage | None, gaps_s: Sequence[float]) -> SpanRecord:
        """Price, measure and report one record."""
        try:
            meters = self._find_meters()
            inside = _NOTHING
            if meters is not None or self._late_prices is not None:
                record, inside = self._counted(record, usage)
            if meters is not None and record.scope == "agentguard":
                calls = CallsMade(inside.inference, inside.tools)
                measured = measurements(record, profile=self._profile, gaps_s=gaps_s, calls=calls)
                meters.record(measured, span_context(record.trace_id, record.span_id))
            if self._events is not None and record.events and record.kind in _CLIENT_KINDS:
                self._events.exceptions(record)
        except Exception as error:
            self._on_internal_error("capture.refine", error)
        return record

    def _counted(self, record: SpanRecord, usage: Usage | None) -> tuple[SpanRecord, _Inside]:
        """Price the record, and add it to what runs around it."""
        inside = self._inside.pop(record.span_id, _NOTHING)
        attributes = record.attributes
        late_usd = self._late_usd(record, usage)
        if late_usd is not None:
            attributes = {**attributes, **self._priced(late_usd)}
        if inside.late_usd:
            known = attributes.get(names.COST_TOTAL_USD, 0.0)
            total_usd = inside.late_usd + (known if isinstance(known, float) else 0.0)
            attributes = {**attributes, names.COST_TOTAL_USD: total_usd}
        if attributes is not record.attributes:
            record = record._replace(attributes=attributes)
        # A native span inside a model call of ours is the same call seen twice.
        is_call = self._is_metered and names.USAGE_COUNTED_BY not in attributes
        passed_on = inside if record.kind != "agent" else _Inside(late_usd=inside.late_usd)
        added = _Inside(
            passed_on.inference + (record.kind == "model" and bool(is_call)),
            passed_on.tools + (record.kind == "tool" and bool(is_call)),
            passed_on.late_usd + (late_usd or 0.0),
        )
        around = str(attributes.get(names.PARENT_CALL_ID, "")) or record.parent_span_id
        if around and any(added):
            before = self._inside.pop(around, _NOTHING)
            if len(self._inside) >= _OPEN_MAX:
                # Parents in other processes never come: the oldest is forgotten.
                del self._inside[next(iter(self._inside))]
            self._inside[around] = _Inside(
                before.inference + added.inference,
                before.tools + added.tools,
                before.late_usd + added.late_usd,
            )
        return record, inside

    def _late_usd(self, record: SpanRecord, usage: Usage | None) -> float | None:
        """Price what owns its tokens and has no price yet."""
        if (
            self._late_prices is None
            or usage is None
            or usage.cost_usd is not None
            or names.INPUT_TOKENS not in record.attributes
        ):
            return None
        asked = record.attributes.get(names.REQUEST_MODEL)
        if usage.model is None and isinstance(asked, str):
            # An answer that names no model is that of the one that was asked.
            usage = usage._replace(model=asked)
        return self._late_prices.price_usd(usage)

    def _priced(self, cost_usd: float) -> dict[str, AttributeValue]:
        """Name a price as the profile does."""
        found: dict[str, AttributeValue] = {names.COST_USD: cost_usd}
        if self._profile != "compat":
            found |= {names.COST_AMOUNT: cost_usd, names.COST_CURRENCY: "USD", names.COST_SOURCE: "local"}
        return found
