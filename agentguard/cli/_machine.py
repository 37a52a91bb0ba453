"""What commands that change the machine's state share: opening it, and recording what they did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import Place, note
from agentguard.runtime import SystemClock, user_name

if TYPE_CHECKING:
    from agentguard.seal import Keystore
    from agentguard.state import MachineState

PROGRAM = "agentguard command line"


@contextmanager
def open_state(place: Place, *, accept_reset: bool = False) -> Iterator[MachineState]:
    """
    Open the state of the store's machine.

    Args:
        place:
            Which store.
        accept_reset:
            Begin anew where the state was removed or replaced.

    Yields:
        The state.

    Raises:
        StoreError: It was removed, replaced, altered, or cannot be opened.
    """
    # Imported late: help and errors of other commands need no cryptography.
    from agentguard.state import MachineState

    state = MachineState.open(
        place.config.store,
        place.open_keystore(),
        SystemClock(),
        on_internal_error=_raise,
        accept_reset=accept_reset,
    )
    try:
        yield state
    finally:
        state.close()


def record_event(
    place: Place, kind: str, details: Mapping[str, object], *, keystore: Keystore | None = None
) -> None:
    """
    Chain what a command did into the decision log, after the key that it was done with.

    Args:
        place:
            Which store.
        kind:
            Dotted name of the event.
        details:
            Plain data without secrets.
        keystore:
            The store's keys, where the command has opened them; else they are opened.

    Raises:
        AuditError: It was done, but could not be recorded.
        KeyUnavailableError: The store was opened to be read only.
    """
    # Imported late, as above.
    from agentguard.runtime import chain_by_hand

    chain_by_hand(
        place.config,
        keystore or place.open_keystore(),
        kind,
        details,
        command=None if place.has_told_of_key else command_name(),
        opening={"program": PROGRAM},
        on_internal_error=lambda where, error: note(f"{where}: {type(error).__name__}"),
    )
    place.has_told_of_key = True


def try_to_record(place: Place, kind: str, details: Mapping[str, object]) -> None:
    """
    Chain what somebody looked at, where the key that they have can write; an auditor's cannot, and says so.

    Args:
        place:
            Which store.
        kind:
            Dotted name of the event.
        details:
            Plain data without content.

    Raises:
        AuditError: It could not be recorded; then nothing is shown.
    """
    keystore = place.open_keystore()
    if keystore.is_read_only:
        note("this key reads only: that you looked is not in the decision log")
        return
    record_event(place, kind, {**details, "by": user_name()}, keystore=keystore)


def tell_of_content(place: Place, asked: str) -> None:
    """
    Chain that content is about to be shown.

    Args:
        place:
            Which store.
        asked:
            What was asked for, without content.

    Raises:
        AuditError: It could not be recorded; then nothing is shown.
    """
    # Imported late, as above.
    from agentguard.runtime import FILTER_CHARS_MAX

    try_to_record(place, "content.read", {"command": command_name(), "filter": asked[:FILTER_CHARS_MAX]})


def command_name() -> str:
    """Name the command that runs, without its arguments."""
    context = click.get_current_context(silent=True)
    return context.command_path.partition(" ")[2] if context is not None else ""


def _raise(where: str, error: BaseException) -> None:
    """Hide nothing in a command: the person who typed it is told."""
    error.add_note(f"while doing {where}")
    raise error
