"""Whatever the umask, files are private; whatever is planted in a store, nothing outside is written, and nobody waits."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import agentguard
from agentguard.errors import AgentGuardError
from agentguard.runtime.active import ACTIVE
from tests.support.crash_site import Site
from tests.support.governed import Governed

_SECONDS_MAX = 20.0
_VICTIM = b"not a file of the store " * 10


@agentguard.tool
def work(number: int) -> int:
    """Do something."""
    return number


def _live(folder: Path) -> None:
    """A life of a governed process: calls, sealed segments, a checkpoint; errors of ours end it."""
    governed = Governed(folder)
    try:
        governed.start(
            '- {id: A, title: Recorded, at: tool.before, when: "true", then: allow, record: required}'
        )
        for number in range(20):
            work(number)
        governed.spans()
        governed.decisions()
    finally:
        governed.stop()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Files 0600, folders 0700: what the umask allows is not what is made."""
    before = os.umask(umask)
    try:
        _live(tmp_path)
        _live(tmp_path)
    finally:
        os.umask(before)
    seen = list((tmp_path / "store").rglob("*"))
    assert len(seen) > 8
    for path in (tmp_path / "store", *seen):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path.name}: {mode:04o}"


def _plant(path: Path, kind: str, victim: Path) -> None:
    path.unlink()
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(0o700)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_planted_things(tmp_path: Path, kind: str) -> None:
    """In the place of each file of a store in turn: an error of ours or a life without it."""
    good = tmp_path / "good"
    good.mkdir()
    _live(good)
    names = sorted(p.relative_to(good) for p in (good / "store").rglob("*") if p.is_file())
    assert len(names) > 5
    # Of files of a kind one will do.
    chosen = list({(name.parent, name.suffix): name for name in names}.values())
    for number, name in enumerate(chosen):
        place = tmp_path / f"{number}"
        shutil.copytree(good, place)
        victim = tmp_path / f"victim-{number}"
        victim.write_bytes(_VICTIM)
        _plant(place / name, kind, victim)
        failures: list[BaseException] = []
        worker = threading.Thread(target=_guarded, args=(place, failures), daemon=True)
        worker.start()
        worker.join(_SECONDS_MAX)
        assert not worker.is_alive(), f"{name} as {kind}: it waits"
        assert victim.read_bytes() == _VICTIM, f"{name} as {kind}: something outside was written"
        for failure in failures:
            failure.add_note(f"{name} as {kind}")
            raise failure


def _guarded(folder: Path, failures: list[BaseException]) -> None:
    try:
        _live(folder)
    except AgentGuardError:
        pass
    except BaseException as error:
        failures.append(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")
def test_a_store_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A process without privileges does not write into a folder that another user owns."""
    site = Site(tmp_path / "site").prepare()
    for path in [path for path in (tmp_path, *tmp_path.parents) if path.stat().st_uid == 0][:4]:
        path.chmod(path.stat().st_mode | 0o011)
    site.start()
    agentguard.shutdown(5)
    ACTIVE.runtime = None
    for path in (site.folder, *site.folder.rglob("*")):
        os.chown(path, 12345, 12345)
    (site.folder / "store").chmod(0o777)
    program = (
        # Everything is loaded first: the interpreter itself may be out of reach afterwards.
        "import os, agentguard, agentguard.runtime.core, agentguard.runtime.opening\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"agentguard.init(store={str(site.folder / 'store')!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=site.environment(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert b"StoreError" in done.stderr or b"expected one of user" in done.stderr, done.stderr.decode()
