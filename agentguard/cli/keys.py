"""`agentguard store key`: who may open the store, who may read it, and changing that."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINE, Place, emit, format_option, note
from agentguard.cli._machine import record_event
from agentguard.errors import KeyUnavailableError, SealError
from agentguard.runtime import user_name

if TYPE_CHECKING:
    from agentguard.seal import FileKey, Keystore
    from agentguard.values import KeyProvider

_NEW_PASSPHRASE = "AGENTGUARD_NEW_PASSPHRASE"  # noqa: S105 - a name
_SPEC_HELP = (
    "SPEC is file:PATH, passphrase, systemd:NAME, fd:N, keyring:SERVICE, kms:ARN, pkcs11:URI or env. A missing "
    f"key file and a missing keyring entry are made; a new passphrase is asked for, or taken from {_NEW_PASSPHRASE}."
)


@click.group()
def key() -> None:
    """Key slots: who opens the store, who only reads it."""


@key.command("list")
@format_option()
@click.pass_obj
def list_slots(place: Place, output_format: str) -> int:
    """List the slots, without their secrets."""
    from agentguard.seal import AuditorPublicKey

    keystore = place.open_keystore()
    emit(
        [
            {
                "slot": slot.slot_id,
                "provider": slot.provider,
                "may": "read" if slot.is_auditor else "read and write",
                "in_use": "yes" if slot.slot_id == keystore.slot_id else "",
                "auditor": AuditorPublicKey(slot.commitment).to_text() if slot.is_auditor else "",
            }
            for slot in keystore.slots
        ],
        columns=("slot", "provider", "may", "in_use", "auditor"),
        output_format=output_format,
    )
    return FINE


@key.command(epilog=_SPEC_HELP)
@click.argument("spec", required=False)
@click.option("--auditor", metavar="PUBKEY", help="Let the holder of this key read, not write: x25519:…")
@click.pass_obj
def add(place: Place, spec: str | None, auditor: str | None) -> int:
    """
    Let another key open the store too.

    \b
    agentguard store key add passphrase
    agentguard store key add kms:arn:aws:kms:eu-west-1:111122223333:key/…
    agentguard store key add --auditor x25519:…
    """  # noqa: D301 - \b is for click: it keeps the lines
    from agentguard.seal import AuditorPublicKey

    if (spec is None) == (auditor is None):
        raise click.UsageError("expected SPEC or --auditor, one of them")
    keystore = place.open_keystore()
    with _reported(place):
        if auditor is not None:
            public = AuditorPublicKey.from_text(auditor)
            slot = keystore.add_auditor(public)
            details = {"slot": slot.slot_id, "provider": slot.provider, "key_id": public.key_id}
            _record(place, keystore, "key.added", details)
            note(f"slot {slot.slot_id}: the auditor {public.key_id} can read this store")
            note("line for the auditor's file, so that no other store passes for this one:")
            click.echo(f"store:{keystore.verify_key.to_text()}")
            return FINE
        slot = keystore.add_slot(_new_provider(spec or ""))
        _record(place, keystore, "key.added", {"slot": slot.slot_id, "provider": slot.provider})
    note(f"slot {slot.slot_id}: `{slot.provider}` opens this store too")
    return FINE


@key.command()
@click.argument("slot", type=int)
@click.pass_obj
def remove(place: Place, slot: int) -> int:
    """Take a key's slot away; never the last one that writes."""
    keystore = place.open_keystore()
    with _reported(place):
        provider = next((one.provider for one in keystore.slots if one.slot_id == slot), "")
        keystore.remove_slot(slot)
        _record(place, keystore, "key.removed", {"slot": slot, "provider": provider})
    note(f"slot {slot} is gone")
    if not keystore.is_read_only and slot != keystore.slot_id:
        note(
            "who had its key and a copy of the STORE file: `agentguard store key rotate --generation` locks them out"
        )
    return FINE


@key.command(epilog=_SPEC_HELP)
@click.option("--slot", type=int, help="Which slot.  [default: the one this command opened the store with]")
@click.option("--to", "spec", metavar="SPEC", help="The new key.  [default: a new key in the same place]")
@click.option("--generation", is_flag=True, help="Seal what is written from now on under new root keys.")
@click.pass_obj
def rotate(place: Place, slot: int | None, spec: str | None, generation: bool) -> int:
    """
    Change a key, or with --generation what the store seals with.

    \b
    agentguard store key rotate                       a new key in the same file
    agentguard store key rotate --to passphrase       another provider instead
    agentguard store key rotate --generation          new roots; what was written stays readable
    """  # noqa: D301 - \b is for click: it keeps the lines
    keystore = place.open_keystore()
    with _reported(place):
        if spec is not None or slot is not None or not generation:
            _rotate_slot(place, keystore, slot or keystore.slot_id, spec)
        if generation:
            number = keystore.add_generation()
            _record(place, keystore, "key.rotated", {"generation": number})
            note(f"generation {number}: programs that run now use it from their next start on")
    return FINE


