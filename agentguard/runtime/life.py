"""Setting agentguard up for this process, and taking it down."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentguard.errors import ConfigurationError
from agentguard.runtime.active import ACTIVE

if TYPE_CHECKING:
    # Only the types: `import agentguard` reads no file and needs no keys.
    from agentguard.runtime.core import Runtime
    from agentguard.values import FlushResult


def init(
    *,
    service: str | None = None,
    environment: str | None = None,
    store: str | os.PathLike[str] | None = None,
    policies: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    key: str | None = None,
    capture: str | None = None,
    otel: str | None = None,
    export: str | None = None,
    **settings: object,
) -> Runtime | None:
    """
    Set agentguard up for this process.

    Without arguments it reads `AGENTGUARD_*`, then `agentguard.toml` or
    `[tool.agentguard]`, honours `OTEL_*`, and works with none of them. A second
    call with the same settings gives the same runtime.

    Args:
        service:
            Name of the service.
        environment:
            Deployment environment, such as prod.
        store:
            Folder of the encrypted store.
        policies:
            Policy files and folders; they add to those configured elsewhere.
        key:
            `file:PATH`, `passphrase` and others; docs/reference/configuration.md has all.
        capture:
            none, metadata, redacted or full.
        otel:
            auto, isolated, global or off.
        export:
            none, otlp, or the URL of an OTLP endpoint.
        settings:
            Any other setting of `docs/reference/configuration.md`, by name.

    Returns:
        The runtime, a context manager; None where `enabled` is false.

    Raises:
        ConfigurationError: Settings are unusable, all problems at once; or the
            process is set up already with other settings.
        PolicyDocumentError: A policy document does not load.
        KeyUnavailableError: The key cannot be had, or is not the store's.
        StoreError: The store cannot be opened.
    """
    # Imported here, as the runtime is below: `import agentguard` stays light.
    from agentguard.runtime.config import load_config

    config = load_config(
        {
            "service": service,
            "environment": environment,
            "store": store,
            "policies": policies,
            "key": key,
            "capture": capture,
            "otel": otel,
            "export": export,
            **settings,
        }
    )
    with ACTIVE.lock:
        runtime = ACTIVE.runtime
        if runtime is not None and not runtime.is_closed:
            if runtime.config != config:
                raise ConfigurationError("init(): this process is set up already, with other settings").hint(
                    "call agentguard.shutdown() first, or give all settings in the first init()"
                )
            return runtime
        if not config.enabled:
            ACTIVE.runtime = None
            ACTIVE.is_off = True
            return None
        from agentguard.runtime.core import Runtime

        ACTIVE.runtime = runtime = Runtime(config)
        atexit.register(runtime.shutdown)
        return runtime


ACTIVE.start = init


def shutdown(timeout_s: float | None = None) -> FlushResult:
    """
    Stop the threads, bring everything to disk, close the store.

    Policies stay in force after it.

    Args:
        timeout_s:
            Longest wait in seconds; the setting `flush_timeout_s` by default.

    Returns:
        What was achieved; all zero where nothing was set up.
    """
    with ACTIVE.lock:
        runtime = ACTIVE.runtime
        if runtime is None:
            return _nothing()
        result = runtime.shutdown(timeout_s)
        atexit.unregister(runtime.shutdown)
        if runtime.engine is None:
            ACTIVE.runtime = None
            ACTIVE.is_off = False
        return result


def flush(timeout_s: float = 2.0) -> FlushResult:
    """
    Bring spans and decisions to disk.

    Args:
        timeout_s:
            Longest wait, in seconds.

    Returns:
        What was achieved; not whether a backend has received anything.
    """
    runtime = ACTIVE.runtime
    if runtime is None:
        return _nothing()
    return runtime.flush(timeout_s)


def _nothing() -> FlushResult:
    """Say that nothing was set up, so nothing is left to do."""
    from agentguard.values import FlushResult

    return FlushResult(is_complete=True, stored=0, dropped=0, pending=0)
