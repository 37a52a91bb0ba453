"""A real runtime for the integrations that need no framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.governed import Governed


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[Governed]:
    """Agentguard, not yet started; shut down after the test."""
    made = Governed(tmp_path)
    yield made
    made.stop()
