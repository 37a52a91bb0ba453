"""`agentguard store erase`: make what was recorded of a person or a conversation unreadable, for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._common import (
    FINDINGS,
    FINE,
    Place,
    emit,
    emit_document,
    format_option,
    note,
)
from agentguard.cli._machine import open_state, record_event
from agentguard.errors import StoreError
from agentguard.runtime import user_name

if TYPE_CHECKING:
    from agentguard.store import Erasure, Subject

_REASON_CHARS_MAX = 500


@click.command()
@click.option("--subject", metavar="ID", help="A user: what was recorded with this `user.id` or principal.")
@click.option("--conversation", metavar="ID", help="A conversation: what was recorded with this id.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--reason", default="", help="Why; stands in the decision log for good, so it must name nobody."
)
@format_option()
@click.pass_obj
def erase(
    place: Place, subject: str | None, conversation: str | None, yes: bool, reason: str, output_format: str
) -> int:
    """
    Make recorded content of a person or a conversation unreadable, for good.

    Its keys are destroyed: what is sealed with them cannot be read any more, here or in a backup. Names,
    times, tokens and decisions stay, and `decisions verify` still holds. Programs may go on meanwhile; what they
    record from then on gets a new key.

    Exit status 1: nothing is sealed for it; 2: a legal hold keeps it.

    \b
    agentguard store erase --subject user-4711 --reason "request of 12 March"
    agentguard store erase --conversation 9f2c --yes
    """  # noqa: D301 - \b is for click: it keeps the lines
    # Imported late: help and errors of other commands need no cryptography.
    from agentguard.store import CONVERSATION, USER, Subject

    if not subject and not conversation:
        raise click.UsageError("expected --subject or --conversation, or both")
    subjects = [Subject(USER, subject)] if subject else []
    subjects += [Subject(CONVERSATION, conversation)] if conversation else []
    _check_reason(reason, subjects)
    store = place.open_store()
    found = store.erasure(*subjects)
    waiting = _requests(place, subject)
    named = " and ".join(f"{one.kind} `{escape.terminal(one.text)}`" for one in subjects)
    if not found.keys and not waiting:
        store.erase(*subjects, record=_never)  # Finishes what a crash may have cut off.
        note(f"{named}: nothing is sealed for it; there is nothing to erase")
        _report(found, 0, output_format)
        return FINDINGS
    note(f"{named}: the content of {found.spans} spans, sealed with {found.keys} keys, becomes unreadable")
    if waiting:
        note(f"{waiting} requests for approval on behalf of it are removed")
    if not yes and found.hold is None:
        click.confirm("this cannot be undone: erase it?", abort=True, err=True)

    def record(details: Mapping[str, object]) -> None:
        event = {**details, "by": user_name(), **({"reason": reason} if reason else {})}
        record_event(place, "store.erased", event)

    erased = store.erase(*subjects, record=record)
    forgotten = _forget(place, subject) if waiting else 0
    note(f"erased; {_REACH}")
    _report(erased, forgotten, output_format)
    return FINE


_REACH = (
    "what was exported, copies of older `wrap-` files, and spans without content that name it are not reached"
)


def _report(erased: Erasure, forgotten: int, output_format: str) -> None:
    """Print what was erased, where somebody reads it with a program."""
    document = {
        "keys": erased.keys,
        "spans": erased.spans,
        "approvals": forgotten,
        "unreadable_places": sum(erased.damage.counts.values()),
    }
    if output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    elif output_format == "json":
        emit_document(document)


def _check_reason(reason: str, subjects: list[Subject]) -> None:
    """
    See that the reason does not put back into the log what is erased.

    Raises:
        click.BadParameter: It names the subject, or is long.
    """
    if len(reason) > _REASON_CHARS_MAX:
        raise click.BadParameter(
            f"got {len(reason)} characters, expected at most {_REASON_CHARS_MAX}", param_hint="--reason"
        )
    if any(one.text.casefold() in reason.casefold() for one in subjects):
        raise click.BadParameter(
            "got the id that is to be erased, expected a reason without it: the log is kept",
            param_hint="--reason",
        )


def _requests(place: Place, principal: str | None) -> int:
    """Count the requests for approval on behalf of a user; none where there is no state."""
    if not principal:
        return 0
    try:
        with open_state(place) as state:
            return sum(request.requester == principal for request in state.approvals.list())
    except StoreError as error:
        note(f"requests for approval are not looked at: {escape.terminal(str(error))}")
        return 0


def _forget(place: Place, principal: str | None) -> int:
    """Remove them."""
    with open_state(place) as state:
        return state.approvals.forget(principal or "")


def _never(details: Mapping[str, object]) -> None:
    """Nothing is erased, so that nothing is to be recorded."""
    raise StoreError(f"erase: got {details.get('keys')} keys, expected none")
