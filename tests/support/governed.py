"""A real runtime in a folder of the test: rules in, spans and decisions out."""

from __future__ import annotations

import textwrap
from pathlib import Path

import agentguard
from agentguard.audit import StoredDecision, read_decisions
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.core import Runtime
from agentguard.values import SpanRecord

_HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: test, version: 1.0.0, title: Test, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
"""


class Governed:
    """Starts agentguard once, and reads what it has recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.runtime: Runtime | None = None

    def start(self, rules: str | None = None, *, more: str = "", **settings: object) -> Runtime:
        """Initialise with these rules (the YAML of a list) and documents, or none; errors of our own raise."""
        if rules is not None:
            folder = self._folder / "policies"
            folder.mkdir(exist_ok=True)
            body = textwrap.indent(textwrap.dedent(rules).strip("\n"), "  ")
            (folder / "test.yaml").write_text(_HEAD + body + "\n" + more, encoding="utf-8")
            settings["policies"] = folder
        settings.setdefault("strict", True)
        self.runtime = agentguard.init(store=self._folder / "store", drift_interval_s=0, **settings)  # type: ignore[arg-type]
        assert self.runtime is not None
        return self.runtime

    def spans(self) -> list[SpanRecord]:
        """All spans so far, oldest first."""
        assert self.runtime is not None
        assert self.runtime.flush(10.0).is_complete
        return sorted(self.runtime.store.query().spans(), key=lambda span: span.start_unix_ns)

    def only(self) -> SpanRecord:
        """The one span there is."""
        (span,) = self.spans()
        return span

    def decisions(self) -> list[StoredDecision]:
        """All decisions so far, outcomes included."""
        assert self.runtime is not None
        assert self.runtime.flush(10.0).is_complete
        return list(read_decisions(self.runtime.store.folder, self.runtime.store.keystore))

    def stop(self) -> None:
        """Shut down, and forget the policies that stay in force."""
        agentguard.shutdown(10.0)
        ACTIVE.runtime = None
        ACTIVE.is_off = False
