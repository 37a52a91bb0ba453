"""A store in memory with the doors that the drift checker uses, and builders that fill it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from agentguard.drift._simulate import HOUR_S, Telemetry

_NUMBERS = {
    "start_unix_ns": 0,
    "duration_ns": 0,
    "time_to_first_chunk_ns": -1,
    "input_tokens": -1,
    "output_tokens": -1,
    "retries": 0,
    "is_error": 0,
    "is_usage_missing": 0,
}
_TEXTS = (
    "kind",
    "agent",
    "tool",
    "model",
    "prompt_version",
    "tenant",
    "finish_reason",
    "error_type",
    "schema",
)


class Column(NamedTuple):
    """One column, as the store hands it out."""

    name: str
    dtype: str
    unit: str
    values: memoryview
    dictionary: tuple[str, ...] = ()


class Block(NamedTuple):
    """Some rows, as the store hands them out."""

    rows: int
    first_sequence: int
    columns: dict[str, Column]


class Blob:
    """Sealed bytes that are not sealed."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.is_locked = False
        self.writes = 0

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data
        self.writes += 1

    @contextmanager
    def locked(self, *, is_waiting: bool = True) -> Iterator[bool]:
        yield not self.is_locked


class MemoryStore:
    """Blocks in memory."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.blobs: dict[str, Blob] = {}

    def query(self) -> MemoryStore:
        return self

    def sealed_blob(self, name: str) -> Blob:
        return self.blobs.setdefault(name, Blob())

    def features(
        self,
        names: Sequence[str] | None = None,
        *,
        since_unix_ns: int | None = None,
        until_unix_ns: int | None = None,
    ) -> Iterator[Block]:
        for block in self.blocks:
            starts = np.asarray(block.columns["start_unix_ns"].values)
            inside = np.ones(block.rows, dtype=bool)
            if since_unix_ns is not None:
                inside &= starts >= since_unix_ns
            if until_unix_ns is not None:
                inside &= starts < until_unix_ns
            if not inside.any():
                continue
            columns = {
                name: column._replace(
                    values=memoryview(array(column.values.format, np.asarray(column.values)[inside].tolist()))
                )
                for name, column in block.columns.items()
                if names is None or name in names
            }
            yield Block(int(inside.sum()), 0, columns)

    def add(self, **columns: object) -> None:
        """Add one block; numbers that are not given are unknown, texts may be one text for all rows."""
        n = len(columns["start_unix_ns"])  # type: ignore[arg-type]
        made: dict[str, Column] = {}
        for name, unknown in _NUMBERS.items():
            values = columns.get(name, np.full(n, unknown))
            made[name] = Column(name, "int64", "", memoryview(array("q", [int(v) for v in values])))  # type: ignore[union-attr]
        for name in _TEXTS:
            given = columns.get(name, "model" if name == "kind" else "")
            texts = [given] * n if isinstance(given, str) else list(given)  # type: ignore[call-overload]
            distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            made[name] = Column(
                name, "dict", "", memoryview(array("H", [distinct[t] for t in texts])), tuple(distinct)
            )
        self.blocks.append(Block(n, 0, made))


def fill(
    store: MemoryStore,
    telemetry: Telemetry,
    *,
    start_s: int,
    seed: int = 0,
    until_hour: int | None = None,
    from_hour: int = 0,
) -> None:
    """Add simulated model calls, one block an hour, that end at random within their hour."""
    rng = np.random.default_rng(seed)
    offsets = rng.integers(0, HOUR_S * 10**9, len(telemetry.hour))
    last = int(telemetry.hour.max()) + 1 if until_hour is None else until_hour
    for hour in range(from_hour, last):
        low, high = np.searchsorted(telemetry.hour, [hour, hour + 1])
        if low == high:
            continue
        rows = slice(low, high)
        duration = (telemetry.latency_ms[rows] * 1e6).astype(np.int64)
        end = (start_s + hour * HOUR_S) * 10**9 + offsets[rows]
        store.add(
            start_unix_ns=end - duration,
            duration_ns=duration,
            input_tokens=telemetry.tokens[rows],
            output_tokens=np.zeros(high - low, dtype=np.int64),
            retries=telemetry.retries[rows],
            is_error=telemetry.is_error[rows],
        )
