"""The bytes that leave are those that the library of Protocol Buffers makes of the same spans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.export import Content
from agentguard.export._encode import encode_item, encode_items, encode_request
from agentguard.export._wire import any_value, attribute_column, key_value, varint
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store, WriterConfig
from agentguard.values import SpanColumns, SpanEvent, SpanLink, SpanRecord
from tests.support.clock import FrozenClock
from tests.support.otlp import RESOURCE
from tests.support.otlp_messages import _any, request_message, span_message
from tests.unit.export.test_with_store import Finished, fail

TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.integers(1, 40_000).map("x".__mul__)
SCALARS = st.one_of(
    TEXTS, st.booleans(), st.integers(), st.integers(-(2**64), 2**64), st.floats(), st.none(), st.binary(max_size=5)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)
NAMES = TEXTS | st.sampled_from(
    ["gen_ai.input.messages", "gen_ai.prompt.0.content", "user.id", "gen_ai.usage.input_tokens", "a", ""]
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=5)
IDS = st.sampled_from(["", "xyz", "ab", "\ud800"])
TIMES = st.sampled_from([0, 1, -5, 1_767_225_600_000_000_000, 2**63 - 1]) | st.integers(0, 2**62)


def records(
    attributes: Any = ATTRIBUTES, odd_ids: Any = IDS, texts: Any = TEXTS
) -> st.SearchStrategy[SpanRecord]:
    """Spans of every kind, sound or not."""
    trace, span = st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)
    return st.builds(
        SpanRecord,
        trace_id=trace.map(bytes.hex) | odd_ids, span_id=span.map(bytes.hex) | odd_ids,
        parent_span_id=span.map(bytes.hex) | odd_ids, name=texts, kind=st.just("tool"),
        otel_kind=st.sampled_from(["internal", "client", "server", "producer", "consumer", "?"]),
        start_unix_ns=TIMES, duration_ns=st.integers(0, 10**12), status=st.sampled_from(["unset", "ok", "error"]),
        status_description=texts, attributes=attributes,
        events=st.lists(st.builds(SpanEvent, texts, TIMES, attributes), max_size=2).map(tuple),
        links=st.lists(
            st.builds(SpanLink, trace.map(bytes.hex) | odd_ids, span.map(bytes.hex) | odd_ids, attributes), max_size=2
        ).map(tuple),
        scope=st.sampled_from(["agentguard", "shop", ""]), scope_version=st.sampled_from(["", "2"]),
        trace_state=st.sampled_from(["", "a=b"]),
    )  # fmt: skip


@given(st.integers(0, 2**64 - 1))
def test_numbers_have_seven_bits_a_byte(number: int) -> None:
    """What is written is read back, and no byte too many is written."""
    written = varint(number)
    assert sum((byte & 127) << (7 * place) for place, byte in enumerate(written)) == number
    assert [byte >> 7 for byte in written] == [1] * (len(written) - 1) + [0]
    assert len(written) == max(1, -(-number.bit_length() // 7))


@given(VALUES)
def test_any_value_is_that_of_the_library(value: object) -> None:
    """Text, numbers of any size, nested sequences, and what OTLP cannot say."""
    assert any_value(value) == _any(value).SerializeToString()


@given(
    st.one_of(
        *(st.lists(kind, min_size=1, max_size=9) for kind in (TEXTS, st.integers(), st.floats(), SCALARS))
    )
)
def test_a_column_is_its_values(column: list[object]) -> None:
    """Written at once, each value is what it is by itself."""
    assert attribute_column(b"\x4a", "name", column) == [
        key_value(b"\x4a", "name", value) for value in column
    ]


@given(st.lists(records(), min_size=1, max_size=4), st.sampled_from(["none", "redacted", "full"]))
@settings(max_examples=150)
def test_a_request_is_that_of_the_library(spans: list[SpanRecord], content: Content) -> None:
    """Byte for byte, whatever is in the spans."""
    body = encode_request([encode_item(span, RESOURCE, content=content) for span in spans])
    assert body == request_message(spans, RESOURCE, content=content).SerializeToString()


KINDS_OF_VALUES = {
    "text": st.text(max_size=200), "same": st.just("x"), "count": st.integers(-5, 2**63 - 1), "cost": st.floats(),
    "flag": st.booleans(), "reasons": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "gen_ai.input.messages": st.sampled_from(["I am ann@example.org", "nothing"]), "mixed": SCALARS,
}  # fmt: skip
LIKE_REAL = st.sets(st.sampled_from(sorted(KINDS_OF_VALUES))).flatmap(
    lambda names: st.fixed_dictionaries({name: KINDS_OF_VALUES[name] for name in sorted(names)})
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a key of its own."""
    folder = tmp_path_factory.mktemp("wire")
    create_key_file(folder / "key")
    return Store.create(folder / "store", provider=FileKey(folder / "key"), clock=FrozenClock())


@given(
    st.lists(records(LIKE_REAL, st.nothing(), st.text(max_size=9)), min_size=1, max_size=12),
    st.sampled_from(["none", "redacted", "full"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_columns_from_the_store_are_its_records(
    store: Store, spans: list[SpanRecord], content: Content, is_sealed: bool
) -> None:
    """Many spans written at once are the same bytes as each of them by itself; content and groups included."""
    begin = store.query().end()
    writer = store.writer(resource=RESOURCE, on_internal_error=fail, config=WriterConfig())
    for span in spans:
        assert writer.append(Finished(span))
    assert writer.close(10).is_complete
    if is_sealed:
        store.seal_segments()
    found = list(store.query().columns(begin))
    expected = [place.span for place in store.query().positions(begin)]
    assert len(expected) == len(spans)
    items = []
    for _, some, resource in found:
        items += (
            encode_items(some, resource, content=content)
            if isinstance(some, SpanColumns)
            else [encode_item(some, resource, content=content)]
        )
    assert items == [encode_item(span, RESOURCE, content=content) for span in expected]
    bodies = [span_message(span, content=content).SerializeToString() for span in expected]
    assert [
        item.data[1 + len(varint(len(body))) :] for item, body in zip(items, bodies, strict=True)
    ] == bodies
