"""A run: one piece of work of an agent, with what is known and counted of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, create_key

from agentguard.reckoning import RECKONING
from agentguard.wrapping import attach, current_context, detach

if TYPE_CHECKING:
    # Only the types: this file is loaded by `import agentguard`.
    from agentguard.values import AttributeValue, Clock, Ids

RUN_KEY = create_key("agentguard-run")
REPEATS_MAX = 4096
TOOLS_MAX = 4096
"""Tools that one run remembers for `history.called`."""
_NOT_SAID: Final = ""
LABEL_CHARS_MAX = 1024
"""Longer labels are cut: they stand on each span of the run."""


def _text(value: object) -> str:
    """Make plain text of what an application has as an id: an enumeration, a number, or nothing."""
    if isinstance(value, str):
        return str.__str__(value)
    return "" if value is None else str(value)


class Run:
    """
    Identity, labels and counters of one run.

    Opened with `agentguard.run(...)`, or by the first guarded call outside any
    run. Counters are for this process; they feed the facts `run.*`.
    """

    __slots__ = (
        "_cost_usd",
        "_repeats",
        "_tokens",
        "_tools",
        "conversation_id",
        "errors",
        "labels",
        "lock",
        "model_calls",
        "other_calls",
        "principal",
        "retries",
        "roles",
        "run_id",
        "start_ns",
        "tool_calls",
    )

    def __init__(
        self,
        run_id: str,
        *,
        start_ns: int,
        conversation_id: str = _NOT_SAID,
        principal: str = _NOT_SAID,
        roles: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.run_id = run_id
        self.start_ns = start_ns
        """Monotonic nanoseconds."""
        self.conversation_id = self.principal = _NOT_SAID
        self.roles: tuple[str, ...] = ()
        self.labels: dict[str, str] = {}
        if conversation_id is not _NOT_SAID or principal is not _NOT_SAID or roles or labels:
            self._describe(conversation_id, principal, roles or (), labels or {})
        self.tool_calls = self.model_calls = self.other_calls = 0
        self.errors = self.retries = self._tokens = 0
        self._cost_usd = 0.0
        # Made when something is put in: most runs need neither, and there is one run for each call outside any.
        self._tools: dict[str, int] | None = None
        self._repeats: dict[tuple[str, int], int] | None = None
        self.lock = threading.Lock()
        """Of all counters."""

    def _describe(
        self, conversation_id: str, principal: str, roles: Sequence[str], labels: Mapping[str, str]
    ) -> None:
        """Take what an application has said of it, as plain text."""
        self.conversation_id, self.principal = _text(conversation_id), _text(principal)
        # One role given as text would be one for each of its letters.
        self.roles = (_text(roles),) if isinstance(roles, str) else tuple(_text(role) for role in roles)
        self.labels = {
            _text(label)[:LABEL_CHARS_MAX]: _text(value)[:LABEL_CHARS_MAX] for label, value in labels.items()
        }

    def attributes(self) -> dict[str, AttributeValue]:
        """Give what stands on each span of the run: its conversation and its labels, in a fresh dict."""
        # Imported here: this file is loaded by `import agentguard`, which makes no spans.
        from agentguard.values import attributes as names

        found: dict[str, AttributeValue] = {}
        if self.conversation_id:
            found[names.CONVERSATION_ID] = self.conversation_id
        for label, value in self.labels.items():
            found[names.LABEL_PREFIX + label] = value
        return found

    def count_call(self, *, is_tool: bool, is_model: bool) -> None:
        """Count a call that begins."""
        with self.lock:
            if is_tool:
                self.tool_calls += 1
            elif is_model:
                self.model_calls += 1
            else:
                self.other_calls += 1

    @property
    def calls(self) -> int:
        """Of all kinds."""
        return self.tool_calls + self.model_calls + self.other_calls

    def count_end(self, *, is_error: bool, tokens: int, cost_usd: float, retries: int) -> None:
        """Count what a call that ended has used."""
        RECKONING.settle()  # In the order in which they ended: sums of doubles depend on it.
        with self.lock:
            self.errors += is_error
            self._tokens += tokens
            self._cost_usd += cost_usd
            self.retries += retries

    def add_used(self, tokens: int, cost_usd: float) -> None:
        """Count what a call has used that ended before; for the reckoning."""
        with self.lock:
            self._tokens += tokens
            self._cost_usd += cost_usd

    @property
    def tokens(self) -> int:
        """What its calls that ended have used."""
        RECKONING.settle()
        return self._tokens

    @property
    def cost_usd(self) -> float:
        """What they cost, as far as that is known or charged."""
        RECKONING.settle()
        return self._cost_usd

    def note_tool(self, tool: str, now_ns: int) -> None:
        """
        Note that a tool is let run.

        Raises:
            OverflowError: The run has called more tools than are remembered.
        """
        with self.lock:
            tools = self._tools
            if tools is None:
                tools = self._tools = {}
            if tool not in tools and len(tools) >= TOOLS_MAX:
                raise OverflowError(f"a run of more than {TOOLS_MAX} tools")
            tools[tool] = now_ns

    def last_ns(self, tool: str) -> int | None:
        """Give when a tool was last let run, in monotonic nanoseconds; None where it was not."""
        tools = self._tools
        return None if tools is None else tools.get(tool)

    def repeat(self, tool: str, fingerprint: int) -> int:
        """
        Count a call of a tool with these arguments.

        Args:
            tool:
                Its name.
            fingerprint:
                Of the arguments.

        Returns:
            How often the run made this very call before.
        """
        key = (tool, fingerprint)
        with self.lock:
            repeats = self._repeats
            if repeats is None:
                repeats = self._repeats = {}
            before = repeats.pop(key, 0)
            if len(repeats) >= REPEATS_MAX:
                # The oldest goes: a loop repeats what is recent.
                del repeats[next(iter(repeats))]
            repeats[key] = before + 1
        return before


def current_run() -> Run | None:
    """Give the run that is current, or None outside any."""
    run = current_context().get(RUN_KEY)
    return run if isinstance(run, Run) else None


def new_run(ids: Ids, clock: Clock, **known: Any) -> Run:
    """Open a run with a fresh id, now."""
    return Run(ids.trace_id().to_bytes(16, "big").hex(), start_ns=clock.monotonic_ns(), **known)


class RunScope:
    """Makes a run current for a block, sync or async; what `agentguard.run` returns."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tokens: list[object] = []

    def __enter__(self) -> Run:
        self._tokens.append(attach(Context({**current_context(), RUN_KEY: self._run})))
        return self._run

    def __exit__(self, *_: object) -> None:
        detach(self._tokens.pop())  # type: ignore[arg-type]

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()
