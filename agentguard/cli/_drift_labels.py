"""`agentguard drift labels`: what people found out about the answers, joined to the calls."""

from __future__ import annotations

import click

from agentguard import escape
from agentguard.cli._common import FINE, Place, fail, format_option, note
from agentguard.cli._drift_text import emit_one, labels_of, plain_number
from agentguard.errors import DriftError, StoreError
from agentguard.runtime import SystemClock

_FLUSH_S_MAX = 30.0
_PENDING_MAX = 1_000


@click.command()
@click.argument("file", required=False, type=click.Path())
@click.option("--call-id", default="call_id", show_default=True, help="Column of the ids of calls.")
@click.option(
    "--labels",
    "columns",
    default="predicted_label,true_label",
    show_default=True,
    help="Columns of predicted and true labels; the first may be missing where the agent recorded its answers.",
)
@click.option("--positive", help="The class that precision and recall speak of.")
@format_option()
@click.pass_obj
def labels(
    place: Place, file: str | None, call_id: str, columns: str, positive: str | None, output_format: str
) -> int:
    r"""
    Join labels to calls, and say how good the answers were.

    FILE is a Parquet or CSV table with one row a call. Its labels are kept in the store, and the watch takes them in
    at its next pass: accuracy that fell is an alarm. Without FILE, what is known is said.

    \b
    agentguard drift labels judged.csv
    agentguard drift labels                       accuracy, precision, recall, F1 and what is still to come

    Exit status: 2 where the file cannot be used, else 0.
    """
    from agentguard.drift import label_state, read_label_file

    store = place.open_store()
    pair = labels_of(columns)
    try:
        if file is not None:
            times = {span.call_id: span.start_unix_ns for span in store.query().spans()}
            read = read_label_file(
                file,
                now_unix_ns=SystemClock().unix_ns(),
                call_times=times,
                earlier=store.query().outcomes(),
                call_id=call_id,
                labels=("predicted_label", "true_label") if pair == "auto" else pair,
            )
            for sentence in read.notes:
                note(escape.terminal(sentence))
            problems: list[BaseException] = []
            writer = store.writer(resource={}, on_internal_error=lambda _, error: problems.append(error))
            taken = 0
            for outcome in read.outcomes:
                taken += writer.append_outcome(outcome)
                if writer.pending >= _PENDING_MAX:
                    writer.flush(_FLUSH_S_MAX)
            writer.close(_FLUSH_S_MAX)
            if taken < len(read.outcomes) or writer.dropped or problems:
                why = f": {problems[0]}" if problems else ""
                fail(StoreError(f"labels: {len(read.outcomes):,} to write, not all of them were stored{why}"))
            note(f"labels of {read.n_calls:,} calls joined")
        state = label_state(store.query().outcomes(), positive=positive)
    except DriftError as error:
        fail(error)
    if output_format != "text":
        emit_one(
            {
                **state.quality.to_dict(),
                "n_predicted": state.n_predicted,
                "n_matured": state.n_matured,
                "matured_share": state.matured_share,
                "delay_s": plain_number(state.delay_s),
            },
            output_format,
        )
        return FINE
    if not state.n_predicted:
        note(
            "no call has a predicted label: agentguard.record_outcome(predicted_label=…), or a file with both"
        )
        return FINE
    click.echo(
        f"{state.n_matured:,} of {state.n_predicted:,} predictions have a label ({state.matured_share:.0%} matured)"
        + (f", half of them within {state.delay_s / 3600:.1f} h" if state.n_matured else "")
    )
    for metric in state.quality.metrics:
        name = metric.name if metric.name == "accuracy" else f"{metric.name} ({state.quality.average})"
        click.echo(f"  {name}: {metric}")
    return FINE
