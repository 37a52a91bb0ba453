"""
A room imports what its row of the architecture allows, and each third-party part has one home.

The layers and doors are import-linter contracts in `pyproject.toml` (first test). The table below is
narrower than layers: it is the column "may import besides values, errors".
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture._tree import imports, modules, room_of

ALL = "everything above"
EVERYWHERE = {"values", "errors", "escape", "event_loop", "forks", "reckoning", "version"}
MAY_IMPORT: dict[str, set[str] | str] = {
    "values": set(),
    "escape": set(),
    "event_loop": set(),
    "forks": set(),
    "reckoning": set(),
    "errors": set(),
    "version": set(),
    "wrapping": set(),
    "redaction": set(),
    "capture": {"redaction", "wrapping"},
    "seal": set(),
    "policy": {"redaction"},
    "state": {"seal"},
    "store": {"seal"},
    "drift": {"store"},
    "audit": {"store", "seal"},
    "review": {"policy", "state", "store", "audit", "drift"},
    "export": {"store", "audit", "drift", "review", "redaction"},
    "runtime": ALL,
    "integrations": {"runtime", "capture"},
    "ingest": {"runtime"},
    "testing": {"runtime"},
    "cli": ALL,
    "__main__": ALL,
    "": {"runtime", "integrations"},
}
"""The package's own `__init__` (empty name) holds the public API: it imports runtime and what runtime wraps."""

HOMES: dict[str, set[str]] = {
    # The API is capture's; runtime looks whether a provider exists; export builds resources.
    # The demo is in cli: it brings a receiver and the SDK's own processor to compare with.
    "opentelemetry": {"wrapping", "capture", "runtime", "export", "integrations", "cli"},
    "opentelemetry.sdk": {"export", "runtime", "cli"},
    "opentelemetry.exporter": {"export", "cli"},
    "opentelemetry.proto": {"export", "cli"},
    "google": {"export", "cli"},
    "grpc": {"export"},
    "certifi": {"export"},
    "urllib3": {"export"},
    "pyarrow": {"export", "store", "drift"},
    "cryptography": {"seal"},
    "boto3": {"seal"},
    "botocore": {"seal"},
    "keyring": {"seal"},
    "presidio_analyzer": {"redaction"},
    "spacy": {"redaction"},
    "pkcs11": {"seal"},
    "ruamel": {"policy"},
    "pydantic": {"policy"},
    "sqlite_utils": {"store"},
    "msgspec": {"store", "audit"},
    "backports": {"store"},
    "compression": {"store"},
    "numpy": {"drift"},
    "scipy": {"drift"},
    "narwhals": {"drift"},
    "click": {"cli"},
    "rich": {"cli"},
    "openai": {"cli"},
    "genai_prices": {"capture"},
    "rfc3161_client": {"audit"},
    # A query gives its rows as a table of the library that the caller has.
    "pandas": {"store"},
    "polars": {"store"},
}
"""Third-party parts by the rooms they may live in; the longest prefix counts. What is not here is not used."""


@pytest.mark.timeout(180)
def test_import_contracts_hold(repository: Path) -> None:
    """`lint-imports` keeps every contract of pyproject.toml."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-cache",
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_rooms_import_only_what_their_row_allows() -> None:
    """No import crosses the table, not even inside a function."""
    wrong = []
    for found in imports():
        if not found.imported.startswith("agentguard."):
            continue
        own, other = room_of(found.importer), room_of(found.imported)
        if other.startswith("__") or other not in MAY_IMPORT:  # `agentguard.__version__`, a public name
            continue
        allowed = MAY_IMPORT.get(own, set())
        if other != own and other not in EVERYWHERE and allowed != ALL and other not in allowed:
            wrong.append(f"{found.place}: {own or 'agentguard'} imports {other}")
        if own == "values" and other != "values":
            wrong.append(f"{found.place}: values imports {other}")
    assert wrong == []


def test_every_room_has_a_row() -> None:
    """A new folder or module of the package stands in the table first."""
    assert {room_of(name) for name in modules()} - set(MAY_IMPORT) == set()


def test_third_party_parts_stay_at_home() -> None:
    """Each third-party import is in the table, and in one of its rooms."""
    wrong = []
    for found in imports():
        top = found.imported.partition(".")[0]
        if top == "agentguard" or top in sys.stdlib_module_names:
            continue
        parts = found.imported.split(".")
        prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        homes = next((HOMES[prefix] for prefix in prefixes if prefix in HOMES), None)
        if homes is None:
            wrong.append(f"{found.place}: {top} has no home")
        elif room_of(found.importer) not in homes:
            wrong.append(f"{found.place}: {found.imported} lives in {sorted(homes)}")
    assert wrong == []
