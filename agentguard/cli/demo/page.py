"""
The demo's page: calm text of at most 80 columns, colour on terminals only.

Whatever is printed passes the terminal escaper here, in one place, since parts
of it were written by a model, by a tool, or by whoever wrote a policy file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentguard import escape
from agentguard.cli.demo.findings import Exhibit, Finding

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS_MAX = 80
_LABEL = 12
"""Columns of the labels at the left of a scene."""


class Page:
    """
    Prints the demo as it happens.

    Args:
        console:
            Where to; it decides about colour.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, COLUMNS_MAX)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show what is being done, on a terminal only, and wipe it when done."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(escape.terminal(what), spinner="dots"):
            yield

    def opening(self, title: str, text: str) -> None:
        """Print the head of the page."""
        self._line()
        self._line(title, "bold")
        self._line()
        self._paragraph(text)

    def scene(self, number: int, finding: Finding) -> None:
        """Print one scene."""
        self._line()
        self._rule(f"{number}  {finding.title}", "caught" if finding.caught else "NOT CAUGHT", finding.caught)
        self._paragraph(finding.story, indent=3)
        self._line()
        self._labelled("without", finding.without, "dim")
        for i, line in enumerate(finding.with_guard):
            self._labelled("with" if i == 0 else "", line)
        self._labelled("see it", finding.command, "cyan", wrap=False)

    def exhibit(self, exhibit: Exhibit) -> None:
        """Print one of the things beside the scenes."""
        self._line()
        self._rule(exhibit.title, "" if exhibit.is_as_promised else "NOT AS PROMISED", exhibit.is_as_promised)
        for line in exhibit.lines:
            self._paragraph(line, indent=3)
        if exhibit.verbatim:
            self._line()
            for row in exhibit.verbatim.rstrip().splitlines():
                self._line(f"   | {escape.terminal(row)}"[: self._width], "dim", is_escaped=True)
        if exhibit.command:
            self._line()
            self._labelled("see it", exhibit.command, "cyan", wrap=False)

    def closing(self, findings: Sequence[Finding], summary: str) -> None:
        """Print the table at the end."""
        self._line()
        self._rule("Six ways an agent dies", "", is_good=True)
        width = max(len(finding.title) for finding in findings)
        for number, finding in enumerate(findings, 1):
            mark = "caught    " if finding.caught else "NOT CAUGHT"
            self._line(
                f"   {number}  {finding.title:<{width}}  {mark}  {finding.short}"[: self._width],
                "" if finding.caught else "red",
            )
        self._line()
        self._paragraph(summary, indent=3, style="bold")

    def steps(self, head: str, commands: Sequence[tuple[str, str]]) -> None:
        """Print commands with what they do."""
        self._line()
        self._paragraph(head, indent=3)
        width = max(len(command) for command, _ in commands)
        for command, meaning in commands:
            self._line(f"   {command:<{width}}   {meaning}".rstrip()[: self._width], "cyan")

    def sentence(self, text: str) -> None:
        """Print one paragraph after a blank line."""
        self._line()
        self._paragraph(text, indent=3)

    def _rule(self, left: str, right: str, is_good: bool) -> None:
        """Print a heading: words, a line of dots, and a verdict at the right margin."""
        dots = self._width - len(left) - 1 - (len(right) + 1 if right else 0)
        self._console.print(escape.terminal(left), style="bold", end=" ", markup=False, highlight=False)
        self._console.print(
            "\N{MIDDLE DOT}" * max(3, dots), style="dim", end=" " if right else "\n", markup=False
        )
        if right:
            self._console.print(
                right, style="bold green" if is_good else "bold red", markup=False, highlight=False
            )

    def _labelled(self, label: str, text: str, style: str = "", *, wrap: bool = True) -> None:
        rows = textwrap.wrap(escape.terminal(text), self._width - _LABEL) if wrap else [escape.terminal(text)]
        for i, row in enumerate(rows):
            head = f"   {label if i == 0 else '':<{_LABEL - 3}}"
            self._console.print(head, style="dim", end="", markup=False, highlight=False)
            self._console.print(row, style=style, markup=False, highlight=False, soft_wrap=True)

    def _paragraph(self, text: str, *, indent: int = 0, style: str = "") -> None:
        for row in textwrap.wrap(escape.terminal(text), self._width - indent):
            self._line(" " * indent + row, style, is_escaped=True)

    def _line(self, text: str = "", style: str = "", *, is_escaped: bool = False) -> None:
        text = text if is_escaped else escape.terminal(text)
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
