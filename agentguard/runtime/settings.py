"""
The table of settings: name, type, default, meaning. One place for code, docs and `doctor`.

A setting comes from, in this order: the argument of `init()`, the environment
variable, `agentguard.toml` or `[tool.agentguard]`, a standard `OTEL_*`
variable, the default. Policies are the exception: they add up, because no
source may take away what another one enforces.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple


class Setting(NamedTuple):
    """One setting, as users meet it."""

    name: str
    """Argument of `init()`, key in `agentguard.toml`; upper case after `AGENTGUARD_` in the environment."""
    parse: Callable[[object], object]
    """Turns what was written into the value; raises ValueError with what was expected."""
    default: object
    description: str
    otel: str = ""
    """The standard variable that is honoured where nothing else is set."""
    is_path: bool = False
    """Whether relative values are relative to the file that names them."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"AGENTGUARD_{self.name.upper()}"


def boolean(value: object) -> bool:
    """Read true/false, 1/0, yes/no, on/off."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def text(value: object) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise ValueError("a string")  # noqa: TRY004 - one kind of error for all parsers
    return value


def texts(value: object) -> tuple[str, ...]:
    """Read a list of strings; in the environment they are separated by the path separator or a comma."""
    if isinstance(value, str):
        return tuple(part for part in value.replace(",", ":").split(":") if part)
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if hasattr(value, "__fspath__"):
        return (str(value),)
    if isinstance(value, (list, tuple)) and all(
        hasattr(p, "__fspath__") or isinstance(p, str) for p in value
    ):
        return tuple(str(part) for part in value)
    raise ValueError("a path or a list of paths")


def public_keys(value: object) -> tuple[str, ...]:
    """Read Ed25519 public keys; in one text they are separated by commas or spaces."""
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    expected = "Ed25519 public keys, `ed25519:` and the base64 of 32 bytes"
    if not isinstance(parts, (list, tuple)):
        raise ValueError(expected)  # noqa: TRY004 - one kind of error for all parsers
    for part in parts:
        try:
            raw = base64.b64decode(str(part).removeprefix("ed25519:"), validate=True)
        except ValueError:
            raw = b""
        if not str(part).startswith("ed25519:") or len(raw) != 32:
            raise ValueError(expected)
    return tuple(dict.fromkeys(parts))


def pairs(value: object) -> tuple[tuple[str, str], ...]:
    """Read `name=value,name=value`, or a table of strings."""
    if isinstance(value, dict):
        if all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            return tuple(value.items())
        raise ValueError("a table of strings")
    if isinstance(value, str):
        found = []
        for part in filter(None, (p.strip() for p in value.split(","))):
            name, equals, content = part.partition("=")
            if not equals or not name.strip():
                raise ValueError("name=value,name=value")
            found.append((name.strip(), content.strip()))
        return tuple(found)
    raise ValueError("name=value,name=value")


def anchors(value: object) -> tuple[str, ...]:
    """Read where checkpoints go; in one text they are separated by commas or spaces."""
    # Imported here: without it the audit room is loaded by `init()` alone.
    from agentguard.audit import ANCHOR_TARGETS, is_target

    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(
        isinstance(part, str) and is_target(part) for part in parts
    ):
        raise ValueError(f"a list of {ANCHOR_TARGETS}")
    return tuple(dict.fromkeys(parts))


def reasons(value: object) -> tuple[str, ...]:
    """Read a list of reasons for which a trace is sent."""
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(
        part in ("error", "violation", "slow") for part in parts
    ):
        raise ValueError("a list of error, violation, slow")
    return tuple(dict.fromkeys(parts))


def destination(value: object) -> str:
    """Read where spans go; a bare word is a misspelt one, and no host to send them to."""
    read = text(value)
    if read in ("none", "otlp") or any(mark in str(read) for mark in ":./[") or read == "":
        return str(read)
    raise ValueError("none, otlp or the URL of an OTLP endpoint, http(s)://HOST:PORT")


def tables(value: object) -> tuple[dict[str, object], ...]:
    """Read destinations: tables with `to` and the settings of an export, without their common beginning."""
    expected = "tables [[export]] in agentguard.toml"
    if not isinstance(value, (list, tuple)) or not all(isinstance(part, dict) for part in value):
        raise ValueError(expected)
    found: list[dict[str, object]] = []
    for table in value:
        if not isinstance(table.get("to"), str):
            raise ValueError(f"{expected}, each with `to`")  # noqa: TRY004 - one kind of error for all parsers
        read: dict[str, object] = {"to": table["to"]}
        for name, written in table.items():
            if name == "to":
                continue
            setting = BY_NAME.get(f"export_{name}")
            if setting is None or name == "others":
                raise ValueError(f"{expected}; there is no `{name}` in one")
            try:
                read[name] = setting.parse(written)
            except ValueError as error:
                raise ValueError(f"for `{name}` {error}") from None
        found.append(read)
    return tuple(found)


def one_of(*allowed: str) -> Callable[[object], object]:
    """Read one word of a few."""

    def parse(value: object) -> str:
        if value in allowed:
            return str(value)
        raise ValueError("one of " + ", ".join(allowed))

    return parse


def number(*, least: float, most: float, whole: bool = False) -> Callable[[object], object]:
    """Read a number within bounds, both included."""

    def parse(value: object) -> float | int:
        expected = f"{'a whole number' if whole else 'a number'} from {least:g} to {most:g}"
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(expected)  # noqa: TRY004 - one kind of error for all parsers
        try:
            read = int(value) if whole else float(value)
        except ValueError:
            raise ValueError(expected) from None
        if not least <= read <= most:
            raise ValueError(expected)
        return read

    return parse


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "enabled",
        boolean,
        True,
        "Off makes every decorator a plain call. Refused where policies are configured.",
    ),
    Setting(
        "service",
        text,
        "",
        "Name of the service, on every span; the name of the program where not set.",
        otel="OTEL_SERVICE_NAME",
    ),
    Setting("environment", text, "", "Deployment environment, such as prod: the fact `env.name`."),
    Setting(
        "store",
        text,
        "",
        "Folder of the encrypted store; by default `agentguard/store` under the user's data folder.",
        is_path=True,
    ),
    Setting(
        "key",
        text,
        "",
        "Where the key comes from: `file:PATH`, `passphrase`, `systemd:NAME`, `fd:N`, `keyring:SERVICE`, `kms:ARN`, `pkcs11:URI` or `env`; by default the file `agentguard/key` under the user's configuration folder, made on first use.",
        is_path=True,
    ),
    Setting(
        "policies",
        texts,
        (),
        "Policy files and folders. All sources add up; a configured folder that is empty is an error.",
        is_path=True,
    ),
    Setting(
        "require_signed",
        public_keys,
        (),
        "Public keys, `ed25519:BASE64`: only policy folders load whose `agentguard.lock` one of them has signed, and none older than the last one seen. Where several sources name keys, those count that all of them name.",
    ),
    Setting(
        "reload_interval_s",
        number(least=0, most=3600),
        1.0,
        "Seconds between two looks at the policy files; changed policies come into force while the process runs, whole or not at all. 0: never.",
    ),
    Setting(
        "capture",
        one_of("none", "metadata", "redacted", "full"),
        "metadata",
        "What is recorded of a call: nothing, everything but content, redacted content, or content as it is.",
    ),
    Setting(
        "capture_bytes_max",
        number(least=0, most=16_777_216, whole=True),
        16_384,
        "Longest recorded content of one call, in bytes; what is longer is cut.",
    ),
    Setting(
        "capture_hashes",
        boolean,
        False,
        "Whether spans carry keyed hashes of arguments and results, also where their text is not recorded: equal "
        "ones can be seen, and guessed only with the key. Hashes differ from store to store, and after a change of keys.",
    ),
    Setting(
        "prices",
        text,
        "",
        "TOML file of prices in US dollars for a million tokens, over the built-in table; an unknown model has no cost.",
        is_path=True,
    ),
    Setting(
        "otel",
        one_of("auto", "isolated", "global", "off"),
        "auto",
        "How spans stand beside OpenTelemetry: `auto` joins the provider of the application where there is one; `isolated` leaves it alone; `global` makes a provider of ours the global one where there is none, so that native spans of SDKs are taken in; `off` looks at nothing of OpenTelemetry and shows it nothing.",
    ),
    Setting(
        "semconv", one_of("compat", "latest", "both"), "compat", "Generation of the GenAI attribute names."
    ),
    Setting(
        "export",
        destination,
        "none",
        "`none`, `otlp` (endpoint from `OTEL_EXPORTER_OTLP_*` or the local default), or the URL of an OTLP endpoint.",
    ),
    Setting(
        "export_protocol",
        one_of("http/protobuf", "grpc"),
        "http/protobuf",
        "Protocol of the OTLP export.",
        otel="OTEL_EXPORTER_OTLP_PROTOCOL",
    ),
    Setting(
        "export_headers",
        pairs,
        (),
        "Headers of the OTLP export, `name=value,name=value`.",
        otel="OTEL_EXPORTER_OTLP_HEADERS",
    ),
    Setting(
        "export_content",
        one_of("none", "redacted", "full"),
        "none",
        "What of recorded content leaves the machine with the spans: nothing, what the detectors leave of it, or all.",
    ),
    Setting(
        "export_keep",
        reasons,
        (),
        "Reasons for which a trace is sent, `error`, `violation`, `slow`; none: all traces are. The others stay in the store.",
    ),
    Setting(
        "export_slow_s",
        number(least=0.001, most=86_400),
        10.0,
        "From which duration on a call is slow, in seconds.",
    ),
    Setting(
        "export_ca_file",
        text,
        "",
        "PEM file of the authorities that may sign the backend's certificate; otherwise those of the system.",
        is_path=True,
    ),
    Setting(
        "export_client_certificate_file",
        text,
        "",
        "PEM file of our certificate, where the backend wants one.",
        is_path=True,
    ),
    Setting("export_client_key_file", text, "", "PEM file of its key.", is_path=True),
    Setting(
        "export_others",
        tables,
        (),
        "Further destinations, in the file only: the tables `[[export]]` after the first, each with `to` and what stands here after `export_`.",
    ),
    Setting(
        "drift_interval_s",
        number(least=0, most=86_400),
        300.0,
        "Seconds between two passes of the background drift checker; 0 switches it off.",
    ),
    Setting(
        "drift_cpu_share",
        number(least=0.0001, most=1),
        0.01,
        "Part of one core that the background drift checker may take: after a pass that took more it waits longer.",
    ),
    Setting(
        "flush_timeout_s",
        number(least=0, most=60),
        2.0,
        "Longest wait for the store and the exporter when the process ends, in seconds.",
    ),
    Setting(
        "queue_bytes_max",
        number(least=65_536, most=1_073_741_824, whole=True),
        8_388_608,
        "Most memory that spans may hold before they are on disk, in bytes.",
    ),
    Setting(
        "approval_wait_s",
        number(least=0, most=86_400),
        0.0,
        "How long a call that needs an approval waits for it, in seconds, where its rule does not say `wait`; "
        "0: it raises `ApprovalPending` at once.",
    ),
    Setting(
        "approval_webhook",
        text,
        "",
        "Address that is told by POST of each request for approval: `https:`, or `http:` to this machine; empty: none.",
    ),
    Setting(
        "approval_webhook_key",
        text,
        "",
        "File with the secret, 16 to 256 bytes, mode 0600, that signs what `approval_webhook` is told.",
        is_path=True,
    ),
    Setting(
        "approval_webhook_content",
        boolean,
        False,
        "Whether `approval_webhook` is told the arguments too.",
    ),
    Setting(
        "unpriced_usd_per_million",
        number(least=0, most=1_000_000),
        100.0,
        "What a million tokens of a model without a known price is charged, in US dollars, against budgets and "
        "the facts of cost. 0 charges nothing, and limits on cost then do not hold for such models.",
    ),
    Setting("retention_days", number(least=1, most=36_500), 183.0, "Days that spans are kept."),
    Setting(
        "store_bytes_max",
        number(least=0, most=2**50, whole=True),
        10_737_418_240,
        "Most bytes that the spans of a store may take on the disk; the oldest files go first, with what an exporter "
        "has not sent counted as a gap. 0 is no bound.",
    ),
    Setting(
        "decisions_retention_days",
        number(least=0, most=36_500),
        183.0,
        "Days that journals of the decision log are kept; what goes is stated in the log for good. 0: for ever.",
    ),
    Setting(
        "decisions_bytes_max",
        number(least=0, most=2**50, whole=True),
        0,
        "Most bytes that the journals of the decision log may take; the oldest that ended go first, whatever their "
        "age. 0 is no bound.",
    ),
    Setting(
        "decisions_reserve_bytes",
        number(least=0, most=2**34, whole=True),
        16_777_216,
        "Room that is kept on the disk for decisions when everything else has filled it; 0 keeps none.",
    ),
    Setting(
        "decisions_post_quantum",
        boolean,
        False,
        "Sign checkpoints of the decision log with ML-DSA-44 beside Ed25519; a millisecond and 3 KiB for each.",
    ),
    Setting(
        "decisions_mark",
        text,
        "",
        "File outside the store for the newest checkpoint that this machine has seen: a store that was set back to an "
        "earlier state is not written on.",
        is_path=True,
    ),
    Setting(
        "decisions_anchors",
        anchors,
        (),
        "Who is handed checkpoints of the decision log to keep: `file:PATH`, `https://…`, `rfc3161:https://…` (a "
        "time-stamping authority), `otlp` (a span to the destination of `export`).",
        is_path=True,
    ),
    Setting(
        "decisions_anchor_interval_s",
        number(least=1, most=2_592_000),
        3600.0,
        "Seconds between two checkpoints for each of them.",
    ),
    Setting(
        "decisions_anchor_roots",
        text,
        "",
        "PEM file with the certificates that time stamps must lead to.",
        is_path=True,
    ),
    Setting(
        "strict",
        boolean,
        False,
        "Raise agentguard's own internal errors instead of counting them. For development.",
    ),
)
"""All settings, in the order of the reference page."""

BY_NAME = {setting.name: setting for setting in SETTINGS}

SECRET_VARIABLES = (
    "AGENTGUARD_KEY",
    "AGENTGUARD_PASSPHRASE",
    "AGENTGUARD_PASSPHRASE_FILE",
    "AGENTGUARD_KEY_FILE",
    "AGENTGUARD_NEW_PASSPHRASE",
)
"""Read by key providers; not settings, so that no value of theirs is ever printed."""
