"""
Breakers: what fails is rested, then tried, then used again.

One sealed document a breaker. Calls read it from memory for as long as the
control page says that no breaker has changed; changes happen under the lock of
the machine, so that exactly as many calls are tried as a rule says.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from agentguard.errors import StoreError
from agentguard.state.cells import Cells, Document
from agentguard.state.page import BREAKERS, Page
from agentguard.state.rates import WINDOW_S_MAX
from agentguard.values import BreakerTerms, Clock

BREAKERS_MAX = 4_096
"""Breakers that a process remembers; then the memory starts anew."""
STALE_NS_MAX = 1_000_000_000

_KIND = "breaker"
_KEEP_S = 40 * 86_400


class Permit(NamedTuple):
    """What a breaker wants to hear of a call that it lets run."""

    name: str
    terms: BreakerTerms
    probe: str
    """The id of a tried call; empty: the breaker only hears of a failure."""


class Rested(NamedTuple):
    """The breaker refuses."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker. Times are Unix nanoseconds."""

    open_until_ns: int = 0
    """It refuses until then; after that it is tried. 0: closed."""
    probes: Mapping[str, int] = field(default_factory=dict)
    """Calls that are being tried, and when each counts as gone."""
    passed: int = 0
    """Tried calls that succeeded."""
    forgiven_until_ns: int = 0
    """Until then, or until the next failure, the condition does not open it again: the failures
    that its rates still count are those of before."""


