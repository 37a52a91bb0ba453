"""Nothing readable without the key: planted needles are looked for in every file and every log line."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path

import pytest

import agentguard
from agentguard.runtime.active import ACTIVE

NEEDLES = {
    "argument": "needle-argument-7Q2x",
    "result": "needle-result-9Kp4",
    "principal": "needle-principal-1Zt8",
    "conversation": "needle-conversation-3Vb6",
    "label": "needle-label-5Mw0",
    "agent": "needle_agent_2Hs9",
    "tool": "needle_tool_8Xc1",
    "error": "needle-error-4Rf7",
}

POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: leak, version: 1.0.0, title: Leak, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
  - {id: DENY, title: Never, at: tool.before, when: "args.text.startsWith('deny')", then: deny, record: required}
  - id: ASK
    title: Ask first
    at: tool.before
    when: "args.text.startsWith('ask')"
    then: {require_approval: {from: [bob@corp.example], approvals: 1, expires: 15m, on_timeout: deny}}
---
apiVersion: agentguard/v1
kind: Approvers
metadata: {name: people}
groups:
  all:
    - {id: bob@corp.example, public_key: "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
"""


def test_planted_needles_are_in_no_file_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With full capture on, the folder, the temporary files and the log hold nothing in clear."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(POLICY, encoding="utf-8")
    runtime = agentguard.init(
        store=tmp_path / "store", policies=tmp_path / "policies", capture="full", drift_interval_s=0
    )
    assert runtime is not None

    @agentguard.tool(name=NEEDLES["tool"])
    def tool(text: str) -> str:
        if text.startswith("fail"):
            raise ValueError(NEEDLES["error"])
        return NEEDLES["result"]

    @agentguard.agent(name=NEEDLES["agent"])
    def agent() -> None:
        tool(NEEDLES["argument"])
        for text in ("deny ", "ask ", "fail "):
            with pytest.raises((agentguard.CallDenied, agentguard.ApprovalPending, ValueError)):
                tool(text + NEEDLES["argument"])

    with caplog.at_level(logging.DEBUG):
        with agentguard.run(
            principal=NEEDLES["principal"],
            conversation_id=NEEDLES["conversation"],
            labels={"l": NEEDLES["label"]},
        ):
            agent()
        spans = [*runtime.store.query().spans()] if runtime.flush(5).is_complete else []
        assert agentguard.shutdown(5).is_complete
    ACTIVE.runtime = None
    # The needles are really there, for whoever has the key.
    seen = repr(spans)
    for name in ("argument", "result", "conversation", "label", "agent", "tool", "error"):
        assert NEEDLES[name] in seen, name
    key_file = Path(os.environ["XDG_CONFIG_HOME"]) / "agentguard" / "key"
    key_text = key_file.read_text(encoding="utf-8").strip()
    raw = base64.b64decode(key_text)
    secrets = [*NEEDLES.values(), "bob@corp.example", key_text, raw.hex()]
    forms = [
        form
        for text in secrets
        for form in (text.encode(), base64.b64encode(text.encode())[:-4], text.encode("utf-16-le"))
    ]
    forms.append(raw)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in files:
        content = path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0, path
        for form in forms:
            assert form not in content, (path.name, form)
    for form in secrets:
        assert form not in caplog.text, form
