"""Queries: filters, order, cursors, features, SQL, statistics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agentguard.errors import StoreError
from agentguard.store import Query, Store, stats_of
from tests.support.clock import START_UNIX_NS
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import fill, new_store, new_writer

SPANS = [make_span(i) for i in range(400)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four hundred spans: two sealed segments that overlap in time, one live."""
    store = new_store(tmp_path_factory.mktemp("query") / "store")
    fill(store, SPANS[0:200:2], is_sealed=True)
    fill(store, SPANS[1:200:2], is_sealed=True)
    fill(store, SPANS[200:], is_sealed=False)
    return store


def test_filters(store: Store) -> None:
    """Each condition gives exactly the spans for which it holds."""
    query = store.query()
    conditions = [
        ({"kind": "model"}, lambda s: True),
        ({"kind": "tool"}, lambda s: False),
        ({"status": "error"}, lambda s: s.status == "error"),
        ({"agent": "sales"}, lambda s: s.attributes["gen_ai.agent.name"] == "sales"),
        ({"name": "chat gpt-5"}, lambda s: True),
        ({"trace_id": SPANS[55].trace_id}, lambda s: s.trace_id == SPANS[55].trace_id),
        ({"trace_id": SPANS[255].trace_id.upper()}, lambda s: s.trace_id == SPANS[255].trace_id),
        ({"trace_id": "0" * 11}, lambda s: True),
        ({"trace_id": "f"}, lambda s: False),
        ({"call_id": SPANS[77].span_id}, lambda s: s == SPANS[77]),
        ({"since_unix_ns": SPANS[150].start_unix_ns}, lambda s: s.start_unix_ns >= SPANS[150].start_unix_ns),
        ({"until_unix_ns": SPANS[150].start_unix_ns}, lambda s: s.start_unix_ns < SPANS[150].start_unix_ns),
        (
            {
                "since_unix_ns": SPANS[90].start_unix_ns,
                "until_unix_ns": SPANS[210].start_unix_ns,
                "status": "error",
            },
            lambda s: (
                SPANS[90].start_unix_ns <= s.start_unix_ns < SPANS[210].start_unix_ns and s.status == "error"
            ),
        ),
    ]
    for condition, holds in conditions:
        expected = sorted(span for span in SPANS if holds(span))
        assert sorted(query.spans(**condition)) == expected, condition
        newest = list(query.spans(**condition, newest_first=True))
        assert newest == sorted(expected, key=lambda s: -s.start_unix_ns), condition
    assert not query.damage


def test_newest_first_with_a_limit(store: Store) -> None:
    """The latest spans of all segments, whichever they are in."""
    assert list(store.query().spans(newest_first=True, limit=5)) == SPANS[:-6:-1]
    assert list(store.query().spans(newest_first=True, limit=300)) == SPANS[:-301:-1]
    assert len(list(store.query().spans(limit=7))) == 7


def test_positions_resume(store: Store) -> None:
    """From any cursor on, exactly the rest comes, and sealing changes no place."""
    positions = list(store.query().positions())
    assert sorted(p.span for p in positions) == sorted(SPANS)
    for cut in (0, 1, 99, 100, 150, 399, 400):
        cursor = {p.cursor[0]: (p.cursor[1], p.cursor[2]) for p in positions[:cut]}
        assert list(store.query().positions(cursor)) == positions[cut:]
    assert positions[0].resource == {"service.name": "test"}


def test_positions_survive_sealing(tmp_path: Path) -> None:
    """A cursor from live segments goes on in the sealed ones."""
    store = new_store(tmp_path / "store")
    fill(store, SPANS[:100], is_sealed=False, frame_spans_max=7, segment_spans_max=40)
    before = list(store.query().positions())
    cursor = {p.cursor[0]: (p.cursor[1], p.cursor[2]) for p in before[:33]}
    assert store.seal_segments() >= 1
    assert list(store.query().positions()) == before
    assert list(store.query().positions(cursor)) == before[33:]


def test_features(store: Store) -> None:
    """The columns say what the spans say, in buffers, and only those that were asked for."""
    by_start = {span.start_unix_ns: span for span in SPANS}
    seen = 0
    for block in store.query().features():
        columns = block.columns
        assert columns["start_unix_ns"].unit == "ns"
        agents = columns["agent"].texts()
        for place, start in enumerate(columns["start_unix_ns"].values):
            span = by_start[start]
            assert columns["duration_ns"].values[place] == span.duration_ns
            assert columns["input_tokens"].values[place] == span.attributes["gen_ai.usage.input_tokens"]
            assert columns["is_error"].values[place] == (span.status == "error")
            assert columns["time_to_first_chunk_ns"].values[place] == -1
            assert math.isnan(columns["cost_usd"].values[place])
            assert agents[place] == span.attributes["gen_ai.agent.name"]
            seen += 1
    assert seen == 400
    few = next(iter(store.query().features(["agent", "retries", "unheard_of"])))
    assert set(few.columns) == {"agent", "retries"}


