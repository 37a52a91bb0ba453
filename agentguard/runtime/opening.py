"""Opening the store and the decision log of a process, and making them where there are none yet."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from agentguard import escape
from agentguard.audit import DecisionJournal, Safeguards
from agentguard.errors import (
    AgentGuardError,
    ConfigurationError,
    KeyUnavailableError,
    PolicyError,
    StoreError,
)
from agentguard.runtime.config import Config
from agentguard.seal import (
    STORE_FILE,
    AuditorKey,
    Keystore,
    create_key_file,
    has_post_quantum,
    provider_from,
)
from agentguard.store import Store
from agentguard.values import Clock, InternalErrorHook

logger = logging.getLogger("agentguard")


def open_store(config: Config, clock: Clock) -> Store:
    """
    Open the configured store; on the very first use make it, and its key file.

    Args:
        config:
            Says where store and key are.
        clock:
            Handed on to the store.

    Returns:
        The store.

    Raises:
        ConfigurationError: The setting names no provider, or one that only reads.
        KeyUnavailableError: The key cannot be had, or is not the store's.
        StoreError: The store cannot be opened or made.
    """
    folder = config.store
    is_new = not (folder / STORE_FILE).exists()
    if is_new and config.key.startswith("file:") and config.sources.get("key") == "default":
        _make_default_key(Path(config.key.removeprefix("file:")))
    provider = provider_from(config.key, environ=os.environ)
    if isinstance(provider, AuditorKey):
        raise ConfigurationError(
            "key: got an auditor's, which only reads, expected one that opens the store for a program that records"
        ).hint("an auditor uses the command line: agentguard --store FOLDER --key auditor:FILE spans")
    if is_new:
        try:
            store = Store.create(folder, provider=provider, clock=clock)
        except StoreError:
            # Another process of the same application may have been first.
            if not (folder / STORE_FILE).exists():
                raise
        else:
            logger.info("agentguard: made an encrypted store in %s", folder)
            return store
    return Store.open(folder, provider=provider, clock=clock)


def safeguards_of(config: Config) -> Safeguards:
    """Say what the decision log does beyond writing records, as it is configured."""
    return Safeguards(
        post_quantum=config.decisions_post_quantum,
        mark=Path(config.decisions_mark) if config.decisions_mark else None,
        reserve_bytes=config.decisions_reserve_bytes,
    )


def open_journal(
    config: Config,
    keystore: Keystore,
    clock: Clock,
    *,
    on_internal_error: InternalErrorHook,
    details: Mapping[str, object] | None = None,
) -> DecisionJournal:
    """
    Open the decision log of the configured store for writing.

    Args:
        config:
            Says where it is, and with what safeguards.
        keystore:
            The store's keys.
        clock:
            Handed on.
        on_internal_error:
            Told of failures that no caller sees.
        details:
            More for the opening record, which names the key that the store was opened with.

    Raises:
        StoreError: A folder cannot be made, or others may write to it.
        KeyUnavailableError: The store was opened to be read only.
        ConfigurationError: ML-DSA-44 is asked for, and the installed `cryptography` has none.
    """
    if config.decisions_post_quantum and not has_post_quantum():
        raise ConfigurationError(
            "decisions_post_quantum: got true, and the installed `cryptography` has no ML-DSA-44"
        ).hint("pip install -U cryptography")
    return DecisionJournal.open(
        config.store,
        keystore=keystore,
        clock=clock,
        on_internal_error=on_internal_error,
        details={**(details or {}), **keystore.opened_with},
        safeguards=safeguards_of(config),
    )


@contextlib.contextmanager
def refusals_chained(config: Config, clock: Clock) -> Iterator[None]:
    """
    Say in the decision log that policies were refused, where there is a store already.

    A process that does not come up for them is otherwise seen nowhere but in its own output.
    The refusal itself goes on to the caller; what goes wrong with its record is only logged.
    """
    try:
        yield
    except (ConfigurationError, PolicyError) as error:
        _chain_refusal(config, clock, error)
        raise


def _chain_refusal(config: Config, clock: Clock, error: Exception) -> None:
    if not (config.store / STORE_FILE).exists():
        return
    try:
        keystore = open_store(config, clock).keystore
        journal = open_journal(config, keystore, clock, on_internal_error=_say)
        journal.append_event("policies.refused", _refusal(error), is_durable=True)
        journal.close(config.flush_timeout_s)
    except (AgentGuardError, OSError) as problem:
        _say("policies.refused", problem)


def _say(where: str, error: BaseException) -> None:
    """Log what could not be written, before there is anything that counts."""
    logger.warning("agentguard: %s could not be put on record: %s", where, type(error).__name__)


def _refusal(error: Exception) -> dict[str, object]:
    """Say of what kind a refusal is, and its first line; documents are not quoted."""
    return {"error": type(error).__name__, "problem": escape.log_line(str(error).partition("\n")[0])[:500]}


def _make_default_key(path: Path) -> None:
    """Make the key file of a user who has configured nothing."""
    if path.exists():
        return
    try:
        create_key_file(path)
    except KeyUnavailableError:
        if path.exists():
            return  # Another process was first.
        raise
    logger.warning(
        "agentguard: made a key in %s; whoever has this file can read the store, and without it nobody can",
        path,
    )
