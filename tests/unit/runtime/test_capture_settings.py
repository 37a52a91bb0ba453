"""Settings of capture, as calls meet them: hashes, load, scores as events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

import agentguard
from agentguard.capture import queued
from tests.unit.runtime.conftest import Start, spans


@agentguard.tool
def look_up(order: str) -> str:
    """Answer with what was asked."""
    return order


def test_hashes_are_off_by_default(start: Start) -> None:
    """Nothing of the arguments stands on a span."""
    runtime = start()
    look_up("o-17")
    assert not any(name.endswith(".hash") for name in spans(runtime)[0].attributes)


def test_hashes_show_equality_without_text(start: Start) -> None:
    """Equal arguments have equal hashes, others have others, and no text is kept."""
    runtime = start(capture_hashes=True)
    for order in ("o-17", "o-17", "o-18"):
        look_up(order)
    found = spans(runtime)
    hashes = [span.attributes["agentguard.input.hash"] for span in found]
    assert hashes[0] == hashes[1] != hashes[2]
    assert found[0].attributes["agentguard.output.hash"] != hashes[0]
    assert "o-17" not in repr(found)


def test_hashes_of_another_store_are_others(start: Start, tmp_path: Any) -> None:
    """Nobody can build a table of hashes without the key of this store."""
    seen = []
    for name in ("one", "two"):
        runtime = agentguard.init(store=tmp_path / name, capture_hashes=True, drift_interval_s=0, strict=True)
        assert runtime is not None
        look_up("o-17")
        seen.append(spans(runtime)[0].attributes["agentguard.input.hash"])
        agentguard.shutdown(5.0)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("capture", ["none", "full"])
def test_hashes_follow_the_mode(start: Start, capture: str) -> None:
    """None means nothing at all; with the text there is a hash as well."""
    runtime = start(capture=capture, capture_hashes=True)
    look_up("o-17")
    text = repr(spans(runtime))
    assert ("agentguard.input.hash" in text) is (capture == "full")


def test_a_call_that_cannot_be_made_leaves_no_load(start: Start) -> None:
    """A TypeError of the caller is no call, and does not stay in flight."""
    runtime = start()
    for _ in range(3):
        with pytest.raises(TypeError):
            look_up()  # type: ignore[call-arg]
    look_up("o-17")
    assert spans(runtime)[0].attributes["agentguard.load.in_flight"] == 1


def test_time_in_a_queue(start: Start) -> None:
    """The first call of queued work carries the wait; the ones after it, and inside it, do not."""
    runtime = start()

    @agentguard.agent
    def agent() -> None:
        look_up("o-17")

    def work() -> None:
        agent()
        look_up("o-18")

    times = iter([1_000_000_000, 3_500_000_000])
    queued(work, lambda: next(times))()
    work()
    waits = [
        span.attributes.get("agentguard.load.waited_s")
        for span in sorted(spans(runtime), key=lambda span: span.start_unix_ns)
    ]
    assert waits == [2.5, None, None, None, None, None]


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """The application's LoggerProvider, for the time of the test."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def test_a_score_is_an_event(start: Start, logs: InMemoryLogRecordExporter) -> None:
    """Inside the call it stands in its trace; later it names the call. Labels stay here."""
    runtime = start()

    @agentguard.tool
    def judged() -> str:
        call = agentguard.current()
        assert call is not None
        agentguard.record_outcome(score=0.5, attributes={"gen_ai.evaluation.name": "relevance"})
        return call.call_id

    call_id = judged()
    agentguard.record_outcome(call_id=call_id, score=1.0, predicted_label="refund", true_label="refund")
    agentguard.record_outcome(call_id=call_id, true_label="refund")
    (span,) = spans(runtime)
    inside, later = (entry.log_record for entry in logs.get_finished_logs())
    assert inside.event_name == later.event_name == "gen_ai.evaluation.result"
    assert (f"{inside.trace_id:032x}", f"{inside.span_id:016x}") == (span.trace_id, call_id)
    assert dict(inside.attributes or {}) == {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.5,
    }
    assert dict(later.attributes or {}) == {
        "gen_ai.evaluation.name": "agentguard.outcome",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "correct",
        "agentguard.call.id": call_id,
    }


@pytest.mark.parametrize("mode", ["isolated", "off"])
def test_no_event_where_providers_are_left_alone(
    start: Start, logs: InMemoryLogRecordExporter, mode: str
) -> None:
    """The application's LoggerProvider hears nothing."""
    start(otel=mode)
    look_up("o-17")
    agentguard.record_outcome(call_id="1" * 16, score=1.0)
    assert logs.get_finished_logs() == ()


@pytest.mark.parametrize("mode", ["none", "metadata", "redacted", "full"])
def test_blocks_say_whose_content_they_hold(start: Start, mode: str) -> None:
    """A block of a run names the principal where content may stand, so that it can be erased; else it does not."""
    runtime = start(None, capture=mode)
    with agentguard.run(principal="ann"), agentguard.span("work"):
        pass
    [span] = spans(runtime)
    assert span.attributes.get("agentguard.principal.id") == ("ann" if mode in {"redacted", "full"} else None)