class Breakers:
    """Asks breakers, opens them, and hears what became of tried calls."""

    def __init__(self, cells: Cells, page: Page, clock: Clock) -> None:
        self._cells = cells
        self._page = page
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with a memory of our own: outcomes that wait are the parent's."""
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, int, Breaker]] = {}
        self._heard: deque[tuple[Permit, bool | None]] = deque()

    def ask(self, name: str, terms: BreakerTerms, *, is_tripped: bool) -> Permit | Rested | None:
        """
        Ask whether a call may run.

        Args:
            name:
                Of the breaker: policy, rule and the values of its key.
            terms:
                Of the rule.
            is_tripped:
                Whether the rule's condition holds now.

        Returns:
            None where it may; a permit where it may and the breaker wants to hear how it went; else
            for how long it is rested.

        Raises:
            StoreError: The breaker cannot be read or written: nothing may run on it.
        """
        breaker = self._read(name)
        now_ns = self._clock.unix_ns()
        if breaker.open_until_ns:
            if now_ns < breaker.open_until_ns:
                return Rested((breaker.open_until_ns - now_ns) / 1e9)
            return self._try(name, terms)
        if now_ns < breaker.forgiven_until_ns:
            return Permit(name, terms, "")
        return self._open(name, terms) if is_tripped else None

    def settle(self, permit: Permit, *, is_error: bool | None) -> None:
        """
        Say what became of a call; nothing is written before `tidy`.

        Args:
            permit:
                As `ask` gave it; once.
            is_error:
                Whether it raised; None where it did not run, or nobody knows.
        """
        if permit.probe or is_error:
            self._heard.append((permit, is_error))

    @property
    def is_busy(self) -> bool:
        """Whether there is something to write."""
        return bool(self._heard)

    def tidy(self) -> None:
        """
        Write what became of tried calls.

        Raises:
            StoreError: It cannot be written; it is tried again with the next.
        """
        if not self._heard:
            return
        with self._changing():
            heard = list(self._heard)
            for permit, is_error in heard:
                breaker = self._load(permit.name)
                self._store(permit.name, self._after(breaker, permit, is_error=is_error))
        with self._lock:
            for outcome in heard:
                with contextlib.suppress(ValueError):
                    # Another thread may have written the same: the second writing changed nothing.
                    self._heard.remove(outcome)

    def _after(self, breaker: Breaker, permit: Permit, *, is_error: bool | None) -> Breaker:
        """What a breaker is after a call that it let run."""
        now_ns, terms = self._clock.unix_ns(), permit.terms
        if not permit.probe:
            return replace(breaker, forgiven_until_ns=0) if is_error else breaker
        if permit.probe not in breaker.probes:
            return breaker  # It took too long, and others were tried in its place.
        probes = {probe: until for probe, until in breaker.probes.items() if probe != permit.probe}
        if is_error is None:
            return replace(breaker, probes=probes)
        if is_error:
            return Breaker(open_until_ns=now_ns + int(terms.open_for_s * 1e9))
        if breaker.passed + 1 < terms.probe:
            return replace(breaker, probes=probes, passed=breaker.passed + 1)
        return Breaker(forgiven_until_ns=now_ns + WINDOW_S_MAX * 1_000_000_000)

    def _open(self, name: str, terms: BreakerTerms) -> Permit | Rested | None:
        with self._changing():
            breaker, now_ns = self._load(name), self._clock.unix_ns()
            if not breaker.open_until_ns and now_ns >= breaker.forgiven_until_ns:
                breaker = Breaker(open_until_ns=now_ns + int(terms.open_for_s * 1e9))
                self._store(name, breaker)
        if now_ns < breaker.open_until_ns:
            return Rested((breaker.open_until_ns - now_ns) / 1e9)
        return Permit(name, terms, "") if now_ns < breaker.forgiven_until_ns else self._try(name, terms)

    def _try(self, name: str, terms: BreakerTerms) -> Permit | Rested | None:
        """Let as many calls be tried as the rule says."""
        self.tidy()
        with self._changing():
            breaker, now_ns = self._load(name), self._clock.unix_ns()
            if not breaker.open_until_ns:
                return Permit(name, terms, "")
            if now_ns < breaker.open_until_ns:
                return Rested((breaker.open_until_ns - now_ns) / 1e9)
            probes = {probe: until for probe, until in breaker.probes.items() if until > now_ns}
            if len(probes) + breaker.passed >= terms.probe:
                return Rested(min(1.0, terms.open_for_s))
            probe = os.urandom(8).hex()
            probes[probe] = now_ns + int(terms.open_for_s * 1e9)
            self._store(name, replace(breaker, probes=probes))
            return Permit(name, terms, probe)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change breakers, then tell every process to read them again."""
        with self._lock:
            with self._cells.transaction():
                yield
            # After the commit: whoever sees the new number must find the new document.
            self._page.write(BREAKERS, self._page.read(BREAKERS) + 1)

    def _read(self, name: str) -> Breaker:
        """Give a breaker from memory, where nothing has changed."""
        generation, now_ns = self._page.read(BREAKERS), self._clock.monotonic_ns()
        known = self._known.get(name)
        if known is not None and known[0] == generation and now_ns - known[1] <= STALE_NS_MAX:
            return known[2]
        breaker = self._load(name)
        if known is not None and not breaker.open_until_ns and not breaker.forgiven_until_ns:
            before = known[2]
            if before.open_until_ns and self._cells.get(_KIND, name) is None:
                raise StoreError("breakers: one that was open was removed").hint(
                    "somebody has changed the state file; calls that it rests are denied"
                )
        if len(self._known) >= BREAKERS_MAX:
            self._known = {}
        self._known[name] = (generation, now_ns, breaker)
        return breaker

    def _load(self, name: str) -> Breaker:
        return _decode(self._cells.get(_KIND, name))

    def _store(self, name: str, breaker: Breaker) -> None:
        """Write a breaker, inside a transaction."""
        document = {
            "open_until_ns": breaker.open_until_ns,
            "probes": dict(breaker.probes),
            "passed": breaker.passed,
            "forgiven_until_ns": breaker.forgiven_until_ns,
        }
        self._cells.put(
            _KIND, name, document, expires_unix_s=self._clock.unix_ns() // 1_000_000_000 + _KEEP_S
        )


def _decode(document: Document | None) -> Breaker:
    if document is None:
        return Breaker()
    try:
        probes = document["probes"]
        if not isinstance(probes, dict):
            raise TypeError("expected a mapping")
        return Breaker(
            int(str(document["open_until_ns"])), {str(probe): int(until) for probe, until in probes.items()},
            int(str(document["passed"])), int(str(document["forgiven_until_ns"])),
        )  # fmt: skip
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError("state: a breaker does not decode") from error
