"""States of the whole store folder after a cut: spans with content, sealing, packing, erasure, in one life."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.store import CONVERSATION, Subject
from agentguard.values import SpanRecord
from tests.support.sim_disk import crash_state, write_state
from tests.support.sim_disk_os import RecordedFolder
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, open_store

_CONTENT = "agentguard.input.content"
_ERASED = "conversation-1"


def _make(number: int) -> SpanRecord:
    span = make_span(number)
    if number % 4 == 0:
        return span
    return span._replace(
        attributes={
            **span.attributes,
            "gen_ai.conversation.id": f"conversation-{number % 4}",
            _CONTENT: f"what was said in {number}",
        }
    )


SPANS = [_make(i) for i in range(72)]
BY_ID = {span.span_id: span for span in SPANS}


def _subject(span: SpanRecord) -> str:
    return str(span.attributes.get("gen_ai.conversation.id", ""))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def record(folder: Path, monkeypatch: pytest.MonkeyPatch, skip: tuple[str, ...] = ()) -> RecordedFolder:
    """Live a life, and acknowledge: the number of spans that are safe, and 1,000 more once erasure is done."""
    store = new_store(folder / "store")
    with monkeypatch.context() as patch:
        disk = RecordedFolder(store.folder, patch, skip=skip)
        safe = 0
        for part in range(4):
            writer = new_writer(store, is_sealing=part % 2 == 1, segment_spans_max=12, frame_spans_max=4)
            for first in range(part * 18, part * 18 + 18, 6):
                for span in SPANS[first : first + 6]:
                    assert writer.append(FinishedSpan(span))
                assert writer.flush(10).is_complete
                safe = first + 6
                disk.acknowledge(safe + (1000 if part > 2 else 0))
            assert writer.close(10).is_complete
            store.seal_segments()
            if part == 2:
                store.compact()
                assert store.erase(Subject(CONVERSATION, _ERASED), record=lambda _: None)
                disk.acknowledge(safe + 1000)
        store.compact()
    return disk


def explore(folder: Path, disk: RecordedFolder, states: int, seed: int = 0) -> None:
    """Look at so many states: what was acknowledged is there with its content, what was erased is not."""
    chance = random.Random(seed)
    for _ in range(states):
        files, said = crash_state(disk.steps, chance.randint(disk.setup, len(disk.steps)), chance)
        is_erased, safe = said >= 1000, said % 1000 if said >= 0 else 0
        write_state(folder / "store", files)
        query = open_store(folder / "store").query()
        found = list(query.spans())
        ids = {span.span_id for span in found}
        assert len(ids) == len(found), "a span is there twice"
        missing = [span for span in SPANS[:safe] if span.span_id not in ids]
        assert not missing, f"acknowledged and lost: {len(missing)}"
        first_after_erasure = 54
        for number, span in enumerate(SPANS):
            if span.span_id not in ids:
                continue
            seen = next(one for one in found if one.span_id == span.span_id)
            has_content = _CONTENT in seen.attributes
            if _subject(span) == _ERASED and number < first_after_erasure:
                assert not (is_erased and has_content), "erased, and there again"
            elif number < safe:
                assert seen == span, f"acknowledged, and its content is lost: {number}"
            assert not has_content or seen == span, "a span that nobody wrote"
        assert not query.damage.is_tampering, query.damage.first


def test_crash_states(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundreds in the core suite."""
    explore(memory, record(memory, monkeypatch), 300)


@pytest.mark.parametrize("skip", ["sync", "names"])
def test_without_syncs_acknowledged_spans_are_lost(
    memory: Path, monkeypatch: pytest.MonkeyPatch, skip: str
) -> None:
    """The control arms: were nothing lost here, the simulation would lose nothing."""
    disk = record(memory, monkeypatch, (skip,))
    with pytest.raises(AssertionError, match="acknowledged"):
        explore(memory, disk, 300)
