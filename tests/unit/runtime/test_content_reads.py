"""Reading content from Python is on record: who, what was asked for, once a query, before any of it comes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import StoredEvent, read_entries, verify
from agentguard.errors import AgentGuardError, ConfigurationError, StoreError
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.person import user_name
from agentguard.seal import FileKey, create_auditor_file, create_key_file
from agentguard.store import USER, Store, Subject, has_content
from tests.support.decisions import decision, open_journal
from tests.support.spans import make_span
from tests.support.stores import fill

NEEDLE = "words of a customer"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a span of somebody's words, one of nobody's, and one without any."""
    monkeypatch.chdir(tmp_path)
    create_key_file(tmp_path / "key")
    made = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    one, two, three = make_span(1), make_span(2), make_span(3)
    spans = [
        three._replace(attributes={"gen_ai.agent.name": "quiet"}, events=(), links=()),
        one._replace(attributes={"gen_ai.input.messages": NEEDLE, "user.id": "ann"}, events=(), links=()),
        two._replace(attributes={"gen_ai.input.messages": NEEDLE}, events=(), links=()),
    ]
    fill(made, spans, is_sealed=True)
    return made


def opened(made: Store, key: str = "key", scheme: str = "file") -> Store:
    """The store as a Python program opens it to read."""
    return agentguard.read_store(
        store=made.folder, key=f"{scheme}:{made.folder.parent / key}", service="notebook"
    )


def told(made: Store) -> list[tuple[str, Mapping[str, object]]]:
    """Kinds and details of what is chained, without what every journal has; nothing of it is content."""
    entries = [entry for entry in read_entries(made.folder, made.keystore) if isinstance(entry, StoredEvent)]
    assert NEEDLE not in str(entries)
    return [(e.kind, e.details) for e in entries if not e.kind.startswith("journal.")]


def test_it_is_chained_once_a_query_and_before_content_comes_out(made: Store) -> None:
    """The first span with content comes after the record, and later ones need none; the next query has its own."""
    query = opened(made).query()
    spans = query.spans(status=make_span(1).status)
    assert not has_content(next(spans))
    assert told(made) == []
    assert has_content(next(spans))
    (used, read) = told(made)
    assert (used[0], used[1]["key_provider"], used[1]["by"]) == ("key.used", "file", user_name())
    expected = {
        "command": "agentguard.read_store",
        "by": user_name(),
        "filter": f"status={make_span(1).status}",
    }
    assert read == ("content.read", expected)
    assert [has_content(span) for span in spans] == [True]
    assert len(told(made)) == 2
    assert len(query.to_arrow(newest_first=True, limit=2)) == 2
    assert [kind for kind, _ in told(made)] == ["key.used", "content.read", "content.read"]
    assert verify(made.folder, made.keystore).is_good
    begun = [
        entry.details["service"] for entry in read_entries(made.folder, made.keystore)
        if isinstance(entry, StoredEvent) and entry.kind == "journal.open"
    ]  # fmt: skip
    assert begun == ["notebook", "notebook"]


def test_places_and_sql_are_chained_too(made: Store) -> None:
    """By what was asked; an SQL query by its hash, and only where it reads a column with content."""
    store = opened(made)
    assert len(list(store.query().positions())) == 3
    assert store.sql("select name, span_id from spans where name <> ''").rows
    assert store.sql("select count(*) from spans").rows == [(3,)]
    assert NEEDLE in str(store.sql("select attributes from spans").rows)
    with pytest.raises(StoreError):
        store.sql("select attributes from nowhere")
    filters = [str(details["filter"]) for kind, details in told(made) if kind == "content.read"]
    assert (len(filters), filters[0], filters[1].partition(":")[0]) == (2, "all after a place", "sql sha256")


def test_what_shows_no_content_leaves_no_record(made: Store) -> None:
    """Spans without content, numbers, counts, verification: nobody's words are read."""
    store = opened(made)
    assert len(list(store.query().spans(agent="quiet"))) == 1
    assert sum(block.rows for block in store.query().features()) == 3
    assert store.info().spans == store.verify()[0] == 3
    assert told(made) == []


def test_erased_content_is_not_read(made: Store) -> None:
    """What can be read by nobody was read by nobody."""
    made.erase(Subject(USER, "ann"), record=lambda _: None)
    found = list(opened(made).query().spans(call_id=make_span(1).span_id))
    assert [span.attributes.get("agentguard.content.unreadable") for span in found] == ["erased"]
    assert told(made) == []


def test_a_program_that_records_is_no_reader(made: Store) -> None:
    """The store's own readers, such as an export's, leave no record; they have their own."""
    store = Store.open(made.folder, provider=FileKey(made.folder.parent / "key"), clock=SystemClock())
    assert NEEDLE in str(list(store.query().positions()))
    assert told(made) == []


def test_an_auditor_reads_and_it_is_said_once(
    made: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that cannot write reads all the same; that there is no record is logged once."""
    made.keystore.add_auditor(create_auditor_file(tmp_path / "auditor").public_key())
    before = sorted(path.name for path in made.folder.rglob("*"))
    store = opened(made, "auditor", "auditor")
    with caplog.at_level(logging.WARNING, "agentguard"):
        assert NEEDLE in str(list(store.query().spans()))
        assert NEEDLE in str(list(store.query().spans()))
    assert [record.message for record in caplog.records if "reads only" in record.message] == [
        "agentguard: this key reads only: that content is read is not in the decision log"
    ]
    assert sorted(path.name for path in made.folder.rglob("*")) == before


@pytest.mark.parametrize("is_sql", [False, True])
def test_content_that_cannot_be_recorded_does_not_come_out(made: Store, *, is_sql: bool) -> None:
    """Where the log cannot be written, neither spans nor rows are given."""
    journal = open_journal(made.folder, made.keystore)
    journal.append(decision(1))
    assert journal.close(5.0)
    ledger = next((made.folder / "log").glob("*.agl"))
    before, word, after = ledger.read_bytes().rpartition(b"seq ")
    ledger.write_bytes(before + b"sEq " + after)
    assert word
    store, found = opened(made), list[object]()
    with pytest.raises(AgentGuardError):
        if is_sql:
            found += store.sql("select attributes from spans").rows
        else:
            found += store.query().spans()
    assert NEEDLE not in str(found)


def test_it_is_opened_as_configured(made: Store) -> None:
    """Without arguments it is the configured store; none is made where there is none, and unknown settings are refused."""
    (made.folder.parent / "agentguard.toml").write_text('store = "store"\nkey = "file:key"\n')
    assert agentguard.read_store().info().spans == 3
    with pytest.raises(StoreError):
        agentguard.read_store(store=made.folder.parent / "other")
    assert not (made.folder.parent / "other").exists()
    with pytest.raises(ConfigurationError):
        agentguard.read_store(stoer="x")
