"""What the suites of all frameworks share: a runtime of their own, and a model server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.governed import Governed
from tests.support.wire import WireServer


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[Governed]:
    """Agentguard, not yet started; shut down after the test."""
    made = Governed(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def wire() -> Iterator[WireServer]:
    """A model server."""
    with WireServer() as running:
        yield running
