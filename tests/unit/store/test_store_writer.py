"""The writer: batches, bounds, drops, flush, close, fork."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from agentguard.errors import ConfigurationError, StoreError
from agentguard.store import Store, WriterConfig
from agentguard.values import GapRecord, OutcomeRecord, SpanRecord
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer, open_store, segment_files

# Newer interpreters warn of a fork beside threads: that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_round_trip(tmp_path: Path) -> None:
    """Spans, outcomes and gaps come back as they were given, live and sealed."""
    store = new_store(tmp_path / "store")
    spans = [make_span(i) for i in range(300)]
    writer = new_writer(store)
    for span in spans:
        assert writer.append(FinishedSpan(span))
    outcome = OutcomeRecord(spans[3].span_id, 5, "a", None, 0.25, {"by": "x", "tags": ("p", "q")})
    assert writer.append_outcome(outcome)
    writer.append_gap(GapRecord("sampled", 3, 10, 20))
    result = writer.flush(10)
    assert result.is_complete
    assert (result.stored, result.dropped, result.pending) == (301, 3, 0)
    for _ in ("live", "sealed"):
        query = store.query()
        assert list(query.spans()) == spans
        assert list(query.outcomes()) == [outcome]
        assert list(query.gaps()) == [GapRecord("sampled", 3, 10, 20)]
        assert [resource for _, resource in query.resources()] == [{"service.name": "test"}]
        assert not query.damage
        writer.close(10)


def test_a_lone_span_is_on_disk_within_a_second(tmp_path: Path) -> None:
    """Nobody flushes, and one span is there all the same."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)
    begin = time.monotonic()
    writer.append(FinishedSpan(make_span(1)))
    while not writer.stored:
        assert time.monotonic() - begin < 2.0, "more than a second, and some for a busy machine"
        time.sleep(0.01)
    assert list(store.query().spans()) == [make_span(1)]
    writer.close(10)


def test_files_are_private(tmp_path: Path) -> None:
    """With umask 0 the folder is 0700 and every file 0600."""
    before = os.umask(0)
    try:
        store = new_store(tmp_path / "store")
        fill(store, [make_span(1)], is_sealed=True)
        fill(store, [make_span(2)], is_sealed=False)
        store.sealed_blob("settings").write(b"x")
    finally:
        os.umask(before)
    for path in (tmp_path / "store").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_values_that_cannot_be_stored_are_replaced(tmp_path: Path) -> None:
    """A lone surrogate, a huge integer, an odd object: the span is kept, and so are its neighbours."""
    store = new_store(tmp_path / "store")
    odd = make_span(
        1, attributes={"a": "\ud800", "b": 2**200, "c": object(), "d": [1, 2], "e": float("inf"), "f": "ok"}
    )
    fill(store, [make_span(0), odd, make_span(2)], is_sealed=True)
    first, found, last = store.query().spans()
    assert (first, last) == (make_span(0), make_span(2))
    assert found.attributes["a"] == "\\ud800"
    assert found.attributes["b"] == str(2**200)
    assert found.attributes["c"] == "<object>"
    assert found.attributes["d"] == (1, 2)
    assert found.attributes["e"] == float("inf")
    assert found.attributes["f"] == "ok"


class _Broken:
    bytes_estimate = 100

    def record(self) -> SpanRecord:
        raise RuntimeError("secret payload")


def test_a_span_that_cannot_be_made_is_dropped_alone(tmp_path: Path) -> None:
    """Its neighbours are stored, the loss is counted, written down and reported."""
    store = new_store(tmp_path / "store")
    seen: list[str] = []
    writer = new_writer(store, lambda where, _: seen.append(where))
    writer.append(FinishedSpan(make_span(1)))
    writer.append(_Broken())
    writer.append(FinishedSpan(make_span(2)))
    result = writer.close(10)
    assert result.is_complete
    assert (result.stored, result.dropped) == (2, 1)
    assert [gap[:2] for gap in store.query().gaps()] == [("encode_error", 1)]
    assert seen == ["store.record"]


