"""
A place where governed processes live and die, and what is looked at afterwards.

Each process says which of its calls ran, and when; whatever happens to it, `look`
then compares that with what the store and the decision log hold.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import agentguard
from agentguard.audit import VerifyReport, read_decisions, verify
from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from tests.support.crash_nonces import nonces, watch_nonces

LOSS_WINDOW_S = 0.9
"""What is older is on disk: the promise of `docs/explanation/reliability.md`."""

_POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: life, version: 1.0.0, title: Recorded, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: deny, mode: enforce, timezone: UTC}
rules:
  - {id: REQ, title: On disk first, at: tool.before, when: tool.name == 'durable', then: allow, record: required}
  - {id: LOG, title: On record, at: tool.before, when: tool.name == 'work', then: allow}
"""


@agentguard.tool
def work(site: Site) -> str:
    """Say that it ran, with its decision queued."""
    return site.say_call("work")


@agentguard.tool
def durable(site: Site) -> str:
    """Say that it ran, with its decision on disk first."""
    return site.say_call("durable")


@agentguard.tool(name="durable")
async def durable_async(site: Site) -> str:
    """The same in a coroutine."""
    return site.say_call("durable")


class Said(NamedTuple):
    """One call, as the process that made it tells of it."""

    call_id: str
    tool: str
    pid: int
    time_unix_s: float


class Found(NamedTuple):
    """What is left when all processes are gone."""

    said: list[Said]
    spans: Counter[str]
    """Span ids, and how often each is there."""
    decided: Counter[str]
    """Call ids of admissions in the log, and how often each is there."""
    nonces_twice: int
    report: VerifyReport
    gaps: int

    @property
    def lost(self) -> list[Said]:
        """Calls that ran and have no span."""
        return [one for one in self.said if one.call_id not in self.spans]

    @property
    def undecided(self) -> list[Said]:
        """Calls whose decision was to be on disk before they ran, and is not."""
        return [one for one in self.said if one.tool == "durable" and one.call_id not in self.decided]

    def check(self, *, lost_within_s: float = 0.0, died_unix_s: float = math.inf) -> None:
        """
        Hold what is promised whatever happened.

        Args:
            lost_within_s: Spans may be missing of calls that ran so long before the death of their process.
            died_unix_s: When that was; without it none may be missing.
        """
        assert self.said, "no call ran"
        assert not self.undecided, f"{len(self.undecided)} calls ran without their decision on disk"
        twice = [name for name, count in self.spans.items() if count > 1]
        assert not twice, f"{len(twice)} spans are there twice"
        again = [name for name, count in self.decided.items() if count > 1]
        assert not again, f"{len(again)} decisions are there twice"
        early = [one for one in self.lost if died_unix_s - one.time_unix_s > lost_within_s]
        assert not early, f"{len(early)} of {len(self.said)} spans are lost"
        assert self.nonces_twice == 0, "a nonce was used twice under one key"
        assert self.report.is_good, self.report.first_bad


class Site:
    """A store with its key and policies, and a file in which processes say what they did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said = folder / "said"

    def prepare(self) -> Site:
        """Make the key and the policies."""
        (self.folder / "policies").mkdir(parents=True)
        (self.folder / "policies" / "life.yaml").write_text(_POLICY, encoding="utf-8")
        create_key_file(self.folder / "key")
        return self

    def environment(self) -> dict[str, str]:
        """The environment for a process of its own, without settings from elsewhere."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AGENTGUARD_", "OTEL_"))
        }
        root = str(Path(__file__).resolve().parents[2])
        return {**kept, "PYTHONPATH": root, "HOME": str(self.folder), "SITE": str(self.folder)}

    def start(self, **settings: object) -> None:
        """Set agentguard up in this process; every nonce is noted from here on."""
        watch_nonces(self.folder / "nonces")
        agentguard.init(
            store=self.folder / "store",
            key=f"file:{self.folder / 'key'}",
            policies=self.folder / "policies",
            drift_interval_s=0,
            **settings,
        )

    def say_call(self, tool: str) -> str:
        """Say that the present call runs."""
        span = agentguard.current()
        assert span is not None
        self.say(f"{span.call_id} {tool} {os.getpid()} {time.time():.6f}")
        return span.call_id

    def say(self, line: str) -> None:
        """Write one line at once; whole, for it is short and the file is appended to."""
        fd = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    def said(self) -> list[Said]:
        """All that was said so far."""
        if not self._said.exists():
            return []
        rows = [line.split() for line in self._said.read_text().splitlines()]
        return [Said(row[0], row[1], int(row[2]), float(row[3])) for row in rows]

    def await_calls(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until so many calls ran."""
        deadline = time.monotonic() + timeout_s
        while len(self.said()) < count:
            assert time.monotonic() < deadline, f"only {len(self.said())} calls ran"
            time.sleep(0.01)

    def open(self, folder: Path | None = None) -> Store:
        """Open the store, or a copy of it, to read it."""
        return Store.open(
            folder or self.folder / "store", provider=FileKey(self.folder / "key"), clock=SystemClock()
        )

    def look(self, folder: Path | None = None) -> Found:
        """See what is there, in the store or in a copy of it."""
        store = self.open(folder)
        query = store.query()
        spans = Counter(span.span_id for span in query.spans())
        assert set(query.damage.counts) <= {"torn"}, query.damage.first
        decided = Counter(
            found.record.call_id
            for found in read_decisions(store.folder, store.keystore)
            if found.record.point == "tool.before"
        )
        seen = nonces(self.folder / "nonces") if (self.folder / "nonces").exists() else Counter()
        return Found(
            said=self.said(),
            spans=spans,
            decided=decided,
            nonces_twice=sum(1 for count in seen.values() if count > 1),
            report=verify(store.folder, store.keystore),
            gaps=sum(gap.count for gap in store.query().gaps()),
        )