def test_features_by_time(store: Store) -> None:
    """Only spans that start within the times are in the blocks, also in the middle of one."""
    since, until = SPANS[33].start_unix_ns, SPANS[333].start_unix_ns
    found = [
        start
        for block in store.query().features(["duration_ns"], since_unix_ns=since, until_unix_ns=until)
        for start in block.columns["start_unix_ns"].values
    ]
    assert sorted(found) == [span.start_unix_ns for span in SPANS[33:333]]


def test_feature_values(tmp_path: Path) -> None:
    """What is unknown, odd or absent becomes the missing value of its column."""
    attributes = [
        {"gen_ai.usage.input_tokens": 5, "agentguard.attempts": 4, "agentguard.cost.usd": 0.5},
        {"gen_ai.usage.input_tokens": "many", "http.request.resend_count": 2, "gen_ai.usage.cost.amount": 1},
        {"gen_ai.usage.input_tokens": 2**70, "agentguard.cost.usd": float("nan"), "error.type": "Timeout"},
        {
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.cost.amount": 3,
            "gen_ai.usage.cost.currency": "EUR",
        },
        {"gen_ai.response.finish_reasons": (), "gen_ai.response.model": "m2", "gen_ai.request.model": "m1"},
    ]
    store = new_store(tmp_path / "store")
    fill(store, [make_span(i + 1, attributes=a) for i, a in enumerate(attributes)], is_sealed=True)
    (block,) = store.query().features()
    columns = block.columns
    assert list(columns["input_tokens"].values) == [5, -1, -1, -1, -1]
    assert list(columns["retries"].values) == [3, 2, 0, 0, 0]
    assert [None if math.isnan(c) else c for c in columns["cost_usd"].values] == [0.5, 1.0, None, None, None]
    assert list(columns["time_to_first_chunk_ns"].values) == [-1, -1, -1, 250_000_000, -1]
    assert list(columns["is_usage_missing"].values) == [0, 1, 1, 1, 1]
    assert list(columns["is_error"].values) == [0, 0, 1, 0, 0]
    assert columns["model"].texts()[-1] == "m2"
    assert len(set(columns["schema"].texts())) == 5


def test_sql_loads_what_it_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers come from feature blocks and open no span; ids and content come from the newest spans."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a span was read")

    by_agent = "select agent, count(*), sum(input_tokens), max(duration_ns) from spans group by agent"
    with_spans = store.sql(by_agent.replace("count(*)", "count(distinct span_id)"))
    with monkeypatch.context() as patch:
        patch.setattr(Query, "spans", refuse)
        assert store.sql(by_agent).rows == with_spans.rows
        assert store.sql("select count(*) from spans").rows == [(400,)]
        assert store.sql("select count(*) from outcomes").rows == [(3,)]
        assert store.sql("select count(*) from spans where cost_usd is null and retries = 0").rows == [(400,)]
        few = store.sql("select min(start_unix_ns), count(*) from spans", spans_max=30)
        assert (few.rows, few.is_partial) == ([(SPANS[370].start_unix_ns, 30)], True)
        with pytest.raises(StoreError, match="no such column"):
            store.sql("select colour from spans")
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    monkeypatch.setattr("agentguard.store._sql.SQL_S_MAX", 0.05)
    with pytest.raises(StoreError, match="ran longer"):
        store.sql(endless)


def test_sql(store: Store) -> None:
    """Aggregates, attributes as JSON, the view, and the numbers as columns."""
    columns, rows = store.sql("select agent, count(*) as n from spans group by agent order by agent")
    assert columns == ("agent", "n")
    assert rows == [("sales", 134), ("support", 266)]
    assert store.sql("select sum(input_tokens) from spans").rows == [(sum(100 + i for i in range(400)),)]
    assert store.sql("select count(*) from calls where duration_ms > 0").rows == [(400,)]
    assert store.sql("""select attributes ->> '$."gen_ai.request.model"' from spans limit 1""").rows == [
        ("gpt-5",)
    ]
    assert store.sql("select cost_usd, time_to_first_chunk_ns from spans limit 1").rows == [(None, None)]
    assert store.sql("select count(*) from outcomes").rows == [(3,)]
    result = store.sql("select min(start_unix_ns) from spans", spans_max=10)
    assert result.is_partial
    assert result.rows == [(SPANS[390].start_unix_ns,)]