def test_a_span_that_is_too_long_is_dropped_alone(tmp_path: Path) -> None:
    """One enormous span is counted, and the others are stored."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, record_bytes_max=20_000)
    spans = [make_span(i) for i in range(5)]
    spans[2] = make_span(2, attributes={"x": "y" * 30_000})
    for span in spans:
        writer.append(FinishedSpan(span))
    assert writer.close(10).dropped == 1
    assert list(store.query().spans()) == [span for i, span in enumerate(spans) if i != 2]
    assert [gap[:2] for gap in store.query().gaps()] == [("too_long", 1)]


def test_rotation(tmp_path: Path) -> None:
    """Segments end at their limit, older ones are sealed, and every span is there once."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, segment_spans_max=50, frame_spans_max=10)
    spans = [make_span(i) for i in range(230)]
    for span in spans:
        writer.append(FinishedSpan(span))
        if int(span.span_id, 16) % 25 == 0:
            writer.flush(10)
    writer.close(10)
    store.seal_segments()
    assert list(store.query().spans()) == spans
    assert len(segment_files(store)) >= 3
    info = store.info()
    assert (info.spans, info.live_segments) == (230, 0)


def test_closed_writer_drops(tmp_path: Path) -> None:
    """After close nothing is taken, nothing raises, and it is counted."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)
    writer.append(FinishedSpan(make_span(1)))
    assert writer.close(10).is_complete
    assert not writer.append(FinishedSpan(make_span(2)))
    assert writer.dropped == {"closed": 1}
    assert writer.close(10).stored == 1


def test_a_writer_that_wrote_nothing_makes_no_file(tmp_path: Path) -> None:
    """Opening and closing leaves the folder empty."""
    store = new_store(tmp_path / "store")
    result = new_writer(store).close(5)
    assert result.is_complete
    assert segment_files(store) == []


def noise(number: int) -> SpanRecord:
    """Make a span that does not compress."""
    return make_span(number, attributes={"x": os.urandom(250).hex()})


def test_full_queue_is_bounded_and_counted(tmp_path: Path) -> None:
    """With the writer held up, memory stays bounded; what is dropped is counted and written as a gap."""
    from tests.support.faulty_disk import FaultyDisk

    gate = threading.Event()

    class SlowDisk(FaultyDisk):
        def write(self, fd: int, data: bytes) -> None:
            gate.wait(30)
            super().write(fd, data)

    store = new_store(tmp_path / "store", SlowDisk())
    writer = new_writer(store, queue_bytes_max=100_000, backpressure_s_max=0.001)
    taken = [i for i in range(800) if writer.append(FinishedSpan(noise(i), 1000))]
    # Encoded, which the callers did, a span takes half of the memory here.
    assert 100 < len(taken) < 400
    assert writer.dropped == {"queue_full": 800 - len(taken)}
    gate.set()
    assert writer.close(20).is_complete
    assert [int(s.span_id, 16) - 0xB000_0000_0000_0000 for s in store.query().spans()] == taken
    assert sum(gap.count for gap in store.query().gaps()) == 800 - len(taken)


def test_a_full_queue_never_holds_up_an_event_loop(tmp_path: Path) -> None:
    """In a coroutine a full queue drops at once."""
    from tests.support.faulty_disk import FaultyDisk

    gate = threading.Event()

    class StuckDisk(FaultyDisk):
        def write(self, fd: int, data: bytes) -> None:
            gate.wait(30)
            super().write(fd, data)

    store = new_store(tmp_path / "store", StuckDisk())
    writer = new_writer(store, queue_bytes_max=50_000, backpressure_s_max=5.0)

    async def run() -> float:
        longest = 0.0
        for i in range(600):
            begin = time.perf_counter()
            writer.append(FinishedSpan(noise(i), 1000))
            longest = max(longest, time.perf_counter() - begin)
        return longest

    longest = asyncio.run(run())
    assert writer.dropped["queue_full"] > 0
    assert longest < 1.0
    gate.set()
    writer.close(20)


def test_a_segment_has_a_header_as_soon_as_it_has_its_name(tmp_path: Path) -> None:
    """Whoever reads while a segment is made sees no damage; what a dead process left is removed."""
    from tests.support.faulty_disk import FaultyDisk

    store = new_store(tmp_path / "store")

    class Watched(FaultyDisk):
        def write(self, fd: int, data: bytes) -> None:
            query = store.query()
            list(query.spans())
            assert not query.damage
            super().write(fd, data)

    new_store_of = Store(store.folder, store.keystore, store.clock, Watched())
    writer = new_writer(new_store_of)
    writer.append(FinishedSpan(make_span(1)))
    leftover = store.segments / ".0123456789abcdef-00000000.ags.new"
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    assert writer.close(10).stored == 1
    store.seal_segments()
    assert [path.suffix for path in store.segments.iterdir()] == [".ags"]


def test_whoever_fills_the_queue_encodes(tmp_path: Path) -> None:
    """A burst that comes faster than the thread wakes loses nothing, in a coroutine and outside."""
    store = new_store(tmp_path / "store")
    # Room for a thousand spans as they are.
    writer = new_writer(store, queue_bytes_max=1_000_000)
    spans = [make_span(i) for i in range(6000)]

    async def burst() -> None:
        for span in spans[:3000]:
            assert writer.append(FinishedSpan(span, 1000))

    asyncio.run(burst())
    for span in spans[3000:]:
        assert writer.append(FinishedSpan(span, 1000))
    assert writer.close(30).stored == 6000
    assert list(store.query().spans()) == spans


def test_frames_lie_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Eight threads encode at once and are interrupted at odd moments: positions never go back."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, queue_bytes_max=60_000, frame_spans_max=16, is_sealing=False)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(
                target=lambda k=k: [  # type: ignore[misc]
                    writer.append(FinishedSpan(make_span(k * 500 + i), 1000)) for i in range(500)
                ]
            )
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert writer.close(30).stored == 4000
    sequences = [position.cursor[2] for position in store.query().positions(None)]
    assert sequences == list(range(4000))


def test_an_interrupted_helper_gives_back_what_it_took(tmp_path: Path) -> None:
    """A signal handler that raises while a caller encodes costs no span, and holds nobody up."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, queue_bytes_max=100_000)

    class Interrupting(FinishedSpan):
        has_raised = False

        def record(self) -> SpanRecord:
            if not Interrupting.has_raised and threading.current_thread() is threading.main_thread():
                Interrupting.has_raised = True
                raise KeyboardInterrupt
            return super().record()

    spans = [make_span(i) for i in range(300)]
    raised = 0
    for span in spans:
        try:
            writer.append(Interrupting(span, 1000))
        except KeyboardInterrupt:
            raised += 1
    assert writer.close(10).is_complete
    assert raised == Interrupting.has_raised == 1
    assert writer.stored >= 299, "the span of the interrupted call itself was not taken"


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    """Eight threads append at once; every span is there once."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)

    def work(first: int) -> None:
        for i in range(first, first + 500):
            assert writer.append(FinishedSpan(make_span(i)))

    threads = [threading.Thread(target=work, args=(k * 500,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close(30).stored == 4000
    assert sorted(store.query().spans()) == sorted(make_span(i) for i in range(4000))


def test_fork_gives_the_child_its_own_file(tmp_path: Path) -> None:
    """Parent and child both go on; nothing of the parent's queue is written twice."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)
    parent_id = writer.writer_id
    writer.append(FinishedSpan(make_span(1)))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            writer.append(FinishedSpan(make_span(2)))
            result = writer.close(10)
            if result.is_complete and result.stored == 1 and writer.writer_id != parent_id:
                status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    writer.append(FinishedSpan(make_span(3)))
    assert writer.close(10).stored == 2
    assert sorted(store.query().spans()) == [make_span(1), make_span(2), make_span(3)]
    assert len(dict(store.query().resources())) == 2


