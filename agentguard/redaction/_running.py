"""
One text that arrives in pieces: looked at up to its last border, held from there on.

What is settled is final: nothing that follows can make it part of a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentguard.redaction._borders import last_border
from agentguard.redaction._text import Finding, clean, marker, scan

_SHORT_CHARS: Final = 512
"""Up to here each piece is looked at; a longer unbroken text when it has grown by an eighth, so that
many small pieces of a long word cost no more than a few looks at each character."""


class RunningText:
    """
    What detectors see of one text.

    Args:
        kinds:
            What is looked for.
        redacts:
            What of it is replaced.
        held_chars_max:
            Longest stretch without a border.
        looks_late:
            Look at the whole text when it is over, and not before.
    """

    __slots__ = (
        "_edits", "_held", "_held_chars_max", "_kinds", "_look_at_chars", "_looks_late", "_redacts", "is_beyond", "kinds",
        "length", "replaced", "settled",
    )  # fmt: skip

    def __init__(
        self, kinds: Sequence[str], redacts: Sequence[str], *, held_chars_max: int, looks_late: bool = False
    ) -> None:
        self._kinds = kinds
        self._redacts = redacts
        self._held_chars_max = held_chars_max
        self._held = ""
        self._looks_late = looks_late
        self._look_at_chars = 0
        self._edits: list[Finding] = []
        self.length = 0
        """Characters that have arrived."""
        self.settled = 0
        """Characters that no later finding can touch."""
        self.kinds: frozenset[str] = frozenset()
        """What was found in them."""
        self.replaced = 0
        self.is_beyond = False
        """Whether a stretch without a border was longer than can be held."""

    @property
    def is_held(self) -> bool:
        """Whether something is not settled yet."""
        return self.settled < self.length

    def feed(self, text: str) -> None:
        """Add a piece, and settle what can be."""
        self.length += len(text)
        self._held += text
        if len(self._held) < self._look_at_chars:
            return
        border = 0 if self._looks_late else last_border(self._held, self._kinds)
        if border:
            self._settle(border)
        elif len(self._held) > self._held_chars_max:
            self.is_beyond = True
        length = len(self._held)
        self._look_at_chars = min(length + length // 8, self._held_chars_max) if length > _SHORT_CHARS else 0

    def end(self) -> None:
        """Settle all: the text is over. More of it would be a new text."""
        if self._held:
            self._settle(len(self._held))
        self._look_at_chars = 0

    def _settle(self, border: int) -> None:
        part, self._held = self._held[:border], self._held[border:]
        if self._redacts:
            cleaned = clean(part, self._redacts)
            self.kinds |= cleaned.kinds
            self.replaced += cleaned.replaced
            self._edits += (
                Finding(kind, self.settled + start, self.settled + end) for kind, start, end in cleaned.edits
            )
        if self._kinds != self._redacts:
            self.kinds |= scan(part, self._kinds).kinds
        self.settled += border

    def rewritten(self, text: str, start: int) -> str:
        """
        Say what stands at a settled place instead of what arrived there.

        Args:
            text:
                What arrived.
            start:
                Characters before it.

        Returns:
            The text without its findings: each is replaced in the piece where it
            begins, and left out of the pieces after that.
        """
        end = start + len(text)
        pieces: list[str] = []
        position = start
        for kind, first, last in self._edits:
            if last <= start:
                continue
            if first >= end:
                break
            pieces.append(text[position - start : max(first, position) - start])
            if first >= start:
                pieces.append(marker(kind))
            position = min(last, end)
        return "".join((*pieces, text[position - start :]))

    def forget(self, start: int) -> None:
        """Forget replacements that end before a place which nobody will ask for again."""
        while self._edits and self._edits[0].end <= start:
            del self._edits[0]
