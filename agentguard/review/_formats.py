"""Findings in the formats that other tools read: SARIF, JUnit XML, annotations of GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Notice(NamedTuple):
    """One thing to tell about a place in a file."""

    path: str
    line: int
    """From 1; 0: the whole file."""
    column: int
    level: str
    """error, warning or note."""
    code: str
    text: str
    hint: str = ""
    excerpt: str = ""
    """The line and a caret below it, or empty."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self._asdict()}


class Case(NamedTuple):
    """One test for JUnit XML."""

    group: str
    name: str
    failure: str = ""


def sarif(
    notices: Iterable[Notice], *, version: str, command: str = "agentguard policy check"
) -> dict[str, object]:
    """
    Make a SARIF 2.1.0 log.

    Args:
        notices:
            What was found.
        version:
            Of agentguard.
        command:
            What found it.

    Returns:
        The document, for `json.dumps`.

    Source:
        OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0, sections 3.13, 3.27.
    """
    listed = list(notices)
    rules = sorted({notice.code for notice in listed})
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": command,
                        "version": version,
                        "rules": [{"id": code} for code in rules],
                    }
                },
                "results": [
                    {
                        "ruleId": notice.code,
                        "ruleIndex": rules.index(notice.code),
                        "level": notice.level,
                        "message": {"text": _sentence(notice)},
                        "locations": [{"physicalLocation": _location(notice)}],
                    }
                    for notice in listed
                ],
            }
        ],
    }


def junit(cases: Sequence[Case], *, suite: str) -> str:
    """
    Make a JUnit XML report.

    Args:
        cases:
            Tests, a failed one with its reason.
        suite:
            The name of all of them.

    Returns:
        The document.
    """
    failures = sum(1 for case in cases if case.failure)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={_attribute(suite)} tests="{len(cases)}" failures="{failures}" errors="0">',
    ]
    for case in cases:
        head = f"  <testcase classname={_attribute(case.group)} name={_attribute(case.name)}"
        if case.failure:
            first = case.failure.splitlines()[0]
            body = escape(_NOT_XML.sub("�", case.failure))
            lines.append(f"{head}>\n    <failure message={_attribute(first)}>{body}</failure>\n  </testcase>")
        else:
            lines.append(f"{head}/>")
    lines.append("</testsuite>")
    return "\n".join(lines)


def github(notices: Iterable[Notice]) -> list[str]:
    """
    Make workflow commands that show up beside the lines of a change.

    Args:
        notices:
            What was found.

    Returns:
        One line each.
    """
    lines = []
    for notice in notices:
        level = "notice" if notice.level == "note" else notice.level
        place = f"file={_property(notice.path)}"
        if notice.line:
            place += f",line={notice.line},col={notice.column}"
        lines.append(f"::{level} {place},title={_property(notice.code)}::{_data(_sentence(notice))}")
    return lines


def _sentence(notice: Notice) -> str:
    """Text and hint."""
    return f"{notice.text} (hint: {notice.hint})" if notice.hint else notice.text


def _location(notice: Notice) -> dict[str, object]:
    """Where, as SARIF has it."""
    location: dict[str, object] = {"artifactLocation": {"uri": notice.path.replace("\\", "/")}}
    if notice.line:
        location["region"] = {"startLine": notice.line, "startColumn": max(1, notice.column)}
    return location


def _attribute(text: str) -> str:
    """A quoted attribute of XML."""
    return quoteattr(_NOT_XML.sub("�", text))


def _data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