def test_fork_while_threads_append(tmp_path: Path) -> None:
    """A fork in the middle of heavy use neither hangs the child nor the parent."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store)
    stop = threading.Event()
    count = [0]

    def work() -> None:
        while not stop.is_set() and count[0] < 3000:
            writer.append(FinishedSpan(make_span(count[0])))
            count[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=work)
    thread.start()
    for k in range(5):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                writer.append(FinishedSpan(make_span(10_000 + k)))
                status = 0 if writer.close(20).is_complete else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    thread.join()
    assert writer.close(20).is_complete
    numbers = sorted(int(s.span_id, 16) - 0xB000_0000_0000_0000 for s in store.query().spans())
    assert numbers == [*range(count[0]), *range(10_000, 10_005)]


def test_reading_while_writing(tmp_path: Path) -> None:
    """A reader sees a growing beginning of what was written, and no damage."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, frame_interval_s=0.01, segment_spans_max=300, frame_spans_max=20)
    spans = [make_span(i) for i in range(2000)]
    reader, seen = open_store(tmp_path / "store"), 0
    for span in spans:
        writer.append(FinishedSpan(span))
        if int(span.span_id, 16) % 250 == 0:
            writer.flush(10)
            query = reader.query()
            found = list(query.spans())
            assert found == spans[: len(found)]
            assert len(found) > seen
            assert not query.damage, query.damage.first
            seen = len(found)
    writer.close(10)
    assert list(reader.query().spans()) == spans


