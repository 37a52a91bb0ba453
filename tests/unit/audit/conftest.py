"""A store with keys for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentguard.seal import Keystore
from tests.support.decisions import make_keystore


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Keystore]:
    """The folder of a store, and its keys."""
    return make_keystore(tmp_path)
