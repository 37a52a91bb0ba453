"""
What `doctor` looks at: one function a part, each giving findings with the way to mend them.

Nothing is changed by looking.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from agentguard.cli._common import Place
from agentguard.cli._proofs import verify_place
from agentguard.cli._times import moment
from agentguard.errors import AgentGuardError, KeyUnavailableError, PolicyDocumentError
from agentguard.runtime import SECRET_VARIABLES, find_file
from agentguard.version import __version__

FREE_BYTES_LOW = 256 * 1024 * 1024
CONNECT_TIMEOUT_S = 2.0
CLOCK_SKEW_S = 300
RELEASED_UNIX_S = 1_763_000_000
"""A machine whose clock is before this has a wrong clock."""


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Finding(NamedTuple):
    """One thing that was looked at."""

    part: str
    level: Level
    text: str
    mend: str = ""
    """What to do about it; empty where nothing is to be done."""


def look(place: Place) -> Iterator[Finding]:
    """Look at everything, in the order a person would set it up; a failing part hides no other."""
    parts: tuple[tuple[str, Callable[[Place], Iterator[Finding]]], ...] = (
        ("versions", _versions),
        ("settings", _settings),
        ("key", _key),
        ("store", _store),
        ("policies", _policies),
        ("decisions", _decisions),
        ("drift", _drift),
        ("provider", _provider),
        ("export", _export),
        ("clock", _clock),
        ("keyring", _keyring),
    )
    told: set[str] = set()
    behind: list[str] = []
    """Parts that stop at what was told of an earlier one."""
    for name, part in parts:
        try:
            yield from part(place)
        except PolicyDocumentError as error:
            for problem in error.problems or ():
                yield Finding(name, Level.BAD, str(problem), problem.hint or "agentguard policy check")
        except (AgentGuardError, OSError) as error:
            if str(error) in told:
                behind.append(name)
                continue
            told.add(str(error))
            notes = " ".join(getattr(error, "__notes__", ()))
            yield Finding(name, Level.BAD, str(error), notes.removeprefix("hint: "))
    if behind:
        yield Finding("others", Level.BAD, f"not looked at, for the same reason: {', '.join(behind)}")


def _versions(_place: Place) -> Iterator[Finding]:
    if os.name != "posix":
        yield Finding("versions", Level.BAD, f"{platform.system()} is not supported", "use Linux or macOS")
    yield Finding(
        "versions",
        Level.OK,
        f"agentguard {__version__}, Python {platform.python_version()}, {platform.system()}",
    )


def _settings(place: Place) -> Iterator[Finding]:
    config = place.config
    file = find_file(Path.cwd())
    yield Finding(
        "settings",
        Level.OK,
        f"service `{config.service}`, from {file or 'no file: defaults and AGENTGUARD_*'}",
    )
    if not config.enabled:
        yield Finding("settings", Level.WARN, "enabled is false: calls are neither governed nor recorded")
    for variable in SECRET_VARIABLES[:2]:
        if os.environ.get(variable):
            yield Finding(
                "settings",
                Level.WARN,
                f"{variable} is in the environment: every tool that the agent starts inherits it",
                "use a key file or a mounted secret",
            )


def _key(place: Place) -> Iterator[Finding]:
    config = place.config
    scheme, _, written = config.key.partition(":")
    if scheme != "file":
        yield Finding("key", Level.OK, f"from {scheme}")
        return
    path = Path(written)
    if not path.exists():
        level = Level.BAD if (config.store / "STORE").exists() else Level.WARN
        yield Finding("key", level, f"{path} does not exist", "agentguard init makes one")
        return
    about = path.stat()
    try:
        # The provider judges, not the mode alone: a mounted secret of root may show rights of the group.
        place.provider.key(b"")
    except KeyUnavailableError as error:
        hint = f"chmod 0400 {path}" if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO) else ""
        yield Finding("key", Level.BAD, str(error), hint)
    else:
        yield Finding("key", Level.OK, f"file {path}, mode {stat.S_IMODE(about.st_mode):04o}")
    store = config.store if config.store.exists() else config.store.parent
    if store.exists() and store.stat().st_dev == about.st_dev:
        yield Finding(
            "key",
            Level.BAD,
            "key and store lie on one disk with no other factor: who takes the disk can read the store",
            "use a passphrase (agentguard init --key passphrase), or mount the key from elsewhere",
        )


def _store(place: Place) -> Iterator[Finding]:
    folder = place.config.store
    if not (folder / "STORE").exists():
        yield Finding(
            "store", Level.WARN, f"none yet in {folder}", "agentguard init, or the first init() makes it"
        )
        return
    about = folder.stat()
    if about.st_mode & 0o077:
        yield Finding(
            "store",
            Level.BAD,
            f"{folder} is open to others (mode {stat.S_IMODE(about.st_mode):04o})",
            f"chmod 0700 {folder}",
        )
    place.open_store()
    files = [f.stat() for f in folder.rglob("*") if f.is_file()]
    loose = sum(1 for f in files if f.st_mode & 0o077)
    if loose:
        yield Finding("store", Level.BAD, f"{loose} files can be read by others", f"chmod -R go= {folder}")
    yield Finding(
        "store",
        Level.OK,
        f"{folder}, {len(files)} files, {sum(f.st_size for f in files) / 1e6:.1f} MB, opens with the key",
    )
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_LOW:
        yield Finding(
            "store",
            Level.WARN,
            f"{free / 1e6:.0f} MB free on its disk",
            "free some space, or shorten retention_days",
        )


def _policies(place: Place) -> Iterator[Finding]:
    config = place.config
    if not config.policies:
        yield Finding(
            "policies",
            Level.WARN,
            "none configured: calls are recorded and not governed",
            'set policies = ["policies"] in agentguard.toml; `agentguard init` brings starters',
        )
        return
    from agentguard.policy import load_bundle

    bundle = load_bundle(config.policies)
    yield Finding(
        "policies",
        Level.OK,
        f"{len(bundle.rules)} rules in {len(bundle.policies)} documents, revision {bundle.revision[:12]}",
    )
    idle = [rule.id for rule in bundle.rules if str(rule.mode) != "enforce"]
    if idle:
        yield Finding("policies", Level.WARN, f"NOT ENFORCED (warn or shadow): {', '.join(idle[:10])}")


def _decisions(place: Place) -> Iterator[Finding]:
    if not (place.config.store / "STORE").exists():
        return
    report = verify_place(place)
    if report.is_good:
        yield Finding("decisions", Level.OK, "the decision log verifies")
    else:
        yield Finding(
            "decisions", Level.BAD, "the decision log does not verify", "agentguard decisions verify"
        )
    yield from _anchors(place, report.tail_records)


def _anchors(place: Place, tail_records: int) -> Iterator[Finding]:
    """Say what of the decision log somebody else could vouch for, and what nobody could."""
    from agentguard.audit import Receipts, last_kept_unix_ns, sink_for

    config = place.config
    receipts = Receipts(config.store).read()
    names = {receipt.to for receipt in receipts}
    if tail_records:
        yield Finding(
            "decisions", Level.OK, f"{tail_records} records stand after the last checkpoint of their journal"
        )
    if not config.decisions_anchors:
        kept = f"; the last was entry {receipts[0].sequence}, kept at {receipts[0].to}" if receipts else ""
        yield Finding(
            "decisions",
            Level.WARN,
            f"no checkpoint is handed to anybody: a store that is set back whole would not show it{kept}",
            'decisions_anchors = ["file:/another/machine/agentguard.anchors"], or `agentguard decisions anchor`',
        )
    now_ns = time.time_ns()
    roots = Path(config.decisions_anchor_roots or os.devnull)
    for target in config.decisions_anchors:
        # The exporter's own name is known to the process that exports.
        name = (
            next((one for one in names if one.startswith("otlp:")), "otlp")
            if target == "otlp"
            else sink_for(target, roots=roots).name
        )
        last = last_kept_unix_ns(config.store, name)
        last = max([last or 0, *(one.time_unix_ns for one in receipts if one.to == name)])
        late_s = (now_ns - last) / 1e9 - 2 * config.decisions_anchor_interval_s
        yield Finding(
            "decisions",
            Level.WARN if not last or late_s > 0 else Level.OK,
            f"checkpoints go to {name}: " + (f"the last at {moment(last)} UTC" if last else "none yet"),
            "a process that runs hands them over; `agentguard decisions anchor` does it now"
            if not last or late_s > 0
            else "",
        )
    if not config.decisions_mark:
        return
    is_there = Path(config.decisions_mark).exists()
    yield Finding(
        "decisions",
        Level.OK if is_there else Level.WARN,
        f"the high-water mark is {'' if is_there else 'not yet '}at {config.decisions_mark}",
    )


def _drift(place: Place) -> Iterator[Finding]:
    config = place.config
    if config.drift_interval_s <= 0:
        yield Finding("drift", Level.WARN, "the background checker is off (drift_interval_s = 0)")
    else:
        yield Finding("drift", Level.OK, f"checked every {config.drift_interval_s:g} s while a process runs")


def _provider(place: Place) -> Iterator[Finding]:
    mode = place.config.otel
    text = {
        "auto": "spans join the application's OpenTelemetry provider where there is one",
        "isolated": "spans stay apart from any OpenTelemetry provider",
        "global": "a provider of agentguard's becomes the global one where the application has none, and takes in "
        "native spans of SDKs",
        "off": "OpenTelemetry sees nothing of agentguard, and native spans of SDKs are not taken in",
    }[mode]
    more = "" if mode in {"global", "off"} else "; native spans of SDKs exist only with a provider"
    yield Finding("provider", Level.OK, f"{text} (otel = {mode}){more}")


def _export(place: Place) -> Iterator[Finding]:
    from agentguard.runtime import destinations

    if place.config.export == "none" and not place.config.export_others:
        yield Finding("export", Level.OK, "off: spans stay on this machine")
        return
    for one in destinations(place.config, os.environ):
        parts = urlsplit(one.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        what = f"content: {one.content}" + (f", only {', '.join(one.keep)}" if one.keep else "")
        try:
            with socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT_S):
                yield Finding("export", Level.OK, f"{parts.hostname}:{port} accepts connections ({what})")
        except OSError as error:
            yield Finding(
                "export",
                Level.WARN,
                f"{parts.hostname}:{port} cannot be reached ({error.strerror or type(error).__name__}; {what})",
                "spans wait in the store; nothing is lost while retention lasts",
            )


def _clock(place: Place) -> Iterator[Finding]:
    now_s = time.time()
    if now_s < RELEASED_UNIX_S:
        yield Finding(
            "clock",
            Level.BAD,
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now_s))}",
            "set the clock",
        )
        return
    if (place.config.store / "STORE").exists():
        newest = next(iter(place.open_store().query().spans(newest_first=True, limit=1)), None)
        if newest is not None and newest.start_unix_ns / 1e9 > now_s + CLOCK_SKEW_S:
            yield Finding("clock", Level.WARN, "the newest span begins in the future: the clock was set back")
            return
    yield Finding("clock", Level.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def _keyring(place: Place) -> Iterator[Finding]:
    """Name a keyring that keeps its secrets in clear: it is refused as a key provider."""
    from agentguard.seal import keyring_backend

    found = keyring_backend()
    if found is None:
        return
    name, is_plaintext = found
    if place.config.key.startswith("keyring:"):
        level = Level.BAD if is_plaintext else Level.OK
        yield Finding(
            "keyring",
            level,
            f"{name} {'is refused: it keeps secrets in clear' if is_plaintext else 'has the key'}",
        )
    elif is_plaintext:
        yield Finding(
            "keyring", Level.WARN, f"{name} keeps secrets in clear, and is refused as a key provider"
        )
    else:
        yield Finding("keyring", Level.OK, f"{name} is installed and not used")
