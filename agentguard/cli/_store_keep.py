"""The command that looks after a store no process looks after: `store keep`."""

from __future__ import annotations

import click

from agentguard.cli._common import FINDINGS, FINE, Place, emit_result, format_option, note
from agentguard.cli._machine import record_event
from agentguard.runtime import user_name

_DAY_S = 86_400.0


@click.command()
@format_option()
@click.pass_obj
def keep(place: Place, output_format: str) -> int:
    """
    Remove what is too old or too much, seal what dead processes left, and pack small segments.

    A process that runs for more than a moment does this every hour. Where all are short, run this from
    time to time. Exit status 1: the clock does not fit what was recorded, so that old spans stay.

    \b
    agentguard store keep
    0 3 * * *  agentguard store keep --format jsonl        (a line for cron)
    """  # noqa: D301 - \b is for click: it keeps the lines
    # Imported late: help of other commands needs no cryptography.
    from agentguard.export import decode_cursor
    from agentguard.store import Housekeeper

    config, store = place.config, place.open_store()
    keeper = Housekeeper(
        store,
        age_s_max=config.retention_days * _DAY_S,
        size_bytes_max=config.store_bytes_max or None,
        decode_cursor=decode_cursor,
        interval_s=0.0,
    )
    removed = keeper.run_once()
    if removed is None:
        note("another process is at it")
        return FINE
    if removed.segments:
        record_event(place, "store.retention", {**removed._asdict(), "by": user_name()})
    if keeper.trouble is not None:
        raise keeper.trouble
    packed = keeper.packed
    document = {
        "removed": removed._asdict(),
        "sealed": keeper.sealed,
        "packed": None if packed is None else packed._asdict(),
        "files": sum(1 for _ in store.segments.glob("*.ag[sp]")),
    }
    files = packed.files if packed is not None else 0
    emit_result(
        document,
        output_format,
        f"removed {removed.segments} segments with {removed.spans} spans, sealed {keeper.sealed}, "
        f"packed {files}; {document['files']} files",
    )
    if removed.held_segments:
        note(f"{removed.held_segments} segments are kept by a legal hold")
    if removed.unexported_spans:
        note(f"{removed.unexported_spans} of these spans were not exported")
    if removed.doubted_segments:
        note(
            f"{removed.doubted_segments} segments are old by the clock, which does not fit what was recorded: they stay"
        )
        return FINDINGS
    return FINE
