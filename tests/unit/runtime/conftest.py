"""A real runtime in a folder of the test: store, key, policies, decision log."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import StoredDecision, read_decisions
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.core import Runtime
from agentguard.values import SpanRecord

Start = Callable[..., Runtime]

HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {{name: test, version: 1.0.0, title: Test, owner: owner@corp.example}}
scope: {{agents: ["*"], environments: ["*"]}}
defaults: {{unmatched: {unmatched}, mode: enforce, timezone: UTC}}
rules:
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start agentguard with these rules (YAML of the list, or none), strictly."""

    made: list[Runtime] = []

    def make(
        rules: str | None = None, *, unmatched: str = "allow", more: str = "", **settings: object
    ) -> Runtime:
        if rules is not None:
            folder = tmp_path / "policies"
            folder.mkdir(exist_ok=True)
            body = textwrap.indent(textwrap.dedent(rules).strip("\n"), "  ")
            (folder / "test.yaml").write_text(
                HEAD.format(unmatched=unmatched) + body + "\n" + more, encoding="utf-8"
            )
            settings["policies"] = folder
        settings.setdefault("strict", True)
        settings.setdefault("drift_interval_s", 0)
        runtime = agentguard.init(store=tmp_path / "store", **settings)  # type: ignore[arg-type]
        assert runtime is not None
        made.append(runtime)
        return runtime

    yield make
    agentguard.shutdown(5.0)
    for runtime in made:
        # Policies keep the state open after a shutdown; here the process goes on.
        runtime.state.close()
    ACTIVE.runtime = None
    ACTIVE.is_off = False


def spans(runtime: Runtime) -> list[SpanRecord]:
    """All spans of the runtime's store, flushed first."""
    assert runtime.flush(5.0).is_complete
    return list(runtime.store.query().spans())


def decisions(runtime: Runtime) -> list[StoredDecision]:
    """All decisions of its log, outcomes included."""
    assert runtime.flush(5.0).is_complete
    return list(read_decisions(runtime.store.folder, runtime.store.keystore))
