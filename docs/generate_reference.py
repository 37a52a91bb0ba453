"""
Write the reference pages that come from the code: configuration, errors, facts.

Run `python docs/generate_reference.py`; with `--check` nothing is written, and
the exit status says whether a page differs from the code.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from agentguard import errors
from agentguard.runtime import SETTINGS
from agentguard.values import FACTS

FOLDER = Path(__file__).parent / "reference"

CONFIGURATION = """\
# Configuration

agentguard works with no configuration at all. A setting comes from, in this order:

1. the argument of `agentguard.init()`,
2. the environment variable `AGENTGUARD_<NAME>`,
3. `agentguard.toml`, or `[tool.agentguard]` of `pyproject.toml`, in the working folder or the nearest folder above it,
4. a standard `OTEL_*` variable, where the table names one,
5. the default.

`policies` is the exception: what all sources name adds up, because a setting may tighten policy and never loosen it.
For the same reason `enabled = false` is refused where policies are configured. An unknown setting or an unknown
`AGENTGUARD_*` variable is an error: a misspelt policy folder must not pass in silence. All problems are reported at
once, in one `ConfigurationError`.

Relative paths are relative to the file that names them; in the environment and in `init()`, to the working folder.
Settings that begin alike may stand in a table of the file: `[decisions] mark = "…"` is `decisions_mark`.

{table}

## Keys

The setting `key` says which provider gives the key of the store:

| value | the key is |
|---|---|
| `file:PATH` | in a file of mode 0400: the base64 of 32 bytes. `agentguard init` makes one. |
| `passphrase` | derived with Argon2id from `AGENTGUARD_PASSPHRASE`, or from the file that `AGENTGUARD_PASSPHRASE_FILE` names, or asked for on the terminal |
| `systemd:NAME` | a credential of the service (`LoadCredentialEncrypted=NAME:FILE` in its unit): the base64 of 32 bytes |
| `fd:N` | read once from the open file descriptor N, such as a pipe: the base64 of 32 bytes |
| `keyring:SERVICE` | in the keyring of the desktop, under the user name `agentguard` (`pip install 'agentguard[keyring]'`). Backends that keep secrets in clear are refused. |
| `kms:ARN` | wrapped by a symmetric key of AWS KMS (`pip install 'agentguard[kms]'`); credentials and endpoint come from where the AWS tools take them. The encryption context is `agentguard-store`, the id of the store. |
| `pkcs11:URI` | made by a secret key on a token, which never leaves it (`pip install 'agentguard[pkcs11]'`): `pkcs11:token=NAME;object=NAME?module-path=PATH&pin-source=file:PATH` |
| `auditor:FILE` | an auditor's private key: opens the store for reading only, on the command line only |
| `env` | in `AGENTGUARD_KEY`: the base64 of 32 bytes. A warning is logged: every tool that the agent starts inherits the environment. |

`AGENTGUARD_KEY_FILE` is short for `key = "file:..."`. Without any of these the key lies in `agentguard/key` under the
user's configuration folder (`$XDG_CONFIG_HOME`, by default `~/.config`) and is made on first use.
"""

ERRORS = """\
# Errors

Every exception that agentguard raises on purpose, as one tree:

```
{tree}
```

*Watching never breaks the watched*: errors of capture, store, drift and export never reach the caller of a guarded
function. *Enforcing never fails open in silence*: a policy that cannot be evaluated denies. The way out of an error is
in its notes (PEP 678): `error.__notes__`.

{entries}"""

FACTS_PAGE = """\
# Facts

All that a policy condition may read. *Trusted* facts come from the application or from agentguard; the others were
written by a model, and `agentguard policy check` warns where one of them relaxes a rule. A fact without a value means
what the last column says. Schema version {version}.

{table}
"""


def configuration() -> str:
    """Make the page of settings."""
    rows = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        also = f" Honours `{setting.otel}`." if setting.otel else ""
        default = "" if setting.default in ("", ()) else f"`{_toml(setting.default)}`"
        rows.append(f"| `{setting.name}` | `{setting.variable}` | {default} | {setting.description}{also} |")
    return CONFIGURATION.format(table="\n".join(rows))


def _toml(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int)
        else f"{value:g}"
    )


def error_page() -> str:
    """Make the page of errors from their docstrings."""
    tree = inspect.cleandoc(errors.__doc__ or "")
    start = tree.index("AgentGuardError(Exception)")
    drawn = inspect.cleandoc("\n".join(tree[start:].split("\n\n")[0].splitlines()))
    entries = []
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.AgentGuardError):
            entries.append(f"## {name}\n\n{inspect.cleandoc(found.__doc__ or '')}\n")
    return ERRORS.format(tree=drawn.replace("\n    ", "\n"), entries="\n".join(entries))


def fact_page() -> str:
    """Make the page of facts from the catalogue."""
    from agentguard.values import FACT_SCHEMA_VERSION

    rows = [
        "| fact | type | meaning | scope | trusted | points | missing means |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec in FACTS.values():
        unit = f" ({spec.unit})" if spec.unit else ""
        points = ", ".join(f"`{point}`" for point in spec.points) or "all"
        trusted = "yes" if spec.is_trusted else "**no**"
        rows.append(
            f"| `{spec.name}` | `{spec.type}` | {spec.description}{unit} | {spec.scope} | {trusted} | {points} | {spec.missing} |"
        )
    return FACTS_PAGE.format(version=FACT_SCHEMA_VERSION, table="\n".join(rows))


PAGES = {"configuration.md": configuration, "errors.md": error_page, "facts.md": fact_page}


def main() -> int:
    """Write the pages, or compare them."""
    is_check = "--check" in sys.argv[1:]
    differing = []
    for name, make in PAGES.items():
        path = FOLDER / name
        content = make()
        if is_check:
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                differing.append(name)
        else:
            path.write_text(content, encoding="utf-8")
    if differing:
        print("differ from the code: " + ", ".join(differing), file=sys.stderr)  # noqa: T201
        print("hint: python docs/generate_reference.py", file=sys.stderr)  # noqa: T201
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
