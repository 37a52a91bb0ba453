"""`agentguard decisions prove, verify-proof, anchor, tiles`: the log, for people without its keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import FINE, Place, emit_document, fail, note
from agentguard.cli._decision_text import document_of
from agentguard.cli._machine import record_event
from agentguard.cli._times import moment
from agentguard.errors import AuditError
from agentguard.runtime import SystemClock

if TYPE_CHECKING:
    from agentguard.audit import NoteKey, VerifyReport
    from agentguard.seal import Keystore

_FILE_BYTES_MAX = 1 << 28
_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("decision_id")
@click.option(
    "--out", type=_FILE, help="File to write, by custom ending in .tlog-proof; standard output without it."
)
@click.option("--checkpoint", type=_FILE, help="Prove it for the tree of this checkpoint, kept elsewhere.")
@click.option("--outcome", "is_outcome", is_flag=True, help="The id is that of an outcome record.")
@click.pass_obj
def prove(place: Place, decision_id: str, out: Path | None, checkpoint: Path | None, is_outcome: bool) -> int:
    """
    Write a proof that one decision stands in the log.

    The proof discloses this decision and nothing of any other. Whoever has the public
    key checks it with `agentguard decisions verify-proof`, offline and without the store.
    """
    from agentguard.audit import prove as make_proof
    from agentguard.audit import write_proof

    keystore = place.open_keystore()
    _adopt(place, keystore)
    proof = make_proof(
        place.config.store,
        keystore,
        decision_id,
        checkpoint=_read(checkpoint)[-1] if checkpoint is not None else None,
        is_outcome=is_outcome,
    )
    text = write_proof(proof)
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, text.encode())
        note(f"wrote the proof of record {proof.leaf_index} to {escape.terminal(str(out))}")
    return FINE


def _adopt(place: Place, keystore: Keystore) -> None:
    """State what crashed writers left, so that it can be proven; who cannot sign proves what is stated."""
    from agentguard.audit import adopt_abandoned
    from agentguard.runtime import safeguards_of

    if keystore.is_read_only:
        return
    adopted = adopt_abandoned(
        place.config.store, keystore, SystemClock(), safeguards=safeguards_of(place.config),
        on_failure=lambda error: note(escape.terminal(f"not adopted: {error}")),
    )  # fmt: skip
    for one in adopted:
        record_event(place, "log.adopted", one._asdict(), keystore=keystore)
        note(
            f"journal {one.journal}: its writer died; {one.records - one.own_records} records are adopted and stated"
        )


@click.command("verify-proof")
@click.argument("file", type=_FILE)
@click.option("--key", "key_text", required=True, help="The log's verifier key, or a file with it.")
@click.option(
    "--checkpoint", type=_FILE, help="A checkpoint that was kept elsewhere: the proof must be of its tree."
)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def verify_proof(file: Path, key_text: str, checkpoint: Path | None, output_format: str) -> int:
    """
    Check a proof with the public key alone: no store, no other key, no network.

    Exit status: 0 where the proof shows the decision, else 2 and the step that failed.
    """
    from agentguard.audit import NoteKey, StoredDecision, check_against, check_proof, read_proof

    key = _key(key_text, NoteKey)
    proven = check_proof(read_proof(_read_text(file)), key)
    if checkpoint is not None:
        check_against(proven, _read(checkpoint)[-1], key)
    entry, stated = proven.entry, proven.checkpoint
    record = entry.record if isinstance(entry, StoredDecision) else None
    if output_format == "json":
        emit_document(
            {
                "proven": True,
                "journal": entry.journal,
                "index": entry.index,
                "size": stated.size,
                "checkpoint_time_unix_ns": stated.time_unix_ns,
                "state": stated.state,
                "decision_id": record.decision_id if record else None,
                "time_unix_ns": record.time_unix_ns if record else None,
                "effect": record.decision.effect.value if record else None,
                "rule_id": record.decision.rule_id if record else None,
                "reason": record.decision.reason if record else None,
                "tool": record.tool if record else None,
                "agent": record.agent if record else None,
                "decision": document_of(entry, entry.record.outcome)
                if isinstance(entry, StoredDecision)
                else None,
            }
        )
        return FINE
    what = (
        f"decision {record.decision_id}: {record.decision.effect.value} "
        f"{record.decision.rule_id or '(default)'}  {record.decision.reason}"
        if record
        else f"a record of kind {getattr(entry, 'kind', '')}"
    )
    click.echo(f"{click.style('proven', fg='green', bold=True)}  {escape.terminal(what)}")
    click.echo(
        f"        record {entry.index} of the {stated.size} of journal {entry.journal}, signed by {key.name}"
    )
    decided = f"decided at {moment(record.time_unix_ns)}, " if record else ""
    if record and record.ended_unix_ns:
        decided += f"the call ended at {moment(record.ended_unix_ns)} ({record.outcome}), "
    click.echo(
        f"        {decided}stated at {moment(stated.time_unix_ns)} UTC, by the clocks of their writers"
    )
    if stated.state == "adopted" and entry.index >= stated.numbers[0]:
        click.echo(
            "        its writer died before it stated this record; a later process found it whole at "
            f"{moment(stated.numbers[1])}"
        )
    return FINE


@click.command()
@click.option(
    "--to",
    "targets",
    multiple=True,
    help="file:PATH, https://…, or rfc3161:https://… ; may be given several times.",
)
@click.option("--roots", type=_FILE, help="PEM certificates of the time-stamping authority.")
@click.option("--receipts", type=_FOLDER, help="Folder for time stamps, beside those that the store keeps.")
@click.option("--post-quantum", is_flag=True, help="Sign with ML-DSA-44 too.")
@click.pass_obj
def anchor(
    place: Place, targets: tuple[str, ...], roots: Path | None, receipts: Path | None, post_quantum: bool
) -> int:
    """
    Give a checkpoint of all journals to somebody else to keep.

    \b
    agentguard decisions anchor --to file:/mnt/worm/agentguard.anchors
    agentguard decisions verify --anchor /mnt/worm/agentguard.anchors

    Without `--to` it goes where the setting `decisions_anchors` says; a running process does that by itself.
    Without any anchor, a store that is set back whole to an earlier state does not show it.
    """  # noqa: D301 - \b is for click: it keeps the lines
    from agentguard.audit import Receipts, make_anchor, sink_for
    from agentguard.runtime import safeguards_of

    config, clock = place.config, SystemClock()
    if roots is None and config.decisions_anchor_roots:
        roots = Path(config.decisions_anchor_roots)
    # `otlp` is for a running process: it has the exporter.
    chosen = targets or tuple(target for target in config.decisions_anchors if target != "otlp")
    if not chosen:
        fail(AuditError("no place for the checkpoint").hint("`--to file:PATH`, or `decisions_anchors`"))
    # All targets are looked at before anything is signed.
    sinks = [sink_for(target, roots=roots, receipts=receipts) for target in chosen]
    safeguards = safeguards_of(config)
    made = make_anchor(
        config.store,
        place.open_keystore(),
        clock,
        safeguards=safeguards._replace(post_quantum=post_quantum or safeguards.post_quantum),
    )
    failed: AuditError | None = None
    for sink in sinks:
        try:
            Receipts(config.store).keep(made, sink.name, sink.keep(made), clock.unix_ns())
        except AuditError as error:
            failed = error
            note(escape.terminal(str(error)))
        else:
            record_event(place, "log.anchored", {"to": sink.name, "seq": made.checkpoint.sequence})
            note(f"entry {made.checkpoint.sequence} is kept at {escape.terminal(sink.name)}")
    if failed is not None:
        fail(failed)
    return FINE


@click.command()
@click.argument("folder", type=_FOLDER)
@click.pass_obj
def tiles(place: Place, folder: Path) -> int:
    """
    Write every journal as a C2SP tiled log into FOLDER: hashes and checkpoints, no content.

    Anyone may serve and monitor them; with them proofs can be checked and made without the store.
    """
    from agentguard.audit import export_tiles

    count = 0
    for name, data in export_tiles(place.config.store, place.open_keystore()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        count += 1
    note(f"wrote {count} files to {escape.terminal(str(folder))}")
    return FINE


def verify_place(place: Place, anchors: tuple[Path, ...] = (), roots: Path | None = None) -> VerifyReport:
    """
    Verify the log of a store, with the anchors and certificates of the settings beside those that are given.

    Raises:
        AuditError: A file that was given cannot be read, or an anchor is not of this store.
    """
    from agentguard.audit import verify

    config = place.config
    notes = [anchor for path in anchors for anchor in _read(path)]
    for target in config.decisions_anchors:
        path = Path(target.removeprefix("file:"))
        if target.startswith("file:") and path not in anchors and path.exists():
            notes += _read(path)
    if roots is None and config.decisions_anchor_roots:
        roots = Path(config.decisions_anchor_roots)
    return verify(config.store, place.open_keystore(), anchors=notes, roots=roots)


def _key(text: str, kind: type[NoteKey]) -> NoteKey:
    """Read a verifier key, given as such or as a file with it."""
    path = Path(text)
    return kind.parse(_read_text(path) if "+" not in text and path.is_file() else text)


def _read(path: Path) -> list[bytes]:
    from agentguard.audit import read_anchors

    return read_anchors(path)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        fail(AuditError(f"{path}: cannot be read ({error.strerror})"))
    if len(data) > _FILE_BYTES_MAX:
        fail(AuditError(f"{path}: more than {_FILE_BYTES_MAX} bytes, expected less"))
    return data.decode("utf-8", "replace")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        fail(AuditError(f"{path}: cannot be written ({error.strerror})"))
