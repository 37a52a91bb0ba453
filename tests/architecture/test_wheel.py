"""The built wheel, not the tree, is what users get: it imports alone, typed, with the starter policies inside."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import agentguard, importlib, pkgutil
broken = {}
for module in pkgutil.walk_packages(agentguard.__path__, "agentguard."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        broken[module.name] = str(error)
print(json.dumps({"file": agentguard.__file__, "version": agentguard.__version__, "broken": broken}))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The wheel, built without the network and unpacked into an empty folder."""
    dist, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_wheel_imports_from_anywhere(unpacked: Path, tmp_path: Path) -> None:
    """Every module of the wheel imports, from a folder that is not the tree."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", _PROBE, str(unpacked)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(result.stdout)
    assert Path(seen["file"]).is_relative_to(unpacked)
    assert seen["broken"] == {}


def test_wheel_carries_policies_types_and_licence(unpacked: Path) -> None:
    """The starter policies, `py.typed`, the licence and the command are in it, tests are not."""
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert any(name.startswith("agentguard/_starter/") and name.endswith(".yaml") for name in files)
    assert "agentguard/py.typed" in files
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert not any(name.startswith(("tests/", "docs/")) for name in files)
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "agentguard = agentguard.cli:main" in entry_points.read_text(encoding="utf-8")
