"""Reading the store from Python; and chaining what a person did with it, for commands too."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from agentguard.errors import AuditError
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import Config, load_config
from agentguard.runtime.opening import open_journal
from agentguard.runtime.person import user_name
from agentguard.seal import Keystore, provider_from
from agentguard.store import Store
from agentguard.values import InternalErrorHook
from agentguard.version import __version__

logger = logging.getLogger("agentguard")

FILTER_CHARS_MAX = 500
"""Of what was asked for; the rest is cut off."""
_CLOSE_S_MAX = 5.0
_COMMAND = "agentguard.read_store"


def read_store(
    *, store: str | os.PathLike[str] | None = None, key: str | None = None, **settings: object
) -> Store:
    """
    Open a store to read what was recorded.

    Before the first span with content comes out of a query or an SQL query, it is on record in
    the decision log who reads it (`content.read`); where that cannot be written, nothing
    comes out. A key that only reads cannot write it: then it is logged once that there is no record.
    Spans without content, numbers and features are read without a record.

    Args:
        store:
            Its folder; by default the configured one.
        key:
            What opens it, as for `init()`; an auditor's key will do.
        settings:
            Any other setting, by name.

    Returns:
        The store: `query()` for spans, `sql()` for tables.

    Raises:
        ConfigurationError: A setting is unusable.
        StoreError: There is no store, or its folder is not safe.
        KeyUnavailableError: The key cannot be had, or is not the store's.
        TamperedError: The STORE file is damaged or altered.
    """
    config = load_config({"store": store, "key": key, **settings})
    opened = Store.open(
        config.store, provider=provider_from(config.key, environ=os.environ), clock=SystemClock()
    )
    opened.on_content_read = _ContentReads(config, opened.keystore)
    return opened


class _ContentReads:
    """Chains that a Python program reads content."""

    def __init__(self, config: Config, keystore: Keystore) -> None:
        self._config, self._keystore = config, keystore
        self._has_told = False
        """Of the key, or that it only reads."""

    def __call__(self, asked: str) -> None:
        if self._keystore.is_read_only:
            if not self._has_told:
                self._has_told = True
                logger.warning(
                    "agentguard: this key reads only: that content is read is not in the decision log"
                )
            return
        chain_by_hand(
            self._config,
            self._keystore,
            "content.read",
            {"command": _COMMAND, "by": user_name(), "filter": asked[:FILTER_CHARS_MAX]},
            command=None if self._has_told else _COMMAND,
            opening={"service": self._config.service, "version": __version__},
            on_internal_error=_say,
        )
        self._has_told = True


def chain_by_hand(
    config: Config,
    keystore: Keystore,
    kind: str,
    details: Mapping[str, object],
    *,
    command: str | None,
    opening: Mapping[str, object],
    on_internal_error: InternalErrorHook,
) -> None:
    """
    Chain what a person did into the decision log, in a journal of its own that ends with it.

    Args:
        config:
            Says where the log is.
        keystore:
            The store's keys.
        kind:
            Dotted name of the event.
        details:
            Plain data without secrets.
        command:
            With what the store was opened, where the log does not know its key yet.
        opening:
            What the opening record of the journal says.
        on_internal_error:
            Told of failures that no caller sees.

    Raises:
        AuditError: It could not be recorded, or not be covered by a checkpoint.
        KeyUnavailableError: The store was opened to be read only.
        StoreError: The log cannot be written.
    """
    journal = open_journal(
        config, keystore, SystemClock(), on_internal_error=on_internal_error, details=opening
    )
    if command is not None:
        used = {"command": command, "by": user_name(), **keystore.opened_with}
        journal.append_event("key.used", used)
    journal.append_event(kind, details, is_durable=True)
    if not journal.close(_CLOSE_S_MAX):
        raise AuditError("it was done and recorded, but the checkpoint could not be written")


def _say(where: str, error: BaseException) -> None:
    logger.warning("agentguard: %s: %s", where, type(error).__name__)
