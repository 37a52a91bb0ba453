"""Every file of a store, changed at random: an error of ours or a counted damage, little memory, no waiting."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.audit import read_decisions, verify
from agentguard.errors import AgentGuardError
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, open_journal
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_writer

SPANS = [
    make_span(
        i,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.conversation.id": f"c{i % 3}",
            "agentguard.input.content": "x" * i,
        },
    )
    for i in range(60)
]
BY_ID = {span.span_id: span for span in SPANS}
_MEMORY_BYTES_MAX = 64 << 20
_SECONDS_MAX = 20.0


@pytest.fixture(scope="module")
def good() -> Iterator[Path]:
    """A store with every kind of file: live, sealed and packed segments, keys, log, ledger, blobs."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    provider = create_key_file(folder / "key")
    store = Store.create(folder / "good", provider=provider, clock=FrozenClock())
    for part in range(5):
        writer = new_writer(store, is_sealing=part != 4, frame_spans_max=4)
        for span in SPANS[part * 12 : part * 12 + 12]:
            writer.append(FinishedSpan(span))
        assert writer.close(10).is_complete
        if part == 2:
            store.seal_segments()
            store.compact()
    store.sealed_blob("settings").write(b"settings")
    journal = open_journal(store.folder, store.keystore)
    for number in range(20):
        journal.append(decision(number, mode=RecordMode.REQUIRED))
    assert journal.close(5.0)
    yield folder
    shutil.rmtree(folder)


def _change(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """One of the ways in which a file may be not what was written."""
    place = chance.randrange(len(data) + 1)
    kind = chance.randrange(8)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes(chance.randrange(2000)) + data[place:]
    if kind == 2:
        return data[:place] + chance.randbytes(chance.randrange(1, 64)) + data[place:]
    if kind == 3:
        length = chance.choice([1, 2, 4, 8])  # A length or a count, as large as can be.
        return data[:place] + b"\xff" * length + data[place + length :]
    if kind == 4:
        return data[:place] + chance.randbytes(16) + data[place + 16 :]
    if kind == 5:
        return data[:place] + other[chance.randrange(len(other) + 1) :]
    if kind == 6:
        return chance.randbytes(chance.randrange(4000))
    flipped = bytearray(data or b"\0")
    for _ in range(chance.randint(1, 20)):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _use(folder: Path, key: Path) -> None:
    """Open and read everything; errors of ours are an answer, anything else is not."""
    try:
        store = Store.open(folder, provider=FileKey(key), clock=FrozenClock())
    except AgentGuardError:
        return
    for use in (
        lambda: [_is_known(span) for span in store.query().spans()],
        lambda: [None for _ in store.query().features()],
        store.verify,
        lambda: store.sealed_blob("settings").read(),
        lambda: list(store.holds.list()),
        lambda: list(read_decisions(store.folder, store.keystore)),
        lambda: verify(store.folder, store.keystore),
        store.seal_segments,
        store.compact,
    ):
        try:
            use()
        except AgentGuardError:
            continue


def _is_known(span: object) -> None:
    known = BY_ID[span.span_id]  # type: ignore[attr-defined]
    content = "agentguard.input.content"
    seen = dict(span.attributes)  # type: ignore[attr-defined]
    assert seen.get(content, known.attributes[content]) == known.attributes[content], "wrong data"


def fuzz(good: Path, rounds: int, seed: int = 0) -> set[str]:
    """Change files at random, so many times; gives the kinds of files that were changed."""
    chance = random.Random(seed)
    folder = good / "copy"
    touched: set[str] = set()
    files = sorted(p.relative_to(good / "good") for p in (good / "good").rglob("*") if p.is_file())
    kept = {name: (good / "good" / name).read_bytes() for name in files}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good / "good", folder)
        name = chance.choice(files)
        touched.add(name.parts[0])
        changed = _change(kept[name], chance, kept[chance.choice(files)])
        (folder / name).write_bytes(changed)
        os.chmod(folder / name, 0o600)  # noqa: PTH101 - the mode is not what is tested
        worker = threading.Thread(target=_guarded, args=(folder, good / "key", failures := []), daemon=True)
        worker.start()
        worker.join(_SECONDS_MAX)
        assert not worker.is_alive(), f"seed {seed}, round {number}, {name}: it waits"
        if failures:
            failures[0].add_note(f"seed {seed}, round {number}, {name}, {len(changed)} bytes")
            raise failures[0]
    unit = 1024 if sys.platform != "darwin" else 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    assert grown < _MEMORY_BYTES_MAX, f"grew by {grown / 2**20:.0f} MiB"
    return touched


def _guarded(folder: Path, key: Path, failures: list[BaseException]) -> None:
    try:
        _use(folder, key)
    except BaseException as error:
        failures.append(error)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", [150, pytest.param(50_000, marks=pytest.mark.long)])
def test_files_changed_at_random(good: Path, rounds: int) -> None:
    """One file at a time, of every kind."""
    assert {"STORE", "seg", "dec", "log"} <= fuzz(good, rounds)
