"""Follows a how-to page in an environment of its own: see `tests.support.tutorial`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.tutorial import follow


def follow_with(page: Path, folder: Path, **variables: str) -> int:
    """Follow a page with these environment variables, and the interpreter of the tests first on the path."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "240",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **variables,
    }
    return follow(page, folder, environment)
