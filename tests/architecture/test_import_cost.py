"""`import agentguard` is light: nothing heavy is loaded, not even asyncio, and it costs little more than the API it stands on."""

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
RATIO_MAX = 1.0
PAIRS_MAX = 15

_CPU = "import resource as r; b=r.getrusage(r.RUSAGE_SELF); {0}; a=r.getrusage(r.RUSAGE_SELF); print(a.ru_utime+a.ru_stime-b.ru_utime-b.ru_stime)"


def _run(code: str, repository: Path, *args: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=repository, capture_output=True, text=True, check=True
    ).stdout


def test_import_loads_nothing_heavy(repository: Path) -> None:
    """No numpy, pydantic, cryptography, SDK, exporter or command-line library is in sys.modules."""
    loaded = set(
        json.loads(_run("import agentguard, sys, json; print(json.dumps(list(sys.modules)))", repository))
    )
    assert [name for name in HEAVY if name in loaded] == []


_PLAIN_PROGRAM = """
import json, sys, time
from pathlib import Path
import agentguard
from agentguard.seal import create_key_file

folder = Path(sys.argv[1])
create_key_file(folder / "key")
(folder / "policy.yaml").write_text('''
apiVersion: agentguard/v1
kind: Policy
metadata: { name: plain, version: 1.0.0, title: Rules of a plain program }
defaults: { unmatched: allow, mode: enforce, timezone: UTC }
rules:
  - { id: PLN-001, title: Few refunds, at: tool.before, when: tool.calls_5m >= 2, then: deny }
  - { id: PLN-002, title: No secrets, at: model.after, when: "'secret' in result", then: deny }
''')
agentguard.init(
    service="plain", store=folder / "store", policies=folder / "policy.yaml", key=f"file:{folder}/key",
    export="http://127.0.0.1:9", drift_interval_s=0.2,
)

@agentguard.tool(effect="write")
def refund():
    return sys.flags  # Any object: most answers are none of the plain types.

@agentguard.model(provider="openai", model="gpt-5")
def ask():
    yield from ("what", "is", "said")

@agentguard.agent(name="desk")
def desk():
    print(*ask())
    refund()

for _ in range(2):
    desk()
try:
    desk()
except agentguard.CallDenied:
    print("denied")
time.sleep(0.5)
agentguard.shutdown()
print(*(name in sys.modules for name in ("asyncio", "numpy", "agentguard.export")))
print(json.dumps(list(sys.modules)))
"""
_NOT_USED = {
    "scipy", "pydantic", "ruamel.yaml", "tomllib", "getpass", "opentelemetry.metrics", "opentelemetry.sdk",
    "google.protobuf", "agentguard.audit.verification", "agentguard.audit.proving", "agentguard.policy._controls",
    "agentguard.policy._lint", "agentguard.store._sql", "agentguard.store._backup",
}  # fmt: skip


def test_a_plain_program_loads_only_what_it_uses(repository: Path, tmp_path: Path) -> None:
    """With policies, store, log, export and drift at work: not what coroutines, people, auditors or metrics need."""
    said, _, loaded = _run(_PLAIN_PROGRAM, repository, tmp_path).rstrip("\n").rpartition("\n")
    assert said == "what is said\n" * 3 + "denied\nFalse True True"
    assert not _NOT_USED & {*json.loads(loaded)}


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
def test_import_costs_no_more_than_the_api_and_asyncio(repository: Path) -> None:
    """The CPU of `import agentguard` is at most that of the OpenTelemetry API, asyncio and dataclasses."""
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
