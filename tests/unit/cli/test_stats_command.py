"""`agentguard stats --load`: the curve of a tool, as text and as JSON."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentguard.cli._main import root
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import SpanRecord
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.unit.export.test_with_store import Finished, fail


def calls(
    concurrency: int, seconds: float, *, servers: int = 4, service_s: float = 0.1
) -> Iterator[tuple[float, float]]:
    """Give beginnings and lengths of calls with so many at once, where *servers* work at the same time."""
    latency_s = service_s * max(concurrency / servers, 1.0)
    for lane in range(concurrency):
        begin = lane * latency_s / concurrency
        while begin + latency_s <= seconds:
            yield begin, latency_s
            begin += latency_s


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with the calls of a tool that four can use at once."""
    key = tmp_path / "key"
    create_key_file(key)
    store = Store.create(tmp_path / "store", provider=FileKey(key), clock=FrozenClock())
    writer = store.writer(resource={}, on_internal_error=fail)
    start_ns = START_UNIX_NS
    for concurrency in (1, 2, 3, 4, 6, 8, 12, 16):
        for begin, length in calls(concurrency, 4.0):
            span = SpanRecord(
                secrets.token_hex(16), secrets.token_hex(8), "", "execute_tool search", "tool", "internal",
                start_ns + int(begin * 1e9), int(length * 1e9), "ok", "",
                {"gen_ai.tool.name": "search", "agentguard.load.waited_s": 0.25},
            )  # fmt: skip
            assert writer.append(Finished(span))
        start_ns += 20 * 10**9
    assert writer.close(10).is_complete
    return tmp_path


def run(place: Path, *words: str) -> str:
    """Run the command, and give what it prints on both of its channels."""
    own = ["--store", str(place / "store"), "--key", f"file:{place / 'key'}", "stats", *words]
    found = CliRunner().invoke(root, own, catch_exceptions=False, standalone_mode=False)
    return found.output


def test_the_curve_bends_where_the_servers_end(place: Path) -> None:
    """Four at once can be served: the curve rises up to there, and then no more."""
    text = run(place, "--load")
    assert "tool search" in text
    assert "95 % waited at most 250.0 ms" in text
    [document] = json.loads(run(place, "--load", "--format", "json"))
    assert (document["kind"], document["name"], document["waited_p95_s"]) == ("tool", "search", 0.25)
    assert 3 <= document["bend"] <= 6, document
    assert 35 <= document["throughput_max_per_s"] <= 50
    assert f"bends at {document['bend']} at once" in text
    by_level = {level["concurrency"]: level for level in document["levels"]}
    assert by_level[16]["latency_s"] == pytest.approx(0.4, rel=0.2)


def test_nothing_recorded_is_said(place: Path) -> None:
    """An empty answer is no error."""
    assert "none that fit" in run(place, "--load", "--agent", "nobody")
    assert json.loads(run(place, "--load", "--agent", "nobody", "--format", "json").splitlines()[0]) == []
