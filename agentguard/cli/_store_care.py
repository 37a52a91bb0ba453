"""Commands that mend, copy and bring back the store: repair, backup, restore, migrate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    emit_document,
    emit_result,
    format_option,
    note,
)
from agentguard.cli._machine import record_event, try_to_record
from agentguard.runtime import user_name


@click.command()
@format_option()
@click.pass_obj
def repair(place: Place, output_format: str) -> int:
    """
    Seal what dead processes left, and write damaged segments anew from what can be read.

    Damaged files are kept in `quarantine/`. The decision log is evidence and never changed.
    """
    repaired = place.open_store().repair()
    document = {name: list(found) for name, found in repaired._asdict().items()}
    record_event(
        place, "store.repaired", {**{name: len(found) for name, found in document.items()}, "by": user_name()}
    )
    if output_format == "text":
        rows = [
            {"what": what.replace("_", " "), "file": name}
            for what, found in document.items()
            for name in found
        ]
        emit(rows, columns=("what", "file"), empty="nothing to repair")
    elif output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    else:
        emit_document(document)
    return FINE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@format_option()
@click.pass_obj
def backup(place: Place, folder: Path, output_format: str) -> int:
    """
    Copy the store into FOLDER, which must be new or empty; programs may go on writing.

    Everything in it stays sealed: the key is needed to read it, and is not part of it. Rates, budgets
    and requests for approval are this machine's, and stay here.
    """
    made = place.open_store().back_up(folder.absolute())
    try_to_record(
        place,
        "store.backup",
        {"target": str(folder.absolute()), "files": made.files, "size_bytes": made.size_bytes},
    )
    text = f"{folder}: {made.files} files, {made.size_bytes} bytes"
    emit_result({"folder": str(folder.absolute()), **made._asdict()}, output_format, text)
    return FINE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--keys-from",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where keyring.agk and its wrap key are as they were last, such as the damaged store.",
)
@format_option()
@click.pass_obj
def restore(place: Place, folder: Path, keys_from: Path | None, output_format: str) -> int:
    """
    Make the store of this place from the backup in FOLDER; there must be no store yet.

    Each file must be the one that was backed up: links, other names and altered bytes are refused. A backup
    has no wrap key, so that it brings nothing back that was erased: content of persons is readable with --keys-from.
    """
    # Imported late: help of other commands needs no cryptography.
    from agentguard.store import restore as restore_store

    target = place.config.store
    made = restore_store(
        folder.absolute(), target, provider=place.provider, keys_from=keys_from and keys_from.absolute()
    )
    text = f"{target}: {made.files} files, {made.size_bytes} bytes restored"
    emit_result({"folder": str(target), **made._asdict()}, output_format, text)
    details = {"source": str(folder.absolute()), **made._asdict(), "by": user_name()}
    record_event(place, "store.restored", {k: value for k, value in details.items() if k != "store_id"})
    note("hint: `agentguard store verify` and `agentguard decisions verify` read all of it")
    return FINE


@click.command()
@format_option()
@click.pass_obj
def migrate(place: Place, output_format: str) -> int:
    """
    Say which format the segments have; every format that was ever released stays readable.

    Exit status 1: some segments were written by a later version.
    """
    # Imported late, as above.
    from agentguard.store import SEGMENT_VERSION

    found = Counter(place.open_store().segment_versions())
    newest = max(found, default=0)
    lines = [f"format {version}: {count} files" for version, count in sorted(found.items())]
    if newest <= SEGMENT_VERSION:
        lines.append("nothing to migrate")
    document = {
        "formats": {str(version): count for version, count in sorted(found.items())},
        "reads": SEGMENT_VERSION,
    }
    for line in lines if output_format == "text" else lines[:1]:
        emit_result(document, output_format, line)
    if newest > SEGMENT_VERSION:
        note(f"format {newest} is later than this version of agentguard, which reads up to {SEGMENT_VERSION}")
        return FINDINGS
    return FINE
