"""
Problems of one source, gathered with place, excerpt, caret and a way out.

Takes offsets into the source, gives `PolicyProblem` values whose lines and
columns are those of the document that the source stands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentguard.errors import PolicyDocumentError, PolicyProblem
from agentguard.policy.conditions.faults import TooManyProblems
from agentguard.policy.conditions.limits import PROBLEMS_MAX

_EXCERPT_CHARS_MAX = 160


class Problems:
    """
    The mistakes of one source, in the order found.

    Args:
        source:
            The text of the condition.

        path:
            The document, for the message.

        line_offset:
            Lines before the first line of the source in its document.

        column_offset:
            Characters before the source on its first line.

        indent:
            Characters before the source on its further lines.

        document:
            Lines of the document for the excerpts; empty: the source's own.
    """

    def __init__(
        self,
        source: str,
        *,
        path: str = "",
        line_offset: int = 0,
        column_offset: int = 0,
        indent: int = 0,
        document: Sequence[str] = (),
    ) -> None:
        self.source = source
        self.found: list[PolicyProblem] = []
        self._path = path
        self._line_offset = line_offset
        self._column_offset = column_offset
        self._indent = indent
        self._document = document
        self._seen: set[tuple[int, str]] = set()

    def add(self, offset: int, text: str, *, code: str, hint: str = "") -> None:
        """
        Note one mistake.

        Args:
            offset:
                Characters before it in the source.

            text:
                What was got and what was expected, one line.

            code:
                The stable name of the kind of mistake.

            hint:
                The way out, or empty.

        Raises:
            TooManyProblems: This was the last one that is reported.
        """
        if (offset, code) in self._seen:
            return
        self._seen.add((offset, code))
        line, column, shown_line, caret = self._place(offset)
        self.found.append(
            PolicyProblem(
                path=self._path,
                line=line,
                column=column,
                text=_printable(text),
                hint=_printable(hint),
                excerpt=_excerpt(shown_line, caret),
                code=code,
            )
        )
        if len(self.found) >= PROBLEMS_MAX:
            raise TooManyProblems

    def only(self, text: str, *, code: str) -> None:
        """Forget what was noted: the source as a whole is the mistake."""
        self.found.clear()
        self._seen.clear()
        self.add(0, text, code=code)

    def _place(self, offset: int) -> tuple[int, int, str, int]:
        """Line and column from 1 in the document, the line shown, the caret's column in it from 0."""
        before = self.source[: max(offset, 0)]
        row = before.count("\n")
        start = before.rfind("\n") + 1
        inner = len(before) - start
        shift = self._indent if row else self._column_offset
        line = self._line_offset + row + 1
        if 0 < line <= len(self._document):
            return line, inner + shift + 1, self._document[line - 1], inner + shift
        end = self.source.find("\n", start)
        return line, inner + shift + 1, self.source[start : end if end >= 0 else None], inner

    def raise_if_any(self) -> None:
        """
        Raise all of them together, in the order of their places.

        Raises:
            PolicyDocumentError: There is at least one.
        """
        if not self.found:
            return
        found = tuple(sorted(self.found, key=lambda problem: (problem.line, problem.column)))
        error = PolicyDocumentError("\n".join(str(problem) for problem in found), problems=found)
        for problem in found:
            if problem.excerpt:
                error.add_note(problem.excerpt)
            if problem.hint:
                error.hint(problem.hint)
        raise error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Say which known name was probably meant.

    Returns:
        "did you mean `x`?", or empty where nothing is near.
    """
    if len(name) > 100:
        return ""
    # Imported here: only a mistake needs it, and it stays in memory.
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def _printable(text: str) -> str:
    """One line, whatever of the source is quoted in it."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _excerpt(line: str, caret: int) -> str:
    """The line and a caret under the place; long lines are cut around it, controls are dotted."""
    start = max(0, min(caret - _EXCERPT_CHARS_MAX // 2, len(line) - _EXCERPT_CHARS_MAX))
    shown = line[start : start + _EXCERPT_CHARS_MAX].replace("\t", " ")
    shown = "".join(char if char.isprintable() else "·" for char in shown)
    return f"{shown}\n{' ' * (caret - start)}^"
