"""`agentguard policy sign` and `verify`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, fail, note
from agentguard.cli.policy._shared import (
    CHECKS,
    configured,
    count,
    format_option,
    load_or_print,
    print_notices,
    safe,
)
from agentguard.errors import ConfigurationError, PolicyDocumentError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("policies"))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    required=True,
    help="Your private key; `agentguard approvals keygen` makes one.",
)
@click.option(
    "--serial", type=click.IntRange(min=1), help="By default one more than in the lock that is there."
)
@click.option(
    "--add", "is_added", is_flag=True, help="Add a signature to the lock, which must fit the folder."
)
@click.pass_obj
def sign(place: Place, folder: Path, key_file: Path, serial: int | None, is_added: bool) -> int:
    """
    Sign the policies of FOLDER (./policies): writes agentguard.lock.

    The policies must load. The lock holds the digest of every file, a serial and your signature; what
    was signed with an older serial is not put in force any more where a newer one was.
    """
    from agentguard.policy import LOCK_FILE, make_lock, read_lock
    from agentguard.state import load_approver_key

    if load_or_print(place, [folder], "text") is None:
        return UNUSABLE
    key = load_approver_key(key_file)
    files = _files(folder)
    path = folder / LOCK_FILE
    before = read_lock(folder) if path.exists() else None
    if is_added:
        if before is None:
            fail(PolicyDocumentError(f"{path}: is not there, so no signature can be added"))
        lock = make_lock(files, serial=before.serial)
        if lock.message != before.message:
            fail(
                PolicyDocumentError(f"{path}: the folder is not what was signed").hint(
                    "sign it anew, without --add"
                )
            )
        lock = before
    else:
        lock = make_lock(files, serial=serial or (before.serial + 1 if before else 1))
        if before is not None and lock.serial <= before.serial:
            note(
                f"note: serial {lock.serial} is not greater than {before.serial}: it may be refused as older"
            )
    _write(path, lock.signed(key.key_id, key.sign(lock.message)).to_text())
    click.echo(
        f"signed {count(len(files), 'file')} of {safe(str(folder))}, serial {lock.serial}, key {key.key_id}"
    )
    note(f"the public key, for the setting require_signed: {key.verify_key.to_text()}")
    return FINE


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--key", "keys", multiple=True, help="Public key that may sign; by default those of require_signed."
)
@format_option(*CHECKS)
@click.pass_obj
def verify(place: Place, folders: tuple[Path, ...], keys: tuple[str, ...], output_format: str) -> int:
    """
    Check policy folders against their agentguard.lock.

    Exit status: 0 where every file is as it was signed, by a key that may sign; 1 where not; 2 without a lock.
    """
    from agentguard.policy import check_lock, read_lock
    from agentguard.review import Notice
    from agentguard.runtime import KeyVerifier

    chosen = keys or place.config.require_signed
    if not chosen:
        raise ConfigurationError("no key is named that may sign").hint(
            "--key ed25519:..., or the setting require_signed"
        )
    verifier = KeyVerifier(chosen)
    wrong: list[str] = []
    for folder in folders or configured(place):
        lock = read_lock(folder)
        found = check_lock(folder, lock, _files(folder), verifier)
        wrong.extend(found)
        if not found and output_format == "text":
            signers = ", ".join(key_id for key_id, _ in lock.signatures)
            click.echo(
                f"{safe(str(folder))}: as signed: {count(len(lock.files), 'file')}, serial {lock.serial}, key {signers}"
            )
    if output_format == "text":
        for line in wrong:
            click.echo(safe(line))
    else:
        notices = [
            Notice(path, 0, 0, "error", "not-as-signed", text)
            for path, _, text in (line.partition(": ") for line in wrong)
        ]
        print_notices(notices, output_format, is_err=False, command="agentguard policy verify")
    return FINDINGS if wrong else FINE


def _files(folder: Path) -> dict[str, bytes]:
    """Content of all files that would be loaded, by relative path."""
    from agentguard.policy import policy_files

    try:
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in policy_files([folder])}
    except OSError as error:
        fail(PolicyDocumentError(f"{folder}: cannot be read: {error.strerror}"))


def _write(path: Path, text: str) -> None:
    """Put the lock in place, whole."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".lock-", delete=False) as new:
            new.write(text)
            new.flush()
            os.fchmod(new.fileno(), 0o644)
        Path(new.name).replace(path)
    except OSError as error:
        fail(PolicyDocumentError(f"{path}: cannot be written: {error.strerror}"))