@key.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def auditor(path: Path) -> int:
    """Make an auditor's key pair: the private half in PATH, the public half on standard output."""
    from agentguard.seal import create_auditor_file

    made = create_auditor_file(path)
    note(f"made {path} (mode 0400); with it: agentguard --store FOLDER --key auditor:{path} spans")
    note("whoever keeps the store runs: agentguard store key add --auditor")
    click.echo(made.public_key().to_text())
    return FINE


def _rotate_slot(place: Place, keystore: Keystore, slot_id: int, spec: str | None) -> None:
    """Give a slot a new key."""
    from agentguard.seal import FileKey, WrappingKey

    current = place.provider
    if spec is None and slot_id != keystore.slot_id:
        raise click.UsageError("--slot: expected --to with it, the new key of that slot")
    if spec is None and isinstance(current, FileKey):
        new_id, provider_name = _rotate_file(keystore, current), current.name
    else:
        provider = _new_provider(spec) if spec is not None else _same_again(current)
        new = keystore.rotate_slot(slot_id, provider)
        new_id, provider_name = new.slot_id, new.provider
    details = {"slot": new_id, "provider": provider_name, "replaces": slot_id}
    _record(place, keystore, "key.added", details)
    note(f"slot {slot_id} is replaced by slot {new_id}: `{provider_name}`")
    if spec is not None:
        note(f"now name the new key in the settings: key = {escape.terminal(spec)!r}")
    elif isinstance(current, WrappingKey):
        note("the service wrapped a new key; the settings stay as they are")
    if sum(not slot.is_auditor for slot in keystore.slots) > 1:
        note("other slots stay, and with them the master key; remove them and rotate again to change it too")


def _same_again(current: KeyProvider) -> KeyProvider:
    """
    Return the provider whose next answer is a new key of itself.

    Raises:
        SealError: Its key is made elsewhere.
    """
    from agentguard.seal import PassphraseKey, Pkcs11Key, WrappingKey

    if isinstance(current, PassphraseKey):
        return _new_provider("passphrase")
    if isinstance(current, (WrappingKey, Pkcs11Key)):
        return current
    raise SealError(
        f"key: got a slot of `{current.name}`, whose key is made elsewhere, expected --to SPEC"
    ).hint("name where the new key is: agentguard store key rotate --to file:PATH")


def _rotate_file(keystore: Keystore, current: FileKey) -> int:
    """
    Put a new key into the same file; whatever happens in between, the file there opens the store.

    Returns:
        The id of the new slot.

    Raises:
        KeyUnavailableError: The file is a link, or cannot be replaced.
    """
    from agentguard.seal import FileKey, create_key_file, open_keystore, sync_folder

    path = current.path
    if path.is_symlink():
        raise KeyUnavailableError(f"key file {path}: got a link, expected a file that can be replaced").hint(
            "mount the new key beside it, and name it with --to file:PATH"
        )
    following = FileKey(path.with_name(f"{path.name}.next"))
    old_id, new_id = keystore.slot_id, None
    try:
        # An earlier rotation may have been cut off: then its key has a slot already.
        new_id = open_keystore(keystore.folder, following).slot_id
    except KeyUnavailableError:
        following.path.unlink(missing_ok=True)
        create_key_file(following.path)
    if new_id is None:
        new_id = keystore.add_slot(following).slot_id
    following.path.replace(path)
    sync_folder(path.parent)
    keystore.remove_slot(old_id)
    # Once more, now that it is alone: where no other provider has a slot the master is new too.
    slot = keystore.rotate_slot(new_id, current)
    keystore.slot_id = slot.slot_id
    return slot.slot_id


def _new_provider(spec: str) -> KeyProvider:
    """Make the provider of a new slot, and its key where it is missing."""
    from agentguard.seal import create_key, provider_from

    provider = provider_from(spec, environ=os.environ, passphrase_source=_new_passphrase)
    if create_key(provider):
        note(f"made a new key: {escape.terminal(spec)}; keep a copy")
    return provider


def _new_passphrase() -> str:
    """Take the new passphrase from the environment, or ask for it twice."""
    given = os.environ.get(_NEW_PASSPHRASE, "")
    if given or not sys.stdin.isatty():
        return given
    asked: str = click.prompt("new passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return asked


@contextlib.contextmanager
def _reported(place: Place) -> Iterator[None]:
    """Turn errors of the disk into errors of ours."""
    try:
        yield
    except OSError as error:
        raise SealError(f"{place.config.store}: cannot be written: {error.strerror or error}") from error


def _record(place: Place, keystore: Keystore, kind: str, details: Mapping[str, object]) -> None:
    """
    Chain a change of keys into the decision log, with the keys as they are now.

    Raises:
        AuditError: It was done, but could not be recorded.
    """
    record_event(place, kind, {**details, "by": user_name()}, keystore=keystore)
