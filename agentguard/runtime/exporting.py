"""Where spans go: the destinations that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentguard.errors import ConfigurationError
from agentguard.runtime.config import Config

if TYPE_CHECKING:
    # Only the type: the exporters are loaded where something is exported.
    from agentguard.export import OtlpConfig


def destinations(config: Config, environ: Mapping[str, str]) -> tuple[OtlpConfig, ...]:
    """
    Check the destinations of the settings.

    Args:
        config:
            The settings.
        environ:
            Environment: `OTEL_EXPORTER_OTLP_*` fill in what the first
            destination, or one that is called `otlp`, does not say.

    Returns:
        All of them, the first one first; none where nothing is exported.

    Raises:
        ConfigurationError: One is unusable, or two are the same.
    """
    from agentguard.export import otlp_config

    found: list[OtlpConfig] = []
    tables: list[Mapping[str, Any]] = []
    if config.export != "none":
        tables.append({
            "to": config.export, "protocol": config.export_protocol, "headers": config.export_headers,
            "content": config.export_content, "keep": config.export_keep, "slow_s": config.export_slow_s,
            "ca_file": config.export_ca_file, "client_certificate_file": config.export_client_certificate_file,
            "client_key_file": config.export_client_key_file,
        })  # fmt: skip
    for number, table in enumerate([*tables, *config.export_others]):
        more = {name: value for name, value in table.items() if name != "to"}
        is_standard = table["to"] == "otlp"
        found.append(
            otlp_config(
                "" if is_standard else table["to"],
                environ=environ if is_standard or not number else None,
                **more,
            )
        )
    if len({one.destination for one in found}) < len(found):
        raise ConfigurationError("export: two destinations have the same endpoint and protocol")
    return tuple(found)
