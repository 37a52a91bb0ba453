"""Retention runs by itself, in forked children too, and what it takes is on record."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import StoredEvent, read_entries
from agentguard.runtime import background
from tests.unit.runtime.conftest import Start


def test_old_spans_go_by_themselves(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that has grown beyond its size loses its oldest file soon after the next start."""
    runtime = start()
    for number in range(10):
        with agentguard.span(f"step {number}"):
            pass
    agentguard.shutdown(10.0)
    monkeypatch.setattr(background, "KEEP_AFTER_S", 0.01)
    runtime = start(store_bytes_max=1)
    deadline = time.monotonic() + 20
    while list(runtime.store.query().spans()):
        assert time.monotonic() < deadline, "nothing was removed"
        time.sleep(0.02)
    kinds: list[str] = []
    while "store.retention" not in kinds:
        assert time.monotonic() < deadline, kinds
        runtime.flush(5.0)
        entries = read_entries(runtime.store.folder, runtime.store.keystore)
        kinds = [entry.kind for entry in entries if isinstance(entry, StoredEvent)]
    assert (tmp_path / "store" / "keep.lock").stat().st_size == 0


def _beside() -> set[str]:
    """The threads that the background has started here."""
    names = {"agentguard-keep", "agentguard-drift", "agentguard-export"}
    return {thread.name for thread in threading.enumerate()} & names


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_house_once_it_records(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preloaded worker looks after the store as its parent did; a child that records nothing has no threads."""
    monkeypatch.setattr(background, "KEEP_AFTER_S", 3600)
    runtime = start(drift_interval_s=3600, store_bytes_max=1)
    for number in range(10):
        with agentguard.span(f"step {number}"):
            pass
    assert runtime.flush(20).is_complete
    everything = {"agentguard-keep", "agentguard-drift"}
    assert _beside() >= everything

    def waits_for(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        return condition()

    def lives() -> int:
        monkeypatch.setattr(background, "KEEP_AFTER_S", 0.01)
        if _beside() or not runtime.flush(20).is_complete or _beside():
            return 2
        with agentguard.span("in the child"):
            pass
        if not waits_for(lambda: _beside() == everything):
            return 3
        # The files of earlier processes go, whoever sees to it.
        if not waits_for(lambda: not any(span.name == "earlier" for span in runtime.store.query().spans())):
            return 4
        return 0 if agentguard.shutdown(20).is_complete else 5

    def earlier() -> int:
        with agentguard.span("earlier"):
            pass
        agentguard.shutdown(20)
        return 0

    for run in (earlier, lives):
        child = os.fork()
        if child == 0:
            status = 9
            try:
                status = run()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _beside() >= everything
