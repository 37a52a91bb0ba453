"""Take typed values out of nodes; what is not right becomes a problem with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from agentguard.policy._model import Place
from agentguard.policy._nodes import Fields, Items, Node, Scalar
from agentguard.policy._problems import Problems, Source, did_you_mean, quoted

_T = TypeVar("_T", bound=str)

TEXT_CHARACTERS_MAX = 2000
"""Length of a title, a message, a name."""

DURATION_S_MAX = 30 * 86400.0
"""Longest duration that a rule may name."""

_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SAFE_INTEGER = 1 << 63


class Reader:
    """Reads one document of one file, and notes every mistake."""

    __slots__ = ("problems", "source")

    def __init__(self, source: Source, problems: Problems) -> None:
        self.source = source
        self.problems = problems

    def place(self, node: Node) -> Place:
        """Where a node stands."""
        return Place(self.source.path, node.line, node.column)

    def problem(self, node: Node, text: str, *, code: str, hint: str = "") -> None:
        """Note a mistake at a node."""
        self.problems.add(self.source, node.line, node.column, text, code=code, hint=hint)

    def fields(
        self,
        node: Node,
        what: str,
        *,
        required: Sequence[str],
        optional: Collection[str] = (),
        later: Mapping[str, str] | None = None,
    ) -> dict[str, Node] | None:
        """
        Take a mapping with known keys.

        Args:
            node:
                What stands there.
            what:
                What it is, for messages: "a rule".
            required:
                Keys that must be there.
            optional:
                Keys that may be there.
            later:
                Keys that the format will have, with the sentence that says why they do not load now.

        Returns:
            The values of known keys, or None where the node is no mapping.
        """
        if not isinstance(node, Fields):
            self.problem(node, f"{what}: got {node.says}, expected a mapping", code="wrong-type")
            return None
        known = [*required, *sorted(optional)]
        found: dict[str, Node] = {}
        for name, (key, value) in node.entries.items():
            if name in known:
                found[name] = value
            elif later and name in later:
                self.problem(key, f"`{name}` in {what}: {later[name]}", code="not-supported")
            else:
                hint = did_you_mean(name, [k for k in known if k not in node.entries] or known)
                self.problem(key, f"unknown field {quoted(name)} in {what}", code="unknown-field", hint=hint)
                meant = hint.removeprefix("did you mean `").removesuffix("`?")
                if meant in known and meant not in node.entries:
                    # Read on as if it had been written: one slip is one problem, and what stands in it is checked.
                    found.setdefault(meant, value)
        missing = [name for name in required if name not in found]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            self.problem(node, f"{what} has no {names}", code="missing-field", hint=f"write `{missing[0]}:`")
        return found

    def text(self, node: Node | None, what: str, *, characters_max: int = TEXT_CHARACTERS_MAX) -> str | None:
        """Take a text that is not empty."""
        if node is None:
            return None
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            hint = "put it in quotes" if isinstance(node, Scalar) and node.value is not None else ""
            self.problem(node, f"{what}: got {node.says}, expected text", code="wrong-type", hint=hint)
            return None
        if not node.text.strip():
            self.problem(node, f"{what} is empty", code="wrong-type")
            return None
        if len(node.text) > characters_max:
            self.problem(
                node,
                f"{what} has {len(node.text)} characters, at most {characters_max} are allowed",
                code="too-long",
            )
            return None
        return node.text

    def name(self, node: Node | None, what: str, pattern: re.Pattern[str], expected: str) -> str | None:
        """Take a text of a given form."""
        text = self.text(node, what, characters_max=200)
        if text is None or node is None or pattern.fullmatch(text):
            return text
        self.problem(node, f"{what} {quoted(text)}: expected {expected}", code="wrong-form")
        return None

    def word(
        self, node: Node | None, what: str, words: Sequence[_T], *, code: str = "unknown-word"
    ) -> _T | None:
        """Take one of some words."""
        text = self.text(node, what)
        if text is None or node is None:
            return None
        for word in words:
            if word == text:
                return word
        self.problem(node, f"unknown {what} {quoted(text)}", code=code, hint=did_you_mean(text, words))
        return None

    def items(self, node: Node | None, what: str, *, is_empty_fine: bool = False) -> list[Node] | None:
        """Take a list."""
        if node is None:
            return None
        if not isinstance(node, Items):
            self.problem(
                node, f"{what}: got {node.says}, expected a list", code="wrong-type", hint="write `[...]`"
            )
            return None
        if not node.items and not is_empty_fine:
            self.problem(
                node, f"{what} is an empty list", code="empty-list", hint="leave it out, or name something"
            )
            return None
        return node.items

    def texts(self, node: Node | None, what: str) -> tuple[str, ...] | None:
        """Take a list of texts, each once."""
        items = self.items(node, what)
        if items is None:
            return None
        found: list[str] = []
        for item in items:
            text = self.text(item, f"entry of {what}", characters_max=400)
            if text is None:
                continue
            if text in found:
                self.problem(item, f"{quoted(text)} stands twice in {what}", code="duplicate-entry")
            found.append(text)
        return tuple(found)

    def whole_number(self, node: Node | None, what: str, *, least: int, most: int) -> int | None:
        """Take an integer within bounds."""
        if node is None:
            return None
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool):
            hint = ""
            if isinstance(node, Scalar) and not node.is_plain and node.text.strip().isdigit():
                hint = "write the number without quotes"
            self.problem(
                node, f"{what}: got {node.says}, expected a whole number", code="wrong-type", hint=hint
            )
            return None
        if not least <= value <= most:
            self.problem(node, f"{what}: got {value}, expected {least} to {most}", code="out-of-range")
            return None
        return value

    def duration_s(self, node: Node | None, what: str) -> float | None:
        """Take a duration such as `15m`, in seconds."""
        if node is None:
            return None
        text = node.text if isinstance(node, Scalar) else ""
        found = _DURATION.fullmatch(text)
        if found is None:
            hint = (
                f"did you mean `{text}s`?" if text.isdigit() else "a number and s, m, h or d, such as `15m`"
            )
            self.problem(node, f"{what}: got {node.says}, expected a duration", code="wrong-type", hint=hint)
            return None
        seconds = int(found[1]) * _UNITS_S[found[2]]
        if not 0 < seconds <= DURATION_S_MAX:
            self.problem(
                node, f"{what}: got {text}, expected more than 0 and at most 30d", code="out-of-range"
            )
            return None
        return seconds

    def data(self, node: Node, what: str, *, is_finite: bool = True) -> object:
        """
        Take any plain data.

        Args:
            node:
                What stands there.
            what:
                What it is, for messages.
            is_finite:
                Refuse infinity and NaN.

        Returns:
            Text, numbers, booleans, None, lists and mappings of these; 0 in place of a number
            that was refused.
        """
        if isinstance(node, Items):
            return [self.data(item, what, is_finite=is_finite) for item in node.items]
        if isinstance(node, Fields):
            return {
                name: self.data(value, what, is_finite=is_finite) for name, (_, value) in node.entries.items()
            }
        value = node.value
        if isinstance(value, float) and is_finite and not math.isfinite(value):
            self.problem(node, f"{what}: got {node.says}, expected a finite number", code="out-of-range")
            return 0.0
        if isinstance(value, int) and not -_SAFE_INTEGER <= value < _SAFE_INTEGER:
            self.problem(node, f"{what}: got {node.says}, expected at most 64 bits", code="out-of-range")
            return 0.0
        return value


def plain(node: Node) -> object:
    """Turn a node into plain data as it is written, for the revision."""
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    if isinstance(node, Fields):
        return {name: plain(value) for name, (_, value) in node.entries.items()}
    return node.value
