"""`agentguard init`: key, encrypted store, starter policies and a settings file for one project."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import click

from agentguard.cli._common import FINE, Place, note
from agentguard.errors import ConfigurationError
from agentguard.runtime import SystemClock

SETTINGS_FILE = """\
# Settings of agentguard for this project; docs/reference/configuration.md has all of them.
service = "{service}"
store = ".agentguard/store"
key = "{key}"
policies = ["policies"]
"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--service", help="Name of the service; that of the folder by default.")
@click.option(
    "--key",
    "key_spec",
    help="file:PATH, passphrase (from AGENTGUARD_PASSPHRASE, or asked for), systemd:NAME, fd:N, "
    "keyring:SERVICE, kms:ARN, pkcs11:URI or env (AGENTGUARD_KEY).  "
    "[default: a new file outside the project]",
)
@click.option("--policies/--no-policies", default=True, help="Copy the starter policies.")
@click.pass_obj
def init(place: Place, folder: Path, service: str | None, key_spec: str | None, policies: bool) -> int:
    """
    Set up a project: key, encrypted store, starter policies.

    Writes agentguard.toml, .agentguard/store and policies/ into FOLDER, and a key
    file (mode 0400) outside it. What is there already stays as it is.
    """
    # Imported here: `--help` needs no cryptography.
    from agentguard.seal import STORE_FILE, create_key, create_key_file, provider_from
    from agentguard.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    service = service or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name) or "agent"
    store = folder / ".agentguard" / "store"
    settings = folder / "agentguard.toml"
    if settings.exists():
        raise ConfigurationError(f"{settings}: is set up already").hint(
            "agentguard doctor says what is set up; delete the file to begin anew"
        )
    key = key_spec or place.key or f"file:{_new_key_path(service)}"
    if key.startswith("file:"):
        path = Path(key.removeprefix("file:")).expanduser().absolute()
        key = f"file:{path}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_key_file(path)
            _did(f"key       {path} (mode 0400): keep a copy; without it nobody reads the store")
    store.parent.mkdir(mode=0o700, exist_ok=True)
    (store.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    if not (store / STORE_FILE).exists():
        provider = provider_from(key, environ=os.environ)
        if create_key(provider):
            _did(f"key       {key}: keep a copy; without it nobody reads the store")
        Store.create(store, provider=provider, clock=SystemClock())
        _did(f"store     {store} (encrypted)")
    written = SETTINGS_FILE.format(service=service, key=key)
    if not policies and not (folder / "policies").exists():
        written = written.replace('policies = ["policies"]\n', "")
    elif policies:
        copied = _copy_starters(folder / "policies")
        _did(f"policies  {folder / 'policies'} ({copied} files)")
    settings.write_text(written, encoding="utf-8")
    _did(f"settings  {settings}")
    note("")
    note("next: import agentguard; agentguard.init()   and   @agentguard.tool above your tools")
    note("then: agentguard policy check, agentguard doctor")
    return FINE


def _did(text: str) -> None:
    note(f"made {text}")


def _new_key_path(service: str) -> Path:
    """Choose a place outside the project, so that the key is neither committed nor packed with the code."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "agentguard"
    path = base / f"{service}.key"
    number = 2
    while path.exists():
        path = base / f"{service}-{number}.key"
        number += 1
    return path


def starter_folder() -> Path:
    """Find the starter policies: beside the package in a wheel, at the root of the repository else."""
    package = Path(__file__).parent.parent
    packed = package / "_starter"
    return packed if packed.is_dir() else package.parent / "policies"


def _copy_starters(target: Path) -> int:
    """Copy the starter policies that are not there yet."""
    target.mkdir(exist_ok=True)
    copied = 0
    for source in sorted(starter_folder().glob("*.yaml")):
        if not (target / source.name).exists():
            shutil.copyfile(source, target / source.name)
            copied += 1
    return copied
