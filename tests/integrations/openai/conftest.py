"""A model server on loopback, the real client, and a runtime with a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import agentguard
from agentguard.cli.demo.server import ModelServer
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import SpanRecord
from tests.support.clock import FrozenClock

openai = pytest.importorskip("openai")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A server with a fixed seed."""
    with ModelServer(seed=11) as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[openai.OpenAI]:
    """The real client, wrapped so that its retries are seen."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=server.url, api_key="none", http_client=http) as made:
        yield agentguard.wrap(made)


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Callable[[], list[SpanRecord]]]:
    """Initialise agentguard with an empty store; calling the fixture flushes it and reads it back."""
    key = tmp_path / "key"
    create_key_file(key)
    folder = tmp_path / "store"
    agentguard.init(store=folder, key=f"file:{key}", service="openai-tests", drift_interval_s=0)

    def read() -> list[SpanRecord]:
        assert agentguard.flush(10).is_complete
        store = Store.open(folder, provider=FileKey(key), clock=FrozenClock())
        return sorted(store.query().spans(), key=lambda span: span.start_unix_ns)

    yield read
    agentguard.shutdown(10)
