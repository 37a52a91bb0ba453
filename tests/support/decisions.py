"""A store's keys, journals on it, and decisions to put into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agentguard.audit import DecisionJournal, JournalLimits
from agentguard.audit.disk import Disk
from agentguard.seal import Keystore, create_key_file, create_keystore
from agentguard.values import Clock, Decision, DecisionRecord, DenialKind, Effect, RecordMode
from tests.support.clock import START_UNIX_NS, FrozenClock

SLOW = JournalLimits(window_s=0.01, checkpoint_interval_s=3600.0, checkpoint_records_max=10**9)
"""No checkpoint but those of opening and closing."""


def make_keystore(folder: Path) -> tuple[Path, Keystore]:
    """Make a private store folder with a key beside it."""
    provider = create_key_file(folder / "key")
    store = folder / "store"
    store.mkdir(mode=0o700)
    return store, create_keystore(store, provider)


def raise_it(where: str, error: BaseException) -> None:
    """An `InternalErrorHook` that hides nothing."""
    raise AssertionError(f"internal error in {where}") from error


def open_journal(
    store: Path,
    keystore: Keystore,
    *,
    clock: Clock | None = None,
    limits: JournalLimits | None = SLOW,
    disk: Disk | None = None,
    on_internal_error: Callable[[str, BaseException], None] = raise_it,
) -> DecisionJournal:
    """Open a journal whose checkpoints come only where the test wants them."""
    return DecisionJournal.open(
        store,
        keystore=keystore,
        clock=clock or FrozenClock(),
        on_internal_error=on_internal_error,
        limits=limits,
        disk=disk,
    )


def decision(
    number: int,
    *,
    effect: Effect = Effect.DENY,
    mode: RecordMode = RecordMode.REQUIRED,
    point: str = "tool.before",
    **fields: object,
) -> DecisionRecord:
    """Make a decision that can be told from others by its number."""
    return DecisionRecord(
        decision_id=f"{number:016x}",
        time_unix_ns=START_UNIX_NS + (number & 0xFFFF),
        point=point,
        bundle="ab" * 32,
        call_id=f"{number:016x}",
        tool="refund",
        agent="support",
        decision=Decision(
            effect=effect,
            rule_id="PAY-1",
            policy="payments",
            kind=DenialKind.FORBIDDEN if effect is Effect.DENY else DenialKind.NONE,
            reason=f"amount {number} > 50",
            values={"args.usd": 51.5, "tool.name": "refund"},
            record=mode,
        ),
        **fields,  # type: ignore[arg-type]
    )


def write_log(store: Path, keystore: Keystore, numbers: range, *, close: bool = True) -> DecisionJournal:
    """Write required decisions, and close the journal unless told otherwise."""
    journal = open_journal(store, keystore)
    for number in numbers:
        journal.append(decision(number))
    if close:
        assert journal.close(5.0)
    return journal
