"""
The past once more, under other policies: limits, windows, breakers and histories go on in the time of the events.

The state is that of a machine, in memory and on a clock that follows the events.
What the log and the spans kept is used; what they did not keep is unknown, and a
decision that depends on it is not judged. Where a candidate stops a call that
ran, or lets one run that did not, nobody knows how its run would have gone on:
from there on its decisions are counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from agentguard.policy import Bundle, Engine
from agentguard.review._past import Event, Kept, Past
from agentguard.review._recorded import arguments_read
from agentguard.review._replay import KeptFacts, RecordedCall, ReplayReport, is_unknown
from agentguard.review._so_far import CallSoFar, EventClock, RunSoFar, count_repeat, window_s
from agentguard.state import (
    MemoryState,
    Used,
    answer_gates,
    give_back,
    settle_tickets,
)
from agentguard.values import Decision, DecisionRecord, Effect, Point
from agentguard.values import attributes as names

NS: Final = 1_000_000_000
WARM_UP_S: Final = 8 * 86_400
"""How much of the past before the first judged call fills the windows: the longest of `history`, and a day."""
ANCESTORS_MAX: Final = 256

_MODELS: Final = ("model", "embeddings")
_AGENTS: Final = ("agent", "workflow")


def warm_up_s(bundle: Bundle) -> float:
    """
    Say how much of the past must fill the windows before a question can be judged.

    Args:
        bundle:
            The candidate.

    Returns:
        Seconds: its longest limit, and at least what `history` remembers.
    """
    windows = [
        getattr(rule.action.limit, "window_s", 0.0)
        for rule in (*bundle.rules, *bundle.budgets)
        if rule.action.limit is not None
    ]
    return max([WARM_UP_S, *windows])


class Replay:
    """
    One pass over the past.

    Args:
        bundle:
            The candidate.
        past:
            In order of time.
        judged_from_ns:
            Questions before this fill the windows and are not counted.
        unpriced_usd_per_million:
            What tokens without a price are charged.
        fixed:
            Facts that hold for all of it, such as `env.name`.
    """

    def __init__(
        self,
        bundle: Bundle,
        past: Past,
        *,
        judged_from_ns: int = 0,
        unpriced_usd_per_million: float = 0.0,
        fixed: Mapping[str, object] | None = None,
    ) -> None:
        self.report = ReplayReport(bundle.revision)
        self._bundle = bundle
        self._engine = Engine(bundle)
        self._past = past
        self._judged_from_ns = judged_from_ns
        self._unpriced = unpriced_usd_per_million
        self._fixed = dict(fixed or {})
        self._clock = EventClock()
        self._state: MemoryState | None = None
        self._runs: dict[str, RunSoFar] = {}
        self._calls: dict[str, CallSoFar] = {}
        self._not_run: set[str] = set()
        """Calls that ran, and do not under the candidate."""
        self._incomplete: set[tuple[str, str]] = set()
        """Arguments of tools that were not kept for every call that is remembered."""
        self._unsure_of_spend_until_ns = 0
        """Until then a call that would have run now has used what nobody knows."""

    def play(self) -> ReplayReport:
        """
        Go through all events.

        Returns:
            What the candidate would have done.
        """
        for event in self._past.events:
            self._clock.go_to(event.time_ns)
            if self._state is None:
                # The state begins with the first event: its windows are counted in event time.
                self._state = MemoryState(self._clock)
            if event.is_end:
                self._end(event)
            elif event.record is None:
                self._begin_unasked(event)
            else:
                self._ask(event, event.record)
        self.report.runs = len(self._runs)
        self.report.runs_diverged = sum(run.has_diverged for run in self._runs.values())
        return self.report

    # Questions

    def _ask(self, event: Event, record: DecisionRecord) -> None:
        state, kept = self._state, self._past.kept.get(event.call_id)
        assert state is not None
        run = self._runs.setdefault(record.run_id or event.call_id, RunSoFar())
        call = self._calls.get(event.call_id)
        is_first = call is None
        if call is None:
            call = self._calls[event.call_id] = CallSoFar(run, record.tool, record.model)
            if record.tool:
                call.repeats = count_repeat(run, record.tool, kept.args if kept is not None else None)
        had_run = record.decision.is_allowed
        if record.decision.effect is Effect.KILL and not record.decision.rule_id:
            # An order of a person: it holds whatever the policies say.
            self._count_begin(run, record.point, is_first=is_first)
            call.is_allowed = False
            self._stop(call)
            return
        if self._is_inside_what_did_not_run(event.call_id):
            # Under the candidate nobody asks this.
            call.is_allowed = False
            self._not_run.add(event.call_id)
            if event.time_ns >= self._judged_from_ns:
                self.report.counterfactual += 1
            return
        facts = self._facts(record, kept, run, call)
        decision = self._decide(record, facts, call)
        unknown = is_unknown(decision, facts)
        is_judged = event.time_ns >= self._judged_from_ns
        if is_judged:
            asked = RecordedCall(record.point, facts, record.decision, event.call_id)
            self.report.add(asked, decision, facts, is_unknown=unknown, is_counterfactual=run.has_diverged)
        self._count_begin(run, record.point, is_first=is_first)
        # What is before the first judged call went as it went; so did what cannot be judged.
        is_allowed = decision.is_allowed if is_judged and not unknown else had_run
        if is_judged and is_allowed != had_run:
            run.has_diverged = True
            if is_allowed and not record.tool:
                # Nobody knows what this call would have used: the sums of the day are unknown too.
                day_ns = 86_400 * NS
                self._unsure_of_spend_until_ns = (event.time_ns // day_ns + 1) * day_ns
        if not is_allowed:
            call.is_allowed = False
            if had_run:
                self._not_run.add(event.call_id)
            self._stop(call)
        elif is_first and record.tool and self._engine.has_history:
            self._remember(record.tool, facts, run, kept)

    def _decide(self, record: DecisionRecord, facts: KeptFacts, call: CallSoFar) -> Decision:
        """Ask the engine, then the limits, then what people said."""
        assert self._state is not None
        decision = self._engine.decide(record.point, facts)
        gates = tuple(gate for gate in decision.gates if (gate.policy, gate.rule_id) not in call.charged)
        if gates != decision.gates:
            decision = replace(decision, gates=gates)
        if gates:
            answer = answer_gates(self._state, decision, facts)
            decision = answer.decision
            call.tickets = (*call.tickets, *answer.tickets)
            call.charged.update((gate.policy, gate.rule_id) for gate in gates)
        if decision.effect is Effect.REQUIRE_APPROVAL and record.approval_id:
            then = record.decision
            if (then.policy, then.rule_id) == (decision.policy, decision.rule_id):
                # A person has approved exactly this call under this rule.
                decision = replace(decision, effect=Effect.ALLOW, approval=None)
        return decision

    def _facts(self, record: DecisionRecord, kept: Kept | None, run: RunSoFar, call: CallSoFar) -> KeptFacts:
        """Put together what is known at a question."""
        state, now_ns = self._state, record.time_unix_ns
        assert state is not None
        facts: dict[str, object] = {
            **self._fixed,
            **(kept.facts if kept is not None else {}),
            "agent.name": record.agent,
            "principal.id": record.principal,
            "run.id": record.run_id,
            "time.now": datetime.fromtimestamp(now_ns / NS, tz=UTC),
            "run.calls": run.calls,
            "run.tool_calls": run.tool_calls,
            "run.model_calls": run.model_calls,
            "run.errors": run.errors,
            "run.retries": run.retries,
            "run.tokens": run.tokens,
            "run.cost_usd": run.cost_usd,
            "history.called": self._called(run),
        }
        if record.tool:
            tool = record.tool
            facts["tool.name"] = tool
            facts["tool.calls_5m"] = state.rates.calls(tool, 300.0)
            facts["tool.error_rate_5m"] = state.rates.error_rate(tool, 300.0)
            if call.repeats is not None:
                facts["run.repeats"] = call.repeats
            memory = state.memory
            facts["history.count"] = lambda window, key: memory.count(tool, key, window_s(window))
        if record.point.startswith("model."):
            facts["model.name"] = record.model
        if now_ns >= self._unsure_of_spend_until_ns:
            facts["cost.usd_today"] = state.spend.usd_today()
            facts["tokens.today"] = state.spend.tokens_today()
        args = dict(kept.args) if kept is not None and kept.args is not None else None
        if not run.has_diverged:
            # The very values of then, as far as the log has them; later they would belong to another past.
            written = record.decision.values or {}
            facts.update({name: value for name, value in written.items() if not name.startswith("args.")})
            if args is None:
                some = {
                    name.removeprefix("args."): value
                    for name, value in written.items()
                    if name.startswith("args.")
                }
                needed = arguments_read(self._bundle, Point(record.point), record.tool)
                args = some if needed is not None and needed <= some.keys() else None
        if args is not None:
            facts["args"] = args
        known = KeptFacts(facts)
        if record.tool:
            known["history.sum"] = self._total(record.tool, known)
        return known

    def _total(self, tool: str, facts: KeptFacts) -> Callable[[str, object, str], float]:
        def total(argument: str, window: object, key: str) -> float:
            assert self._state is not None
            if (tool, argument) in self._incomplete:
                # A sum without one of its amounts is no sum.
                facts.asked.add(f"args.{argument} of earlier calls")
                raise KeyError(argument)
            return self._state.memory.total(tool, argument, key, window_s(window))

        return total

    def _called(self, run: RunSoFar) -> Callable[[str, object], bool]:
        def called(tool: str, window: object) -> bool:
            last_ns = run.tools.get(tool)
            return last_ns is not None and self._clock.unix_ns() - last_ns <= window_s(window) * NS

        return called

    def _remember(self, tool: str, facts: KeptFacts, run: RunSoFar, kept: Kept | None) -> None:
        """Remember a call that is let run, for rules with `history`."""
        assert self._state is not None
        run.tools[tool] = self._clock.unix_ns()
        args = kept.args if kept is not None and kept.args is not None else facts.get("args")
        is_known = isinstance(args, Mapping)
        args = args if isinstance(args, Mapping) else {}
        for tools, argument, key in self._engine.remembers:
            if tools is not None and tool not in tools:
                continue
            amount = args.get(argument, 0) if argument else 0
            if argument and not is_known:
                self._incomplete.add((tool, argument))
            is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
            value = facts.get(key)
            if value is not None:
                self._state.memory.remember(tool, argument, str(value), float(amount) if is_number else 0.0)

    def _is_inside_what_did_not_run(self, call_id: str) -> bool:
        """Whether a call around this one does not run under the candidate."""
        for _ in range(ANCESTORS_MAX):
            kept = self._past.kept.get(call_id)
            if kept is None or not kept.parent or not self._not_run:
                return False
            call_id = kept.parent
            if call_id in self._not_run:
                return True
        return False

    # What calls leave behind

    def _begin_unasked(self, event: Event) -> None:
        """Count a call that no rule was asked about."""
        kept = self._past.kept[event.call_id]
        run = self._runs.setdefault(kept.run_id or event.call_id, RunSoFar())
        self._calls[event.call_id] = CallSoFar(run, kept.tool, kept.model)
        if not self._is_inside_what_did_not_run(event.call_id):
            kind = "model" if kept.kind in _MODELS else "agent" if kept.kind in _AGENTS else "tool"
            self._count_begin(run, f"{kind}.before", is_first=True)
        else:
            self._not_run.add(event.call_id)

    def _count_begin(self, run: RunSoFar, point: str, *, is_first: bool) -> None:
        if is_first:
            run.calls += 1
            run.tool_calls += point.startswith("tool.")
            run.model_calls += point.startswith("model.")

    def _stop(self, call: CallSoFar) -> None:
        """End a call that does not run: what was set aside goes back; it counts among the tool's calls."""
        assert self._state is not None
        give_back(self._state, call.tickets)
        call.tickets = ()
        if call.tool:
            self._state.rates.record(call.tool, is_error=False)

    def _end(self, event: Event) -> None:
        """Settle what a call has used."""
        call = self._calls.pop(event.call_id, None)
        if call is None or not call.is_allowed or event.call_id in self._not_run:
            return
        state, kept = self._state, self._past.kept.get(event.call_id)
        assert state is not None
        outcome = event.record.outcome if event.record is not None else ""
        is_error = outcome in (names.OUTCOME_ERROR, names.OUTCOME_CANCELLED) or (
            event.record is None and kept is not None and kept.is_error
        )
        own = kept.tokens if kept is not None and kept.total_tokens is None else None
        usd = self._charged(kept.cost_usd if kept is not None else None, own)
        if call.tickets:
            used = Used(None if own is None else usd, own, self._duration_s(kept))
            if kept is not None and kept.total_tokens is not None:
                used = Used(
                    self._charged(kept.total_usd, kept.total_tokens),
                    kept.total_tokens,
                    self._duration_s(kept),
                )
            settle_tickets(state, call.tickets, used, is_error=is_error)
        run = call.run
        run.errors += is_error
        run.tokens += own or 0
        run.cost_usd += usd
        run.retries += kept.retries if kept is not None else 0
        if call.tool:
            state.rates.record(call.tool, is_error=is_error)
        if own or usd:
            state.spend.add(usd=usd, tokens=own or 0)

    def _charged(self, usd: float | None, tokens: int | None) -> float:
        """Say what tokens are charged: their price, or the ceiling."""
        if usd is not None or not tokens:
            return usd if usd is not None and tokens is not None else 0.0
        return tokens * self._unpriced / 1_000_000

    def _duration_s(self, kept: Kept | None) -> float | None:
        return None if kept is None else (kept.end_ns - kept.start_ns) / NS
