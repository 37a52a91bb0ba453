"""The openai client before version 3, on httpx: the same tests, by the same file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_FILE = Path(__file__).parent.parent / "openai" / "test_wrap_openai.py"
_SPEC = importlib.util.spec_from_file_location("test_wrap_openai", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
globals().update({name: value for name, value in vars(_MODULE).items() if not name.startswith("__")})


def test_it_is_that_version() -> None:
    """The environment has the older client, and no httpx2."""
    assert _MODULE.openai.__version__.startswith("2.")
    assert importlib.util.find_spec("httpx2") is None
