"""A governed process is killed again and again: what was acknowledged is there, and verifies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import Question, read_decisions, verify
from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from tests.support.crash import kill_in_the_middle

POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: crash, version: 1.0.0, title: Recorded before it runs, owner: owner@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: deny, mode: enforce, timezone: UTC}
rules:
  - id: REQ
    title: On disk first
    at: tool.before
    when: "true"
    then: allow
    record: required
"""


def _governed(folder: Path, acknowledge: Callable[[str], None]) -> None:
    """Make governed calls for ever; acknowledge each from inside the function, when it runs."""
    os.environ["HOME"] = str(folder)
    agentguard.init(
        store=folder / "store",
        key=f"file:{folder / 'key'}",
        policies=folder / "policies",
        drift_interval_s=0,
    )

    @agentguard.tool
    def work(number: int) -> None:
        span = agentguard.current()
        assert span is not None
        acknowledge(span.call_id)

    number = 0
    while True:
        with agentguard.run(principal="ann"):
            work(number)
        number += 1


def _open(folder: Path) -> Store:
    return Store.open(folder / "store", provider=FileKey(folder / "key"), clock=SystemClock())


def _crash(folder: Path, *, kills: int, policy: str) -> tuple[set[str], set[str]]:
    """Kill a governed process again and again; give the calls that ran, and those in the log."""
    (folder / "policies").mkdir()
    (folder / "policies" / "crash.yaml").write_text(policy, encoding="utf-8")
    create_key_file(folder / "key")
    acknowledged: set[str] = set()
    for seed in range(kills):
        acknowledged.update(kill_in_the_middle(_governed, folder, seed=seed, within_s=0.05))
    store = _open(folder)
    admitted = {
        stored.record.call_id
        for stored in read_decisions(store.folder, store.keystore)
        if stored.record.point == "tool.before"
    }
    return acknowledged, admitted


def check_kills(folder: Path, kills: int) -> None:
    """Kill so many governed processes; all decisions whose call ran are in the log, it verifies, the store opens."""
    for first in range(0, kills, 25):
        place = folder / str(first)
        place.mkdir(parents=True)
        _check_kills(place, min(25, kills - first))


def _check_kills(folder: Path, kills: int) -> None:
    acknowledged, admitted = _crash(folder, kills=kills, policy=POLICY)
    assert len(acknowledged) >= kills
    assert acknowledged - admitted == set()
    store = _open(folder)
    report = verify(store.folder, store.keystore)
    assert report.is_good, report.first_bad
    assert report.journals >= kills
    # The calls that were running when the process died are seen: admitted, no outcome.
    assert report.of(Question.GAPS).answer == "noted"
    query = store.query()
    list(query.spans())  # What was written at all can be read.
    assert not query.damage.is_tampering


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [12, pytest.param(1000, marks=pytest.mark.long)])
def test_acknowledged_decisions_survive_kill(tmp_path: Path, kills: int) -> None:
    """A few kills in the core suite."""
    check_kills(tmp_path, kills)


def test_control_arm_loses(tmp_path: Path) -> None:
    """The same harness without `record: required` loses decisions: it can see a loss."""
    acknowledged, admitted = _crash(tmp_path, kills=10, policy=POLICY.replace("required", "async"))
    assert acknowledged - admitted != set()
