"""Policies that change while a process runs, signed ones, and facts of the application's own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import StoredEvent, read_entries
from agentguard.errors import ConfigurationError, PolicyDocumentError
from agentguard.policy import LOCK_FILE, make_lock
from agentguard.runtime import registering
from agentguard.runtime.core import Runtime
from agentguard.runtime.reload import Reloader, fingerprint
from agentguard.seal import SigningKey
from tests.support.policies import document
from tests.unit.runtime.conftest import Start, decisions

STRICT = document("R | tool.before | tool.name == 'count' && args.n > 10 | deny")
LOOSE = document("R | tool.before | tool.name == 'count' && args.n > 20 | deny")


@agentguard.tool
def count(n: int) -> int:
    """Give a number back."""
    return n


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one policy."""
    path = tmp_path / "rules"
    path.mkdir()
    (path / "p.yaml").write_text(STRICT)
    return path


def reloader(runtime: Runtime) -> Reloader:
    """What watches, driven by hand."""
    paths = runtime.config.policies
    found = Reloader(runtime, runtime.put_in_force, seen=fingerprint(paths), interval_s=3600)
    found.stop(0)
    return found


def events(runtime: Runtime) -> list[StoredEvent]:
    """Chained events about policies."""
    assert runtime.flush(5.0).is_complete
    entries = read_entries(runtime.store.folder, runtime.store.keystore)
    return [one for one in entries if isinstance(one, StoredEvent) and one.kind.startswith("policies.")]


def denied(n: int) -> bool:
    """Whether a call is denied."""
    try:
        count(n)
    except agentguard.CallDenied:
        return True
    return False


def test_changed_policies_come_into_force(start: Start, folder: Path) -> None:
    """Once two looks see the same files; decisions carry the revision they were made by."""
    runtime = start(policies=folder, reload_interval_s=0)
    watch = reloader(runtime)
    before = runtime.revision
    assert denied(15)
    (folder / "p.yaml").write_text(LOOSE)
    assert (watch.look(), denied(15)) == (False, True)
    assert (watch.look(), denied(15)) == (True, False)
    assert runtime.revision != before
    assert [stored.record.bundle for stored in decisions(runtime)][:2] == [before, before]
    assert decisions(runtime)[-1].record.bundle == runtime.revision
    assert [event.details["revision"] for event in events(runtime)] == [before, runtime.revision]


@pytest.mark.parametrize("wrong", ["kind: [", "", None])
def test_what_does_not_load_leaves_the_last_good_ones(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture, wrong: str | None
) -> None:
    """Said in the log, chained, and a fact; mended files end it."""
    more = document("F | tool.before | policy.reload_failed && args.n == 3 | deny", name="f")
    (folder / "f.yaml").write_text(more)
    runtime = start(policies=folder, reload_interval_s=0)
    watch = reloader(runtime)
    before = runtime.revision
    assert not denied(3)
    if wrong is None:
        for file in folder.iterdir():
            file.unlink()
    else:
        (folder / "p.yaml").write_text(wrong)
    with caplog.at_level(logging.ERROR, "agentguard"):
        assert [watch.look(), watch.look(), watch.look()] == [False, False, False]
    assert (runtime.revision, denied(15), denied(3)) == (before, True, True)
    assert sum("stays in force" in message for message in caplog.messages) == 1
    failed = events(runtime)[-1]
    assert (failed.kind, failed.details["revision"]) == ("policies.reload_failed", before)
    (folder / "p.yaml").write_text(STRICT)
    (folder / "f.yaml").write_text(more)
    watch.look()
    watch.look()
    assert (denied(3), denied(15), runtime.reload_failed) == (False, True, False)


def test_the_thread_looks_by_itself(start: Start, folder: Path) -> None:
    """Within a few looks."""
    runtime = start(policies=folder, reload_interval_s=0.02)
    assert denied(15)
    (folder / "p.yaml").write_text(LOOSE)
    deadline = time.monotonic() + 10
    while denied(15) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not denied(15)
    assert runtime.config.reload_interval_s == 0.02


def test_a_forked_child_watches_too(start: Start, folder: Path) -> None:
    """Its parent's threads do not live in it."""
    start(policies=folder, reload_interval_s=0.02)
    child = os.fork()
    if child == 0:
        status = 3
        try:
            (folder / "p.yaml").write_text(LOOSE)
            deadline = time.monotonic() + 20
            while denied(15) and time.monotonic() < deadline:
                time.sleep(0.01)
            status = int(denied(15))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_whole_load_or_nothing(folder: Path) -> None:
    """A fingerprint tells apart content, names and absence."""
    prints = [fingerprint((folder,))]
    (folder / "q.yaml").write_text(LOOSE)
    prints.append(fingerprint((folder,)))
    os.utime(folder / "q.yaml", ns=(1, 1))
    prints.append(fingerprint((folder,)))
    (folder / "q.yaml").unlink()
    prints.append(fingerprint((folder, folder / "absent")))
    assert len(set(prints)) == 4


# Signed folders

KEY = SigningKey(b"k" * 32)
OTHER = SigningKey(b"o" * 32)


def signed(folder: Path, *, serial: int = 1, key: SigningKey = KEY) -> None:
    """Write the lock of a folder."""
    lock = make_lock({file.name: file.read_bytes() for file in folder.glob("*.yaml")}, serial=serial)
    (folder / LOCK_FILE).write_text(lock.signed(key.key_id, key.sign(lock.message)).to_text())


def test_a_signed_folder_loads(start: Start, folder: Path) -> None:
    """And only with every byte as it was signed."""
    signed(folder)
    start(policies=folder, require_signed=[KEY.verify_key.to_text()])
    assert denied(15)


