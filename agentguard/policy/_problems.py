"""Collect what is wrong with documents: place, excerpt with a caret, did-you-mean, code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentguard.errors import PolicyDocumentError, PolicyProblem

PROBLEMS_MAX = 500
"""Problems that are kept of one load; what comes after is only counted."""

_EXCERPT_CHARACTERS_MAX = 160


def printable(text: str) -> str:
    """
    Make text safe to stand in one line of a message.

    Args:
        text:
            Anything that a file may hold.

    Returns:
        The text with control, bidirectional and other unprintable characters as escapes; a tab
        becomes one space, so that a caret below still points at its place.
    """
    return "".join(c if c.isprintable() else " " if c == "\t" else _escaped(c) for c in text)


def quoted(text: str, characters_max: int = 80) -> str:
    """
    Put input of a user in backticks, shortened and without what could confuse a terminal.

    Args:
        text:
            What was got.
        characters_max:
            Longer text ends in an ellipsis.

    Returns:
        The text in backticks.
    """
    shown = printable(text if len(text) <= characters_max else text[:characters_max] + "…")
    return f"`{shown}`"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """
    Say what was probably meant.

    Args:
        got:
            What stands in the document.
        known:
            What could stand there.

    Returns:
        A sentence: the nearest word, or all words where they are few, or empty.
    """
    words = list(known)
    lowered = {word.lower(): word for word in reversed(words)}
    # Imported here: only a mistake needs it, and it stays in memory.
    import difflib

    near = difflib.get_close_matches(got.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f"did you mean `{lowered[near[0]]}`?"
    if 0 < len(words) <= 12:
        return "expected one of " + ", ".join(f"`{word}`" for word in words)
    return ""


class Source:
    """The text of one file, kept to show excerpts."""

    __slots__ = ("lines", "path")

    def __init__(self, path: str, text: str = "") -> None:
        self.path = path
        """As it was named to the loader."""
        self.lines: Sequence[str] = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def excerpt(self, line: int, column: int) -> str:
        """
        Show one line with a caret below.

        Args:
            line:
                From 1.
            column:
                From 1.

        Returns:
            Two lines, or empty where there is no such line.
        """
        if not 1 <= line <= len(self.lines):
            return ""
        text = self.lines[line - 1]
        start = 0
        if column > _EXCERPT_CHARACTERS_MAX - 40:
            start = column - 80
        cut = text[start : start + _EXCERPT_CHARACTERS_MAX]
        before = printable(cut[: max(0, column - 1 - start)])
        lead = "…" if start else ""
        return f"{lead}{printable(cut)}\n{' ' * (len(lead) + len(before))}^"


class Problems:
    """All problems of one load, in the order found."""

    __slots__ = ("count", "found")

    def __init__(self) -> None:
        self.found: list[PolicyProblem] = []
        self.count = 0
        """How many were found, those beyond `PROBLEMS_MAX` included."""

    def add(self, source: Source, line: int, column: int, text: str, *, code: str, hint: str = "") -> None:
        """
        Note one problem.

        Args:
            source:
                The file.
            line:
                From 1; 0: the whole file.
            column:
                From 1; 0: the whole line.
            text:
                What was got and what was expected.
            code:
                The stable name of the kind of mistake.
            hint:
                The way out, or empty.
        """
        self.take(
            PolicyProblem(
                path=source.path,
                line=line,
                column=column,
                text=text,
                hint=hint,
                excerpt=source.excerpt(line, column) if line else "",
                code=code,
            )
        )

    def take(self, problem: PolicyProblem) -> None:
        """Keep a problem that is already made."""
        self.count += 1
        if len(self.found) < PROBLEMS_MAX:
            self.found.append(problem)

    def error(self) -> PolicyDocumentError:
        """
        Make one exception of all that was found.

        Returns:
            Its message is the first problem and how many follow; its notes show every problem.
        """
        ordered = sorted(self.found, key=lambda p: (p.path, p.line, p.column))
        first = ordered[0]
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        error = PolicyDocumentError(f"{first}{more}", problems=tuple(ordered))
        for index, problem in enumerate(ordered):
            if index:
                error.add_note(str(problem))
            if problem.excerpt:
                error.add_note(problem.excerpt)
            if problem.hint:
                error.hint(problem.hint)
        return error


def _escaped(character: str) -> str:
    """Write one unprintable character as Python would."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
