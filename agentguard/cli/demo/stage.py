"""
The stage: a project folder, a model server, a runtime, and the agent twice.

Everything on it is real: the folder is what `agentguard init` would leave
behind, the store is sealed with the key in it, the commands that the demo
prints work in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import agentguard
from agentguard.audit import StoredDecision, read_decisions
from agentguard.cli.demo.agent import Agent, Desk, build_agent
from agentguard.cli.demo.gateway import MissingPackagesError, SmallModel
from agentguard.cli.demo.receiver import Receiver
from agentguard.cli.demo.server import MODEL, ModelServer
from agentguard.cli.demo.traffic import questions
from agentguard.drift import Checker, CheckerConfig, fit_reference, save_reference
from agentguard.policy import load_bundle
from agentguard.review import RecordedCall, ReplayReport, replay
from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import Point, Verdict
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from openai import OpenAI

COMMAND_TIMEOUT_S = 60.0
_PROJECT = """\
# Left by `agentguard demo --keep`: the commands that it printed work in this folder.
# A real project keeps its key elsewhere: `agentguard doctor` says why.
service = "support-desk"
environment = "demo"
store = "store"
key = "file:key"
policies = "policies"
drift_interval_s = 0
"""


class Said(NamedTuple):
    """What a command answered."""

    status: int
    text: str
    """Standard output and standard error, in this order."""


class Size(NamedTuple):
    """How many customers come."""

    reference: int
    """While the agent is known to be well."""
    window: int
    """Between two looks of the drift checker."""


class Stage:
    """
    What the scenes share. Made by `open_stage`.

    Args:
        folder:
            The project folder.
        publish:
            Where the drift checker's verdicts go: into the runtime.
        server:
            Running.
        receiver:
            Running.
    """

    def __init__(
        self,
        folder: Path,
        publish: Callable[[Verdict], None],
        server: ModelServer,
        receiver: Receiver,
        *,
        is_real: bool,
    ) -> None:
        self.folder = folder
        self.publish = publish
        self.clock = SystemClock()
        self.size = Size(reference=40, window=25) if is_real else Size(reference=80, window=40)
        self.server = server
        self.receiver = receiver
        self.is_real = is_real
        """Whether a real language model writes the answers."""
        self._at_once = 1 if is_real else 4
        self._customers = itertools.count(1)
        self.draw = random.Random(20)  # noqa: S311 - questions of customers, no secret
        self.desk = Desk()
        """What the guarded agent acts on."""
        self.bare_desk = Desk()
        """What the same agent without agentguard acts on."""
        self.agent = self._agent(self.desk, is_guarded=True)
        self.bare_agent = self._agent(self.bare_desk, is_guarded=False)
        self._store: Store | None = None

    def client(self) -> OpenAI:
        """Make a client of the SDK that talks to the server, and looks at no proxy settings."""
        import openai

        http = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(base_url=self.server.url, api_key="demo", http_client=http, timeout=30.0)

    def _agent(self, desk: Desk, *, is_guarded: bool, is_streaming: bool = False) -> Agent:
        client = self.client()
        return build_agent(
            agentguard.wrap(client) if is_guarded else client,
            desk,
            model=MODEL,
            is_guarded=is_guarded,
            is_streaming=is_streaming,
            can_call_tools=not self.is_real,
        )

    def streaming_agent(self) -> Agent:
        """Make the guarded agent once more, with streamed answers."""
        return self._agent(self.desk, is_guarded=True, is_streaming=True)

    def talk(self, question: str) -> str:
        """Let the guarded agent answer one customer."""
        with agentguard.run(principal=f"customer-{next(self._customers)}"):
            return self.agent.answer(question)

    def serve(self, customers: int) -> None:
        """Let the guarded agent answer some customers, a few at a time."""
        with ThreadPoolExecutor(self._at_once) as pool:
            list(pool.map(self.talk, questions(customers, self.draw)))

    def serve_bare(self, customers: int) -> list[str]:
        """Let the agent without agentguard do the same; returns its answers."""
        with ThreadPoolExecutor(self._at_once) as pool:
            return list(pool.map(self.bare_agent.answer, questions(customers, self.draw)))

    @property
    def store(self) -> Store:
        """The store, opened a second time, as another process would, with all that was recorded in it."""
        agentguard.flush(10)
        if self._store is None:
            self._store = open_with_key(self.folder / "store", self.folder / "key")
        return self._store

    def sql(self, query: str) -> list[Sequence[object]]:
        """Ask the store in SQL."""
        _, rows = self.store.sql(query)
        return list(rows)

    def number(self, query: str) -> float:
        """Ask the store for one number; nothing counts as 0."""
        value = self.sql(query)[0][0]
        return float(value) if isinstance(value, (int, float)) else 0.0

    @property
    def rules(self) -> int:
        """How many rules are in force."""
        return len(load_bundle([self.folder / "policies"]).rules)

    def now(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return self.clock.unix_ns()

    def fit_reference(self) -> None:
        """Take everything that the agent did so far as normal, and keep it in the store."""
        save_reference(self.store, fit_reference(self.store, agent="support"))

    def check_drift(self, since_unix_ns: int) -> Verdict:
        """Let the checker pass once over what ended since then; its verdict is a fact from then on."""
        window_s = (self.now() - since_unix_ns) / 1e9
        config = CheckerConfig(agent="support", window_s=window_s)
        checker = Checker(self.store, clock=self.clock, publish=self.publish, config=config)
        return checker.check_once()

    def restart_watch(self) -> None:
        """Let the checker forget what it saw: it knows nothing until enough new calls have come."""
        self.check_drift(self.now())

    def last_decision(self, rule_id: str) -> StoredDecision | None:
        """Find the newest decision that this rule made, in the decision log on disk."""
        found = [
            entry
            for entry in read_decisions(self.store.folder, self.store.keystore)
            if entry.record.decision.rule_id == rule_id
        ]
        return max(found, key=lambda entry: entry.record.time_unix_ns, default=None)

    def latencies_ms(self, kind: str, load: int) -> dict[str, float]:
        """Look up the latencies of the calls of one kind that ran under a load, by trace, in the store."""
        label = f"{names.LABEL_PREFIX}load"
        return {
            span.trace_id: span.duration_ns / 1e6
            for span in self.store.query().spans(kind=kind)
            if span.attributes.get(label) == str(load)
        }

    def wait_for_export(self, spans: int, timeout_s: float = 45.0) -> int:
        """Wait until the backend has so many spans, or the time is over; returns how many it has."""
        deadline = time.monotonic() + timeout_s
        while len(self.receiver.span_ids) < spans and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(self.receiver.span_ids)

    def damage_of(self, folder: Path) -> str:
        """Read all of another store folder with the same key, and say in words what is wrong with it."""
        query = open_with_key(folder, self.folder / "key").query()
        for _ in query.spans():
            pass
        return "; ".join(str(damage) for damage in query.damage.first)

    def replay(self, candidate: Path) -> ReplayReport:
        """
        Ask another bundle about each tool call that ran.

        Arguments come from the desk's own book: content is not recorded unless it is asked for.
        """
        decided = {
            entry.record.call_id: entry.record.decision
            for entry in read_decisions(self.store.folder, self.store.keystore)
            if entry.record.point == Point.TOOL_BEFORE
        }
        calls = [
            RecordedCall(
                Point.TOOL_BEFORE,
                {"tool.name": call.tool, "args": call.arguments, "agent.name": "support"},
                decided.get(call.call_id),
                call.call_id,
            )
            for call in self.desk.calls
        ]
        return replay(load_bundle([candidate]), calls)

    def command(self, *words: str) -> Said:
        """Run an `agentguard` command in the project folder, as a person would."""
        agentguard.flush(10)
        done = subprocess.run(
            [sys.executable, "-m", "agentguard", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Said(done.returncode, done.stdout + done.stderr)


@contextlib.contextmanager
def open_stage(folder: Path, model: str) -> Iterator[Stage]:
    """
    Set the stage up, and clear it away.

    Args:
        folder:
            An empty folder; what is written stays in it.
        model:
            scripted or smollm2.

    Yields:
        The stage, with the runtime initialised.

    Raises:
        MissingPackagesError: A package that only the demo uses is not installed.
    """
    if importlib.util.find_spec("openai") is None:
        raise MissingPackagesError('the demo needs the openai SDK: pip install "agentguard[demo]"')
    upstream = SmallModel() if model == "smollm2" else None
    write_project(folder)
    with _quiet_environment(), ModelServer(upstream=upstream) as server, Receiver() as receiver:
        runtime = agentguard.init(
            store=folder / "store",
            key=f"file:{folder / 'key'}",
            policies=folder / "policies",
            service="support-desk",
            environment="demo",
            drift_interval_s=0,
            export=receiver.url,
        )
        try:
            assert runtime is not None, "agentguard is enabled"
            yield Stage(folder, runtime.publish, server, receiver, is_real=upstream is not None)
        finally:
            agentguard.shutdown(5)


def open_with_key(folder: Path, key: Path) -> Store:
    """Open a store with a key file, for reading."""
    return Store.open(folder, provider=FileKey(key), clock=SystemClock())


def write_project(folder: Path) -> None:
    """Write what `agentguard init` writes: settings, key, policies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agentguard.toml").write_text(_PROJECT, encoding="utf-8")
    create_key_file(folder / "key")
    shipped = files("agentguard.cli.demo") / "policies"
    for name, place in (("support", "policies"), ("candidate", "candidate")):
        (folder / place).mkdir()
        for file in (f"{name}.yaml", f"{name}.test.yaml"):
            (folder / place / file).write_bytes((shipped / file).read_bytes())


@contextlib.contextmanager
def _quiet_environment() -> Iterator[None]:
    """
    Hide the user's own settings and proxies, so that the demo touches nothing but its folder.

    The runtime's log lines are silenced too: that the backend hangs is part of the play.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("AGENTGUARD_", "OTEL_")) or name.upper().endswith("_PROXY")
    }
    logger = logging.getLogger("agentguard")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        os.environ.update(hidden)
        logger.disabled = was_disabled