@pytest.mark.parametrize(
    "what", ["unsigned", "other key", "changed", "added", "removed", "lock", "serial", "file"]
)
def test_anything_else_is_refused(start: Start, folder: Path, what: str) -> None:
    """Each way of changing a signed folder."""
    (folder / "q.yaml").write_text(document("Q | tool.before | args.n > 1 | warn", name="q"))
    signed(folder, key=OTHER if what == "other key" else KEY)
    lock = folder / LOCK_FILE
    policies = folder
    if what == "unsigned":
        lock.unlink()
    elif what == "changed":
        (folder / "p.yaml").write_text(LOOSE)
    elif what == "added":
        (folder / "z.yaml").write_text(document("Z | tool.before | args.n > 1 | allow", name="z"))
    elif what == "removed":
        (folder / "q.yaml").unlink()
    elif what == "lock":
        lock.write_text(lock.read_text()[:-20])
    elif what == "serial":
        lock.write_text(lock.read_text().replace('"serial": 1', '"serial": 2'))
    elif what == "file":
        policies = folder / "p.yaml"
    with pytest.raises(PolicyDocumentError, match="only signed policies are loaded"):
        start(policies=policies, require_signed=[KEY.verify_key.to_text()])


def test_an_older_serial_is_refused(start: Start, folder: Path) -> None:
    """Also by a process that starts later, and while one runs."""
    keys = [KEY.verify_key.to_text()]
    signed(folder, serial=7)
    runtime = start(policies=folder, require_signed=keys, reload_interval_s=0)
    watch = reloader(runtime)
    (folder / "p.yaml").write_text(LOOSE)
    signed(folder, serial=6)
    watch.look()
    watch.look()
    assert (denied(15), runtime.reload_failed) == (True, True)
    agentguard.shutdown(5.0)
    from agentguard.runtime.active import ACTIVE

    ACTIVE.runtime = None
    with pytest.raises(PolicyDocumentError, match="serial 6, and 7 was in force"):
        start(policies=folder, require_signed=keys)
    signed(folder, serial=8)
    start(policies=folder, require_signed=keys)
    assert not denied(15)


def test_sources_of_keys_only_tighten(tmp_path: Path, folder: Path) -> None:
    """Keys count that every source names."""
    from agentguard.runtime import load_config

    one, two = KEY.verify_key.to_text(), OTHER.verify_key.to_text()
    (tmp_path / "agentguard.toml").write_text(f'require_signed = ["{one}"]\n')
    config = load_config(environ={"AGENTGUARD_REQUIRE_SIGNED": f"{two},{one}"}, folder=tmp_path)
    assert config.require_signed == (one,)
    with pytest.raises(ConfigurationError, match="no key in common"):
        load_config(environ={"AGENTGUARD_REQUIRE_SIGNED": two}, folder=tmp_path)
    with pytest.raises(ConfigurationError, match="Ed25519 public keys"):
        load_config(environ={"AGENTGUARD_REQUIRE_SIGNED": "ed25519:AAAA"}, folder=tmp_path / "none")


# Facts of the application's own


@pytest.fixture
def no_facts() -> Iterator[None]:
    """Leave nothing registered."""
    yield
    registering._REGISTERED.clear()


@pytest.mark.usefixtures("no_facts")
def test_a_registered_fact_is_read(start: Start, folder: Path) -> None:
    """Typed, asked for when a rule reads it; what it raises denies."""
    asked: list[int] = []

    def is_known() -> bool:
        asked.append(1)
        if len(asked) > 2:
            raise OSError("the directory is away")
        return len(asked) == 1

    agentguard.register_fact("payee.known", bool, is_known, trusted=True)
    agentguard.register_fact("payee.known", bool, is_known, trusted=True)
    (folder / "p.yaml").write_text(document("R | tool.before | args.n > 5 && !payee.known | deny"))
    start(policies=folder)
    assert [denied(1), denied(6), denied(6), denied(6)] == [False, False, True, True]
    assert len(asked) >= 3
    with pytest.raises(ConfigurationError, match="comes after init"):
        agentguard.register_fact("payee.age", int, lambda: 1)


@pytest.mark.usefixtures("no_facts")
def test_a_rule_with_a_fact_of_another_type_does_not_load(start: Start, folder: Path) -> None:
    """Registered types are checked as those of the catalogue."""
    agentguard.register_fact("payee.age", "int", lambda: 3)
    (folder / "p.yaml").write_text(document("R | tool.before | payee.age == 'x' | deny"))
    with pytest.raises(PolicyDocumentError, match="does not compare int with string"):
        start(policies=folder)


@pytest.mark.usefixtures("no_facts")
@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("tool.name", str, "cannot be told from"), ("args.x", str, "cannot be told from"), ("vars.x", str, "`vars`"),
        ("x", str, "no name"), ("X.y", str, "no name"), ("a.b", object, "no type"), ("a.b.c", str, "`a.b`"),
    ],
)  # fmt: skip
def test_what_is_no_fact(name: str, kind: type, said: str) -> None:
    """Refused where it is registered."""
    if name == "a.b.c":
        agentguard.register_fact("a.b", str, str)
    with pytest.raises(ConfigurationError, match=said):
        agentguard.register_fact(name, kind, str)


@pytest.mark.usefixtures("no_facts")
def test_a_type_that_is_none_is_said_at_init(start: Start, folder: Path) -> None:
    """With the fact's name."""
    agentguard.register_fact("a.b", "strng", str)
    with pytest.raises(ConfigurationError, match=r"a\.b"):
        start(policies=folder)
