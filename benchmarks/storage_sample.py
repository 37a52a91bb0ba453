"""
The spans that the storage benchmark writes, and the codec floor that they are measured against.

The sample: 25 attributes of the GenAI conventions and of agentguard, English text
from the documentation of Python, random ids, 16 traces at a time with 7.4
spans each; 1.4 kB of JSON a span, a seventh of it once compressed. The floor: orjson, zstd at level 3,
AES-256-GCM over 100 spans, and nothing else. Any encrypted store must pay it.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pydoc_data.topics import topics

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentguard.store._codec import zstd
from agentguard.values import SpanRecord

BATCH_SPANS = 100
START_UNIX_NS = 1_767_225_600_000_000_000


def english() -> str:
    """The documentation that comes with Python, as one text of half a million letters."""
    return " ".join(" ".join(topics.values()).split())


def make_spans(count: int, *, has_conversation: bool = False, seed: int = 1) -> list[SpanRecord]:
    """
    Make spans that look like those of a fleet of agents.

    Args:
        count:
            How many.

        has_conversation:
            Whether each names its conversation: then what was said is sealed under a
            key of that conversation, of which 16 are held at a time.

        seed:
            Another one gives other ids and texts.

    """
    chance = random.Random(seed)
    text = english()
    traces = [chance.randbytes(16).hex() for _ in range(16)]
    parents = [""] * 16
    topics = [f"conversation-{seed}-{place}" for place in range(16)]
    spans = []
    for number in range(count):
        place = chance.randrange(16)
        if chance.random() < 1 / 7.4:
            traces[place], parents[place] = chance.randbytes(16).hex(), ""
            if chance.random() < 0.2:
                topics[place] = f"conversation-{seed}-{number}"
        asked, answered = (chance.randrange(len(text) - 400) for _ in range(2))
        span_id = chance.randbytes(8).hex()
        attributes = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5-2026-08-07", "gen_ai.agent.name": chance.choice(("support", "sales")),
            "gen_ai.usage.input_tokens": chance.randrange(4000),
            "gen_ai.usage.output_tokens": chance.randrange(900), "gen_ai.usage.cache_read.input_tokens": 0,
            "gen_ai.response.finish_reasons": ("stop",), "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 1024, "gen_ai.response.id": chance.randbytes(6).hex(),
            "gen_ai.prompt.version": "7", "agentguard.semconv": "1.41.0",
            "agentguard.cost.usd": chance.randrange(10_000) / 1e6, "server.address": "api.openai.com",
            "server.port": 443, "agentguard.label.tenant": chance.choice(("acme", "globex", "initech")),
            "agentguard.label.region": "eu-west-1", "agentguard.attempts": 1, "thread.id": 7,
            "agentguard.input.content": text[asked : asked + 200],
            "agentguard.output.content": text[answered : answered + 100],
            "agentguard.run.id": f"run-{number // 40}",
            "gen_ai.conversation.id" if has_conversation else "agentguard.label.queue": topics[place],
        }  # fmt: skip
        spans.append(
            SpanRecord(
                traces[place], span_id, parents[place], "chat gpt-5", "model", "client",
                START_UNIX_NS + number * 50_000, chance.randrange(10**9), "ok", "", attributes,
            )
        )  # fmt: skip
        parents[place] = parents[place] or span_id
    return spans


def many_spans(sample: Sequence[SpanRecord], count: int) -> Iterator[SpanRecord]:
    """As many spans as are asked for: the sample again and again, with ids and times of their own."""
    for number in range(count):
        span, lap = sample[number % len(sample)], number // len(sample)
        if lap:
            span = span._replace(
                # The last four bytes are what a footer finds a trace by.
                trace_id=f"{span.trace_id[:24]}{int(span.trace_id[24:], 16) ^ lap * 2654435761 % 2**32:08x}",
                span_id=f"{lap:06x}{span.span_id[6:]}",
                start_unix_ns=START_UNIX_NS + number * 50_000,
            )
        yield span


def document_of(span: SpanRecord) -> dict[str, object]:
    """A span as a map, without what is empty."""
    return {key: value for key, value in span._asdict().items() if value}


class Finished:
    """A span that waits to be written."""

    __slots__ = ("_record", "bytes_estimate")

    def __init__(self, record: SpanRecord) -> None:
        self._record = record
        self.bytes_estimate = 1300

    def record(self) -> SpanRecord:
        """The span itself."""
        return self._record


class SystemClock:
    """The clock of this machine."""

    def unix_ns(self) -> int:
        """Wall clock."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Monotonic clock."""
        return time.monotonic_ns()


class Floor:
    """orjson, zstd-3, AES-256-GCM over batches of 100 spans."""

    def __init__(self, dumps: Callable[[object], bytes], spans: Sequence[SpanRecord]) -> None:
        self._dumps = dumps
        self._key = AESGCM(os.urandom(32))
        # As maps, ready to be encoded: making them is not what is measured.
        self._documents = list(map(document_of, spans))
        self.json_bytes = sum(len(dumps(document)) for document in self._documents) / len(spans)
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._documents)

    def run(self) -> None:
        """Encode, compress and seal all of them once."""
        self.bytes = 0
        for first in range(0, len(self._documents), BATCH_SPANS):
            batch = self._documents[first : first + BATCH_SPANS]
            plain = b"\n".join([self._dumps(document) for document in batch])
            self.bytes += len(self._key.encrypt(os.urandom(12), zstd.compress(plain, 3), None)) + 12


def cpu_us(work: Callable[[], object], count: int) -> float:
    """CPU microseconds a span of this whole process, all its threads."""
    gc.collect()
    begin = time.process_time_ns()
    work()
    return (time.process_time_ns() - begin) / 1e3 / count
