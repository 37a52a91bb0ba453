"""`import agentguard` is light: nothing heavy is loaded, and it costs little more than the API it stands on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "numpy", "scipy", "pandas", "narwhals", "pydantic", "cryptography", "ruamel", "sqlite_utils", "sqlite3", "click",
    "rich", "grpc", "requests", "urllib3", "google.protobuf", "opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto",
    "asyncio",
)  # fmt: skip
RATIO_MAX = 1.3
PAIRS_MAX = 15

_CPU = "import resource as r; b=r.getrusage(r.RUSAGE_SELF); {0}; a=r.getrusage(r.RUSAGE_SELF); print(a.ru_utime+a.ru_stime-b.ru_utime-b.ru_stime)"


def _run(code: str, repository: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout


def test_import_loads_nothing_heavy(repository: Path) -> None:
    """No numpy, pydantic, cryptography, SDK, exporter or command-line library is in sys.modules."""
    loaded = set(
        json.loads(_run("import agentguard, sys, json; print(json.dumps(list(sys.modules)))", repository))
    )
    assert [name for name in HEAVY if name in loaded] == []


def test_the_checker_loads_no_more_than_it_needs(repository: Path) -> None:
    """What people ask of the drift room is loaded when they ask; a governed process keeps half a megabyte less."""
    code = (
        "import sys, json; from agentguard.drift import Checker; before = sorted(sys.modules); "
        "from agentguard.drift import backtest; print(json.dumps([before, sorted(sys.modules)]))"
    )
    before, after = json.loads(_run(code, repository))
    assert "agentguard.drift._checker" in before
    assert "agentguard.drift._backtest" in after
    assert not {
        f"agentguard.drift._{name}" for name in ("backtest", "power", "rehearse", "report", "quiet")
    } & {*before}


@pytest.mark.timeout(180)
def test_import_costs_little_more_than_the_api(repository: Path) -> None:
    """The CPU of `import agentguard` is at most 1.3 times that of the OpenTelemetry API, asyncio and dataclasses."""
    own_s, base_s = [], []
    for _ in range(PAIRS_MAX):
        base_s.append(
            float(_run(_CPU.format("import opentelemetry.trace, asyncio, dataclasses"), repository))
        )
        own_s.append(float(_run(_CPU.format("import agentguard"), repository)))
        # The least of several runs is what the code costs; the rest is what the machine was doing.
        if len(own_s) >= 3 and min(own_s) <= RATIO_MAX * min(base_s):
            return
    pytest.fail(f"import agentguard: {min(own_s) * 1e3:.1f} ms, the API alone: {min(base_s) * 1e3:.1f} ms")
