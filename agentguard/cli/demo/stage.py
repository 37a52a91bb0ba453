"""
The stage: a project folder, a model server, a runtime, and the agent twice.

Everything on it is real: the folder is what `agentguard init` would leave
behind, the store is sealed with the key in it, the commands that the demo
prints work in it.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import agentguard
from agentguard.cli.demo.agent import Agent, Desk, build_agent
from agentguard.cli.demo.gateway import MissingPackagesError, SmallModel
from agentguard.cli.demo.receiver import Receiver
from agentguard.cli.demo.server import MODEL, ModelServer
from agentguard.cli.demo.traffic import questions
from agentguard.runtime.clock import SystemClock
from agentguard.seal import create_key_file, provider_from
from agentguard.store import Store

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


class Stage:
    """
    What the scenes share. Made by `open_stage`.

    Args:
        folder:
            The project folder.
        server:
            Running.
        receiver:
            Running and stuck.
    """

    def __init__(self, folder: Path, server: ModelServer, receiver: Receiver, *, is_real: bool) -> None:
        self.folder = folder
        self.server = server
        self.receiver = receiver
        self.is_real = is_real
        """Whether a real language model writes the answers."""
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

    def talk(self, question: str, *, labels: Mapping[str, str] | None = None) -> str:
        """Let the guarded agent answer one customer."""
        with agentguard.run(principal=f"customer-{self.draw.randrange(1000)}", labels=labels):
            return self.agent.answer(question)

    def serve(self, customers: int) -> None:
        """Let the guarded agent answer some customers, one after the other."""
        for question in questions(customers, self.draw):
            self.talk(question)

    def serve_bare(self, customers: int) -> list[str]:
        """Let the agent without agentguard do the same; returns its answers."""
        return [self.bare_agent.answer(question) for question in questions(customers, self.draw)]

    @property
    def store(self) -> Store:
        """The store, opened a second time, as another process would, with all that was recorded in it."""
        agentguard.flush(10)
        if self._store is None:
            key = provider_from(f"file:{self.folder / 'key'}", environ=os.environ)
            self._store = Store.open(self.folder / "store", provider=key, clock=SystemClock())
        return self._store

    def sql(self, query: str) -> list[Sequence[object]]:
        """Ask the store in SQL."""
        _, rows = self.store.sql(query)
        return list(rows)

    def number(self, query: str) -> float:
        """Ask the store for one number; nothing counts as 0."""
        value = self.sql(query)[0][0]
        return float(value) if isinstance(value, (int, float)) else 0.0

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
    try:
        import openai
    except ImportError:
        raise MissingPackagesError('the demo needs the openai SDK: pip install "agentguard[demo]"') from None
    upstream = SmallModel() if model == "smollm2" else None
    write_project(folder)
    with _quiet_environment(), ModelServer(upstream=upstream) as server, Receiver() as receiver:
        agentguard.init(
            store=folder / "store",
            key=f"file:{folder / 'key'}",
            policies=folder / "policies",
            service="support-desk",
            environment="demo",
            drift_interval_s=0,
            export=receiver.url,
        )
        try:
            yield Stage(folder, server, receiver, is_real=upstream is not None)
        finally:
            agentguard.shutdown(5)


def write_project(folder: Path) -> None:
    """Write what `agentguard init` writes: settings, key, policies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agentguard.toml").write_text(_PROJECT, encoding="utf-8")
    create_key_file(folder / "key")
    (folder / "policies").mkdir()
    shipped = files("agentguard.cli.demo") / "policies"
    (folder / "policies" / "support.yaml").write_bytes((shipped / "support.yaml").read_bytes())
    (folder / "candidate").mkdir()
    (folder / "candidate" / "lower-cap.yaml").write_bytes((shipped / "candidate.yaml").read_bytes())


@contextlib.contextmanager
def _quiet_environment() -> Iterator[None]:
    """Hide the user's own settings and proxies, so that the demo touches nothing but its folder."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("AGENTGUARD_", "OTEL_")) or name.upper().endswith("_PROXY")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
