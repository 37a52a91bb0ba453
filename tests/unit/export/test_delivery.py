"""Trying again, splitting, and finding the span that is refused: without a network and without a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.export._config import otlp_config
from agentguard.export._delivery import Delivery, ExportCounters
from agentguard.export._encode import Item, encode_item
from agentguard.export._transport import Answer, Ending
from tests.support.otlp import make_span
from tests.support.otlp_messages import span_of

CONFIG = otlp_config("http://localhost:4318")
SENT, RETRY = Answer(Ending.SENT), Answer(Ending.RETRY, "HTTP 503")
TOO_LARGE, REFUSED = Answer(Ending.TOO_LARGE, "HTTP 413"), Answer(Ending.REFUSED, "HTTP 400")
MISCONFIGURED = Answer(Ending.MISCONFIGURED, "HTTP 401")


def items(count: int) -> list[Item]:
    return [encode_item(make_span(n), {}, content="none") for n in range(count)]


class Destination:
    """Answers by a rule, keeps what it took, and lets waiting end after a number of waits."""

    def __init__(self, rule: Callable[[Sequence[Item]], Answer], *, waits_max: int = 50) -> None:
        self.rule = rule
        self.taken: list[str] = []
        self.sent: list[int] = []
        self.waits: list[tuple[float, bool]] = []
        self.errors: list[str] = []
        self.counters = ExportCounters()
        self.waits_max = waits_max
        self.delivery = Delivery(
            CONFIG,
            self,
            counters=self.counters,
            wait=self.wait,
            chance=lambda: 1.0,
            on_internal_error=lambda _, error: self.errors.append(str(error)),
        )

    def send(self, part: Sequence[Item]) -> Answer:
        answer = self.rule(part)
        self.sent.append(len(part))
        if answer.ending is Ending.SENT:
            self.taken += [span_of(item).span_id.hex() for item in part]
        return answer

    def close(self) -> None:
        pass

    def wait(self, seconds: float, may_be_cut: bool) -> bool:
        self.waits.append((seconds, may_be_cut))
        return len(self.waits) < self.waits_max


def ids(part: Sequence[Item]) -> list[str]:
    return [span_of(item).span_id.hex() for item in part]


def test_a_batch_goes_at_once() -> None:
    """One request, everything counted."""
    destination = Destination(lambda _: SENT)
    assert destination.delivery.deliver(items(5))
    assert destination.sent == [5]
    assert destination.counters.sent == 5


def test_waits_double_up_to_the_longest() -> None:
    """1 s, 2 s, 4 s … and never more than a minute, as long as it takes."""
    answers = iter([RETRY] * 9 + [SENT])
    destination = Destination(lambda _: next(answers))
    assert destination.delivery.deliver(items(2))
    assert [wait for wait, _ in destination.waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert destination.counters.failures == 9
    assert destination.counters.last_failure == ""
    assert "HTTP 503" in destination.errors[0]


def test_jitter_is_half_at_most() -> None:
    """Many processes do not come back at the same moment."""
    answers = iter([RETRY, SENT])
    destination = Destination(lambda _: next(answers))
    destination.delivery._chance = lambda: 0.0
    destination.delivery.deliver(items(1))
    assert destination.waits == [(0.5, True)]


def test_what_the_server_asks_for_is_kept() -> None:
    """`Retry-After` is waited for whole, uncut, and within a bound."""
    answers = iter(
        [
            Answer(Ending.RETRY, "HTTP 429", retry_after_s=7.0),
            Answer(Ending.RETRY, "x", retry_after_s=1e9),
            SENT,
        ]
    )
    destination = Destination(lambda _: next(answers))
    assert destination.delivery.deliver(items(1))
    assert destination.waits == [(7.0, False), (600.0, False)]


def test_ended_waiting_keeps_the_batch() -> None:
    """False means that the batch is to be brought again; nothing is counted as lost."""
    destination = Destination(lambda _: RETRY, waits_max=1)
    assert not destination.delivery.deliver(items(3))
    assert destination.counters.lost == 0


def test_wrong_keys_lose_nothing() -> None:
    """401 waits for a person, more slowly, for ever."""
    destination = Destination(lambda _: MISCONFIGURED, waits_max=4)
    assert not destination.delivery.deliver(items(3))
    assert [wait for wait, _ in destination.waits] == [30, 60, 60, 60]
    assert destination.counters.lost == 0


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_too_large_is_split(limit: int) -> None:
    """413 halves the request until it passes; order is kept, and later batches begin smaller."""
    destination = Destination(lambda part: SENT if len(part) <= limit else TOO_LARGE)
    batch = items(100)
    assert destination.delivery.deliver(batch)
    assert destination.taken == ids(batch)
    assert destination.waits == []
    assert destination.delivery.batch_bytes_max < CONFIG.batch_bytes_max


def test_a_span_that_is_too_large_alone_is_counted() -> None:
    """The others arrive."""
    batch = items(20)
    giant = ids(batch)[13]
    destination = Destination(lambda part: TOO_LARGE if giant in ids(part) else SENT)
    assert destination.delivery.deliver(batch)
    assert destination.taken == [i for i in ids(batch) if i != giant]
    assert destination.counters.too_large == 1


@given(st.sets(st.integers(0, 39), max_size=5), st.integers(1, 40))
def test_refused_spans_are_found(bad: set[int], count: int) -> None:
    """Whatever spans a destination refuses, all others arrive once, and each refused one is counted."""
    batch = items(count)
    refused = {ids(batch)[n] for n in bad if n < count}
    destination = Destination(lambda part: REFUSED if refused & set(ids(part)) else SENT)
    done = destination.delivery.deliver(batch)
    if len(refused) == count:
        # Nothing ever passed: it may be the address, so nothing is given up.
        assert not done
        assert destination.counters.lost == 0
    elif done:
        assert sorted(destination.taken) == sorted(set(ids(batch)) - refused)
        assert destination.counters.refused == len(refused)


def test_an_address_that_refuses_everything_loses_nothing() -> None:
    """Before the first success a refusal is the address's fault: wait, and bring the batch again."""
    destination = Destination(lambda _: REFUSED, waits_max=3)
    assert not destination.delivery.deliver(items(30))
    assert destination.counters.lost == 0
    assert len(destination.sent) < 80


def test_a_first_span_that_is_refused_does_not_block() -> None:
    """Another span is tried before it is judged."""
    batch = items(2)
    destination = Destination(lambda part: REFUSED if ids(batch)[0] in ids(part) else SENT)
    assert destination.delivery.deliver(batch)
    assert destination.counters.refused == 1
    assert destination.waits == []


def test_partial_success_is_counted() -> None:
    """Spans that the server says it rejected are not sent again, and not counted as sent."""
    destination = Destination(lambda _: Answer(Ending.SENT, "HTTP 200", rejected=3))
    assert destination.delivery.deliver(items(10))
    assert (destination.counters.sent, destination.counters.rejected, destination.counters.lost) == (7, 3, 3)
    assert "3 of 10 spans" in destination.errors[0]
