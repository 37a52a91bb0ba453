"""
The configuration of one process, from all its sources, checked at once.

Reads the environment and at most one configuration file; writes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentguard.errors import ConfigurationError
from agentguard.runtime.settings import BY_NAME, SECRET_VARIABLES, SETTINGS, Setting

FILE_NAME = "agentguard.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """
    All settings of one process, as `settings.py` describes them.

    Made by `load_config`; every field has a value.
    """

    enabled: bool
    service: str
    environment: str
    store: Path
    key: str
    policies: tuple[Path, ...]
    require_signed: tuple[str, ...]
    reload_interval_s: float
    capture: str
    capture_bytes_max: int
    capture_hashes: bool
    prices: str
    """Path, or empty."""
    otel: str
    semconv: str
    export: str
    export_protocol: str
    export_headers: tuple[tuple[str, str], ...] = field(repr=False)
    export_content: str
    export_keep: tuple[str, ...]
    export_slow_s: float
    export_ca_file: str
    export_client_certificate_file: str
    export_client_key_file: str = field(repr=False)
    export_others: tuple[Mapping[str, Any], ...] = field(repr=False)
    drift_interval_s: float
    drift_cpu_share: float
    flush_timeout_s: float
    queue_bytes_max: int
    approval_wait_s: float
    approval_webhook: str
    approval_webhook_key: str
    """Path, or empty."""
    approval_webhook_content: bool
    unpriced_usd_per_million: float
    retention_days: float
    store_bytes_max: int
    decisions_retention_days: float
    decisions_bytes_max: int
    decisions_reserve_bytes: int
    decisions_post_quantum: bool
    decisions_mark: str
    """Path, or empty."""
    decisions_anchors: tuple[str, ...] = field(repr=False)
    """Addresses may hold a token."""
    decisions_anchor_interval_s: float
    decisions_anchor_roots: str
    """Path, or empty."""
    strict: bool
    sources: Mapping[str, str]
    """Where each setting came from: `init()`, a variable, a file, or `default`."""


def load_config(
    given: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Config:
    """
    Read all sources and check them together.

    Args:
        given:
            Arguments of `init()` by name; `None` values count as not given.
        environ:
            Environment; that of the process by default.
        folder:
            Where the search for `agentguard.toml` starts, upwards; the current
            folder by default.

    Returns:
        The configuration. Folders in it need not exist.

    Raises:
        ConfigurationError: One or more settings are unknown or unusable; all
            problems are in it.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    problems: list[str] = []
    from_file, file = _file_settings(folder, problems)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    _check_names(environ, problems)
    given = {name: value for name, value in (given or {}).items() if value is not None}
    problems.extend(
        f"init(): unknown setting `{name}`{_did_you_mean(name, BY_NAME)}"
        for name in given
        if name not in BY_NAME
    )

    for setting in SETTINGS:
        candidates: list[tuple[str, object, Path]] = []
        if setting.name in given:
            candidates.append(("init()", given[setting.name], folder))
        if environ.get(setting.variable) and setting.variable not in SECRET_VARIABLES:
            candidates.append((setting.variable, environ[setting.variable], folder))
        if setting.name in from_file and file is not None:
            candidates.append((str(file), from_file[setting.name], file.parent))
        if setting.otel and environ.get(setting.otel):
            candidates.append((setting.otel, environ[setting.otel], folder))
        read = [
            (source, value)
            for source, raw, base in candidates
            for value in _parse(setting, raw, source, base, problems)
        ]
        if setting.name == "policies":
            # No source takes away what another one enforces.
            added = dict.fromkeys(path for _, paths in read for path in paths)  # type: ignore[attr-defined]
            values["policies"] = tuple(Path(path) for path in added)
            sources["policies"] = ", ".join(source for source, _ in read) or "default"
        elif setting.name == "require_signed" and read:
            # No source lets a key sign that another one does not name.
            kept = [key for key in read[0][1] if all(key in keys for _, keys in read)]  # type: ignore[attr-defined,operator]
            if not kept and any(keys for _, keys in read):
                problems.append(
                    f"require_signed: {', '.join(source for source, _ in read)} have no key in common"
                )
            values["require_signed"] = tuple(kept)
            sources["require_signed"] = ", ".join(source for source, _ in read)
        elif read:
            sources[setting.name], values[setting.name] = read[0]
        else:
            sources[setting.name], values[setting.name] = "default", setting.default

    _fill_defaults(values, environ)
    if not values["enabled"] and values["policies"]:
        problems.append(
            f"{sources['enabled']}: enabled is false while policies are configured "
            f"({sources['policies']}): a setting may tighten policy, never loosen it"
        )
    if problems:
        raise ConfigurationError(*problems)
    return Config(**values, sources=sources)  # type: ignore[arg-type]


def policies_configured(environ: Mapping[str, str], folder: Path) -> bool:
    """
    Say whether any source names policies, without reading them.

    A configuration that cannot be read counts as configured: the caller then
    initialises and gets the error, instead of running ungoverned.
    """
    try:
        return bool(load_config(environ=environ, folder=folder).policies)
    except ConfigurationError:
        return True


def find_file(folder: Path) -> Path | None:
    """
    Find `agentguard.toml`, or a `pyproject.toml` with `[tool.agentguard]`, upwards from a folder.

    Args:
        folder:
            Where to begin.

    Returns:
        The nearest one, or None.
    """
    for place in (folder, *folder.parents):
        own = place / FILE_NAME
        if own.is_file():
            return own
        project = place / "pyproject.toml"
        if project.is_file() and b"[tool.agentguard" in project.read_bytes():
            return project
    return None


