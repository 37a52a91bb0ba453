"""
Follows a tutorial word for word: writes the files it shows, runs its commands, compares what they print.

A block after "Save this as `NAME`" is written to that file. A `console` block holds commands (after `$`)
and what they print, standard error after standard output, with `...` for anything. Times, durations and
ids may differ.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVE = re.compile(r"Save this as `([^`]+)`[^`]*\Z")


@dataclass(frozen=True)
class Step:
    """One command of a tutorial, and what it is to print."""

    command: str
    expected: str
    line: int


def files_and_steps(text: str) -> Iterator[tuple[str, str] | Step]:
    """Give the files (name, content) and the steps of a page, in order."""
    for match in _FENCE.finditer(text):
        language, body = match.groups()
        line = text[: match.start()].count("\n") + 2
        saved = _SAVE.search(text[: match.start()])
        if saved:
            yield saved.group(1), body
        elif language == "console":
            for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
                if part.strip():
                    command, _, expected = part.partition("\n")
                    yield Step(command.removeprefix("$ "), expected, line)


_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:ns|us|µs|ms|s)\b"), "DURATION"),
    (re.compile(r"(?<=decision )[0-9a-f]{4}\b"), "ID"),
    (re.compile(r"\b(?:[0-9a-f]{8}|[0-9a-f]{12,})\b"), "ID"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" +(?=\n|\Z)"), ""),
)
"""What differs between two runs: a page shows it as it was once."""


def matches(expected: str, got: str) -> bool:
    """Compare, but for times, durations, ids and runs of spaces; `...` stands for anything."""

    def settle(text: str) -> str:
        for pattern, stands_for in _VOLATILE:
            text = pattern.sub(stands_for, text)
        return text.strip()

    pattern = ".*?".join(re.escape(part) for part in settle(expected).split("..."))
    return re.fullmatch(pattern, settle(got), re.DOTALL) is not None


def follow(page: Path, folder: Path, environment: dict[str, str]) -> int:
    """
    Follow a page in a folder.

    Returns:
        How many commands were run.

    Raises:
        AssertionError: A command printed something else than the page says.
    """
    count = 0
    script_status = 0
    for item in files_and_steps(page.read_text(encoding="utf-8")):
        if isinstance(item, tuple):
            path = folder / item[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(item[1], encoding="utf-8")
            continue
        ran = subprocess.run(
            ["bash", "-c", f"(exit {script_status}); {item.command}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        script_status = ran.returncode
        got = ran.stdout + ran.stderr
        assert "Traceback" not in got, f"{page.name}:{item.line}: {item.command}\n{got}"
        assert matches(item.expected, got), (
            f"{page.name}:{item.line}: {item.command}\n--- the page says\n{item.expected}\n--- it printed\n{got}"
        )
        count += 1
    return count
