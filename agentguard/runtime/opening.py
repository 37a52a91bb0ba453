"""Opening the store of a process, and making it where there is none yet."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from agentguard.errors import ConfigurationError, KeyUnavailableError, StoreError
from agentguard.runtime.config import Config
from agentguard.seal import STORE_FILE, AuditorKey, create_key_file, provider_from
from agentguard.store import Store
from agentguard.values import Clock

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
