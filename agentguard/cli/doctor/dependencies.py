"""
What this process is made of: distributions, how long they have lain here, what is known against them.

Nothing is asked of the network: advisories come from a file, or from `pip-audit`
where the person asks for it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from agentguard.errors import ConfigurationError

DAY_S = 86_400
ADVISORY_BYTES_MAX = 256 * 1024 * 1024
AUDIT_TIMEOUT_S = 300


@dataclass(slots=True)
class Distribution:
    """One installed distribution."""

    name: str
    version: str
    age_days: int | None
    """Days since it was installed here, from its metadata files; None where they have no date."""
    licence: str = ""
    vulnerabilities: list[str] = field(default_factory=list)
    """Ids of advisories that name this version."""


def installed() -> list[Distribution]:
    """
    List the distributions that this interpreter can import.

    Returns:
        By name; the first one found where a name lies on the path twice, as the
        interpreter would take it.
    """
    found: dict[str, Distribution] = {}
    now_s = time.time()
    for distribution in metadata.distributions():
        described = distribution.metadata
        name = described["Name"]
        if not name or normal(name) in found:
            continue
        found[normal(name)] = Distribution(
            name=name,
            version=distribution.version,
            age_days=_age_days(distribution, now_s),
            licence=next(iter(described.get_all("License-Expression") or ()), ""),
        )
    return [found[name] for name in sorted(found)]


def normal(name: str) -> str:
    """
    Normalise the name of a distribution.

    Example:
        >>> normal("Ruamel.YAML")
        'ruamel-yaml'

    Source: PEP 503.
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _age_days(distribution: metadata.Distribution, now_s: float) -> int | None:
    for file in ("RECORD", "METADATA"):
        try:
            modified_s = (
                Path(str(distribution.locate_file(_info_folder(distribution) + file))).stat().st_mtime
            )
        except OSError:
            continue
        return max(int((now_s - modified_s) // DAY_S), 0)
    return None


def _info_folder(distribution: metadata.Distribution) -> str:
    return f"{distribution.metadata['Name'].replace('-', '_')}-{distribution.version}.dist-info/"


def apply_advisories(distributions: Iterable[Distribution], path: Path) -> None:
    """
    Mark the distributions that an advisory file names.

    Args:
        distributions:
            Changed in place.
        path:
            JSON: the output of `pip-audit --format json`, one OSV record, or a
            list of OSV records.

    Raises:
        ConfigurationError: The file cannot be read, or is neither of these.

    Source: OSV schema 1.6, `affected[].package`, `affected[].versions`.
    """
    try:
        if path.stat().st_size > ADVISORY_BYTES_MAX:
            raise ConfigurationError(f"{path}: larger than {ADVISORY_BYTES_MAX} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read as JSON: {error}") from None
    by_name = {normal(d.name): d for d in distributions}
    if isinstance(document, dict) and isinstance(document.get("dependencies"), list):
        _from_pip_audit(document["dependencies"], by_name)
    elif isinstance(document, dict) and "affected" in document:
        _from_osv([document], by_name)
    elif isinstance(document, list):
        _from_osv(document, by_name)
    else:
        raise ConfigurationError(
            f"{path}: got neither OSV records nor the output of `pip-audit --format json`"
        )


def _from_pip_audit(rows: list[object], by_name: Mapping[str, Distribution]) -> None:
    for row in rows:
        if not isinstance(row, dict):
            continue
        distribution = by_name.get(normal(str(row.get("name", ""))))
        if distribution is None or row.get("version") != distribution.version:
            continue
        for found in row.get("vulns", ()):
            if isinstance(found, dict) and found.get("id"):
                distribution.vulnerabilities.append(str(found["id"]))


def _from_osv(records: list[object], by_name: Mapping[str, Distribution]) -> None:
    for record in records:
        if not isinstance(record, dict) or record.get("withdrawn"):
            continue
        for affected in record.get("affected", ()):
            package = affected.get("package", {}) if isinstance(affected, dict) else {}
            distribution = by_name.get(normal(str(package.get("name", ""))))
            if (
                distribution is not None
                and str(package.get("ecosystem", "")).startswith("PyPI")
                and distribution.version in affected.get("versions", ())
                and record.get("id") not in distribution.vulnerabilities
            ):
                distribution.vulnerabilities.append(str(record.get("id", "unnamed")))


def run_pip_audit(distributions: Iterable[Distribution]) -> str:
    """
    Ask `pip-audit`, which asks its advisory service over the network.

    Args:
        distributions:
            Changed in place.

    Returns:
        Empty where it answered, else why not, in words.
    """
    program = shutil.which("pip-audit")
    if program is None:
        return "`pip-audit` is not installed"
    try:
        ran = subprocess.run(
            [program, "--format", "json", "--local", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=AUDIT_TIMEOUT_S,
            check=False,
        )
        rows = json.loads(ran.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return "`pip-audit` gave no answer; it needs the network"
    _from_pip_audit(rows, {normal(d.name): d for d in distributions})
    return ""


def cyclonedx(distributions: Iterable[Distribution], *, version: str) -> dict[str, object]:
    """
    Describe the distributions as a software bill of materials.

    Args:
        distributions:
            What is installed.
        version:
            Of agentguard, the tool that wrote the document.

    Returns:
        A CycloneDX 1.6 document, ready for JSON.

    Source: CycloneDX 1.6, ECMA-424.
    """
    components = []
    vulnerabilities: list[dict[str, object]] = []
    for distribution in distributions:
        reference = f"pkg:pypi/{normal(distribution.name)}@{distribution.version}"
        component: dict[str, object] = {
            "type": "library",
            "bom-ref": reference,
            "name": distribution.name,
            "version": distribution.version,
            "purl": reference,
        }
        if distribution.licence:
            component["licenses"] = [{"expression": distribution.licence}]
        if distribution.age_days is not None:
            component["properties"] = [
                {"name": "agentguard:installed_days", "value": str(distribution.age_days)}
            ]
        components.append(component)
        vulnerabilities.extend(
            {"id": found, "affects": [{"ref": reference}]} for found in distribution.vulnerabilities
        )
    document: dict[str, object] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "tools": {"components": [{"type": "application", "name": "agentguard", "version": version}]},
            "component": {
                "type": "application",
                "bom-ref": "python",
                "name": "python",
                "version": ".".join(map(str, sys.version_info[:3])),
            },
        },
        "components": components,
    }
    if vulnerabilities:
        document["vulnerabilities"] = vulnerabilities
    return document