def test_sql_knows_types(store: Store) -> None:
    """Columns have types and what is joined on has an index; the tables are empty but there without data."""
    ((schema,),) = store.sql("select sql from sqlite_schema where name = 'spans'").rows
    assert '"cost_usd" REAL' in schema
    assert store.sql("select sum(o.score) from outcomes o join spans s on s.span_id = o.call_id").rows == [
        (1.5,)
    ]
    later = SPANS[-1].start_unix_ns + 1
    assert store.sql("select count(*), max(agent) from spans", since_unix_ns=later).rows == [(0, None)]


@pytest.mark.parametrize(
    "query",
    [
        "attach 'x.db' as x",
        "detach main",
        "pragma temp_store = 1",
        "select load_extension('x')",
        "insert into spans (name) values ('x')",
        "delete from spans",
        "drop table spans",
        "create table x (y)",
        "update spans set name = 'x'",
        "vacuum into 'x.db'",
        "begin",
        "select 1; select 2",
        "selec",
        "",
        "select colour from spans",
        "select * from sqlite_schema; drop table spans",
        "select \x00",
    ],
)
def test_sql_only_reads(store: Store, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but one SELECT is refused with an error of ours, and no file appears."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="sql"):
        store.sql(query)
    assert list(tmp_path.iterdir()) == []


def test_stats(store: Store) -> None:
    """Calls, errors and quantiles are those of the spans, the quantiles within two percent."""
    (found,) = stats_of(store.query())
    durations = sorted(span.duration_ns / 1e6 for span in SPANS)
    assert (found.kind, found.name, found.calls) == ("model", "gpt-5", 400)
    assert found.errors == sum(span.status == "error" for span in SPANS)
    assert found.p50_ms == pytest.approx(durations[199], rel=0.02)
    assert found.p99_ms == pytest.approx(durations[395], rel=0.02)
    assert found.input_tokens == sum(100 + i for i in range(400))
    assert found.cost_usd is None
    (sales,) = stats_of(store.query(), agent="sales")
    assert sales.calls == 134
    assert stats_of(store.query(), since_unix_ns=START_UNIX_NS + 10**15) == []


def test_info(store: Store) -> None:
    """The facts about a store, without its content."""
    info = store.info()
    assert (info.segments, info.live_segments, info.spans, info.outcomes) == (3, 1, 400, 3)
    assert (info.oldest_unix_ns, info.newest_unix_ns) == (SPANS[0].start_unix_ns, SPANS[-1].start_unix_ns)
    assert info.key_slots == ("file",)
    assert store.verify() == (400, info.damage) or store.verify()[0] == 400


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Each has its own file; both are read."""
    store = new_store(tmp_path / "store")
    one, two = new_writer(store), new_writer(store)
    for i in range(100):
        (one if i % 2 else two).append(FinishedSpan(SPANS[i]))
    one.close(5)
    two.close(5)
    assert sorted(store.query().spans()) == sorted(SPANS[:100])


def test_following_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever polls a live segment decodes the last frame and what came after it, not all of it."""
    from agentguard.store import _row_reader

    store = new_store(tmp_path / "store")
    writer = new_writer(store, frame_spans_max=10)
    decoded = [0]
    decode = _row_reader.decode_spans

    def counting(plain: bytes) -> object:
        decoded[0] += 1
        return decode(plain)

    monkeypatch.setattr(_row_reader, "decode_spans", counting)
    cursor: dict[str, tuple[int, int]] = {}
    seen = []
    for first in range(0, 400, 20):
        for span in SPANS[first : first + 20]:
            writer.append(FinishedSpan(span))
        writer.flush(5)
        decoded[0] = 0
        for position in store.query().positions(cursor):
            cursor[position.cursor[0]] = position.cursor[1:]
            seen.append(position.span)
        assert decoded[0] <= 4
    writer.close(5)
    seen += [position.span for position in store.query().positions(cursor)]
    assert seen == SPANS


def test_following_over_a_tail_that_was_cut_off(tmp_path: Path) -> None:
    """Where the place that was remembered is gone, the file is read from its beginning."""
    store = new_store(tmp_path / "store")
    fill(store, SPANS[:60], is_sealed=False, frame_spans_max=10)
    (path,) = store.segments.glob("*.ags")
    positions = list(store.query().positions())
    cursor = {positions[54].cursor[0]: positions[54].cursor[1:]}
    assert len(list(store.query().positions(cursor))) == 5
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert list(store.query().positions(cursor)) == []
    cursor = {positions[9].cursor[0]: positions[9].cursor[1:]}
    found = list(store.query().positions(cursor))
    assert found == positions[10 : 10 + len(found)]
    assert len(found) >= 20
