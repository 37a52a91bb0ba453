"""Retention runs by itself, and what it takes is on record."""

from __future__ import annotations

import time
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