def _file_settings(folder: Path, problems: list[str]) -> tuple[Mapping[str, object], Path | None]:
    """Read the one configuration file there is, checking its names."""
    file = None
    try:
        file = find_file(folder)
        if file is None:
            return {}, None
        if file.stat().st_uid not in {os.geteuid(), 0}:
            problems.append(f"{file}: owned by another user, expected the user that runs this program")
            return {}, file
        # Imported here: many programs have no such file, and it stays in memory.
        import tomllib

        table: object = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # Of which no text and no TOML are two.
        problems.append(f"{file or folder}: cannot be read as TOML: {error}")
        return {}, file
    if file.name == "pyproject.toml":
        table = table.get("tool", {}).get("agentguard", {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        problems.append(f"{file}: expected a table of settings")
        return {}, file
    flat: dict[str, object] = {}
    for name, value in _opened(_with_first_export(table, file.parent)):
        if name in BY_NAME:
            flat[name] = value
        else:
            problems.append(f"{file}: unknown setting `{name}`{_did_you_mean(name, BY_NAME)}")
    return flat, file


_FILES = ("ca_file", "client_certificate_file", "client_key_file")


def _with_first_export(table: Mapping[str, object], base: Path) -> Mapping[str, object]:
    """Write `[export]`, or the first of `[[export]]`, as settings; the others stay tables, with whole paths."""
    written = table.get("export")
    exports: list[dict[str, object]] = [
        one for one in (written if isinstance(written, list) else [written]) if isinstance(one, dict)
    ]
    if not exports or (isinstance(written, list) and len(exports) < len(written)):
        return table
    first, *others = exports
    flat = {("export" if name == "to" else f"export_{name}"): value for name, value in first.items()}
    rest = {name: value for name, value in table.items() if name != "export"}
    if others:
        flat["export_others"] = [
            {
                name: _path(value, base) if name in _FILES and isinstance(value, str) else value
                for name, value in one.items()
            }
            for one in others
        ]
    return {**rest, **flat}


def _opened(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Give all settings of a file; `[decisions] mark` is `decisions_mark`."""
    for name, value in table.items():
        if isinstance(value, dict) and name not in BY_NAME and any(n.startswith(f"{name}_") for n in BY_NAME):
            yield from ((f"{name}_{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield name, value


def _check_names(environ: Mapping[str, str], problems: list[str]) -> None:
    """Refuse a misspelt variable: a policy folder that is never read must not pass in silence."""
    known = {setting.variable for setting in SETTINGS} | set(SECRET_VARIABLES)
    problems.extend(
        f"environment: unknown variable `{name}`{_did_you_mean(name, known)}"
        for name in sorted(environ)
        if name.startswith("AGENTGUARD_") and name not in known
    )


def _parse(setting: Setting, raw: object, source: str, base: Path, problems: list[str]) -> list[object]:
    """Read one written value: a list of one, or of none with the problem noted."""
    raw = os.fspath(raw) if isinstance(raw, os.PathLike) else raw
    try:
        value = setting.parse(raw)
    except ValueError as error:
        problems.append(f"{source}: {setting.name} is `{str(raw)[:80]}`, expected {error}")
        return []
    if setting.is_path and value:

        def place(written: str) -> str:
            is_spec = setting.name in {"key", "decisions_anchors"}
            return _key_spec(written, base) if is_spec else _path(written, base)

        value = tuple(map(place, value)) if isinstance(value, tuple) else place(str(value))
    return [value]


def _path(written: str, base: Path) -> str:
    return str(base / Path(written).expanduser())


def _key_spec(spec: str, base: Path) -> str:
    """Make the path after `file:` absolute; other keys and anchors pass as they are."""
    scheme, colon, rest = spec.partition(":")
    return f"file:{_path(rest, base)}" if scheme == "file" and colon else spec


def _fill_defaults(values: dict[str, object], environ: Mapping[str, str]) -> None:
    """Put in the defaults that depend on the machine and the program."""
    home = _home(environ)
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    values["store"] = Path(str(values["store"] or data / "agentguard" / "store"))
    if not values["key"]:
        if environ.get("AGENTGUARD_KEY_FILE"):
            values["key"] = f"file:{Path(environ['AGENTGUARD_KEY_FILE']).expanduser().absolute()}"
        elif environ.get("AGENTGUARD_KEY"):
            values["key"] = "env"
        elif environ.get("AGENTGUARD_PASSPHRASE") or environ.get("AGENTGUARD_PASSPHRASE_FILE"):
            values["key"] = "passphrase"
        else:
            values["key"] = f"file:{settings / 'agentguard' / 'key'}"
    if not values["service"]:
        values["service"] = Path(sys.argv[0]).stem or "python"


def _home(environ: Mapping[str, str]) -> Path:
    """
    Find the user's folder.

    A container may run under a number that has no name and no folder: then it is the
    root, where nothing can be written, and whoever makes a file there says so.
    """
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:
        return Path("/")


def _did_you_mean(name: str, known: object) -> str:
    # Imported here: only a mistake needs it, and it stays in memory.
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)  # type: ignore[call-overload]
    return f", did you mean `{close[0]}`?" if close else ""