def test_settings_are_checked() -> None:
    """All problems of the settings are named at once."""
    with pytest.raises(ConfigurationError) as caught:
        WriterConfig(queue_bytes_max=0, frame_interval_s=-1, segment_spans_max=10**7)
    assert len(caught.value.problems) == 3


def test_blobs(tmp_path: Path) -> None:
    """A small sealed file is replaced whole, is not readable without the key, and its name is fixed."""
    store = new_store(tmp_path / "store")
    blob = store.sealed_blob("drift-reference")
    assert blob.read() is None
    blob.write(b"needle" * 100)
    assert open_store(tmp_path / "store").sealed_blob("drift-reference").read() == b"needle" * 100
    assert b"needle" not in (tmp_path / "store" / "blobs" / "drift-reference.agb").read_bytes()
    with blob.locked() as is_mine:
        assert is_mine
        with store.sealed_blob("drift-reference").locked(is_waiting=False) as is_other:
            assert not is_other
    assert store.sealed_blob("cursor-0123456789abcdef").read() is None
    for name in ("", "x", "../STORE", "cursor-../../../../x", "cursor-0123456789abcdeg", "settings/"):
        with pytest.raises(StoreError, match="got the name"):
            store.sealed_blob(name)


def test_a_blob_of_another_name_does_not_open(tmp_path: Path) -> None:
    """Sealed files cannot be exchanged, flipped or cut."""
    from agentguard.errors import TamperedError

    store = new_store(tmp_path / "store")
    store.sealed_blob("settings").write(b"one")
    store.sealed_blob("drift-state").write(b"two")
    folder = tmp_path / "store" / "blobs"
    one, two = folder / "settings.agb", folder / "drift-state.agb"
    good = one.read_bytes()
    for bad in (
        two.read_bytes(),
        good[:-1],
        good[:3],
        b"",
        good[:40] + bytes([good[40] ^ 1]) + good[41:],
        bytes([2]) + good[1:],
    ):
        one.write_bytes(bad)
        with pytest.raises(TamperedError):
            store.sealed_blob("settings").read()
