"""
What is kept of arguments and results: nothing, redacted text, or text as it is.

Takes a value, gives attributes; both bounded. Nothing is kept unless a mode asks
for it, and redaction comes before anything leaves the call. Objects that are no
plain data stand as the name of their class: their `repr` is never asked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from agentguard.values import AttributeValue, InternalErrorHook
from agentguard.values import attributes as names

CaptureMode: TypeAlias = Literal["none", "metadata", "redacted", "full"]

CAPTURE_MODES: Final[tuple[CaptureMode, ...]] = ("none", "metadata", "redacted", "full")
"""From nothing to everything."""

_DEPTH_MAX: Final = 16
_ITEMS_MAX: Final = 1_000
_HASHED_CHARS_MAX: Final = 65_536
_CUT: Final = "…"

_ATTRIBUTES: Final[Mapping[tuple[str, bool], str]] = {
    ("tool", True): names.TOOL_CALL_ARGUMENTS,
    ("tool", False): names.TOOL_CALL_RESULT,
}
"""By kind of the span, and whether it is the input; for all others our own names."""


def narrower(first: CaptureMode, second: CaptureMode) -> CaptureMode:
    """
    Choose the mode that keeps less.

    Example:
        >>> narrower("full", "metadata")
        'metadata'

    """
    return min(first, second, key=CAPTURE_MODES.index)


def otel_upper_bound(setting: str | None) -> CaptureMode:
    """
    Read OpenTelemetry's switch for message content as the most that may be kept.

    Args:
        setting:
            The value of `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`, or
            None where it is not set.

    Returns:
        `full` where the switch is not set or lets content stand on spans, else
        `metadata`; an invalid value counts as NO_CONTENT, as its documentation says.

    """
    if setting is None or not setting.strip():
        return "full"
    return "full" if setting.strip().lower() in {"span_only", "span_and_event", "true"} else "metadata"


class ContentCapture:
    """
    How content is kept, for one runtime or one callable. Immutable, and cheap to ask.

    With a hash key each kept or unkept content also gets a keyed hash, so that
    equal inputs can be seen without their text.
    """

    __slots__ = ("_hash_key", "bytes_max", "is_on", "kinds", "mode", "on_internal_error")

    def __init__(
        self,
        mode: CaptureMode,
        *,
        bytes_max: int,
        kinds: Sequence[str],
        on_internal_error: InternalErrorHook,
        hash_key: bytes | None = None,
    ) -> None:
        self.mode: CaptureMode = mode
        self.bytes_max = bytes_max
        self.kinds = tuple(kinds)
        """What `redacted` replaces; names of `redaction.KINDS`."""
        self.on_internal_error = on_internal_error
        self._hash_key = hash_key
        self.is_on = mode in {"redacted", "full"} or (mode == "metadata" and hash_key is not None)
        """Whether `attributes` gives anything; ask before collecting content."""

    def __repr__(self) -> str:
        return f"ContentCapture({self.mode!r}, bytes_max={self.bytes_max})"

    def attributes(self, kind: str, value: object, *, is_input: bool) -> dict[str, AttributeValue]:
        """
        Make the attributes for what went into a call or came out of it.

        Args:
            kind:
                Kind of the span.
            value:
                Arguments by name, or the result.
            is_input:
                Whether it went in.

        Returns:
            Nothing in the mode `none`; at most a keyed hash in `metadata`; else
            the text, cut to the limit, with the number of redactions and of
            bytes cut. Empty after an internal error, which is reported.

        """
        if not self.is_on:
            return {}
        try:
            return self._attributes(kind, value, is_input=is_input)
        except Exception as error:
            self.on_internal_error("capture.content", error)
            return {}

    def _attributes(self, kind: str, value: object, *, is_input: bool) -> dict[str, AttributeValue]:
        """Hash, redact, render and cut."""
        found: dict[str, AttributeValue] = {}
        if self._hash_key is not None:
            whole = render(value, chars_max=_HASHED_CHARS_MAX)
            # A cut text would hash equal to another one with the same beginning.
            if len(whole) <= _HASHED_CHARS_MAX:
                # Loaded on use: most processes capture no content and redact nothing.
                from agentguard.redaction import keyed_hash

                found[names.INPUT_HASH if is_input else names.OUTPUT_HASH] = keyed_hash(whole, self._hash_key)
        if self.mode == "metadata":
            return found
        own = names.INPUT_CONTENT if is_input else names.OUTPUT_CONTENT
        self._keep(found, _ATTRIBUTES.get((kind, is_input), own), value)
        return found

    def _keep(self, found: dict[str, AttributeValue], name: str, value: object) -> None:
        """Redact, render and cut one value, and count."""
        if self.mode == "redacted":
            from agentguard.redaction import redact

            value, count = redact(value, self.kinds)
            before = found.get(names.CONTENT_REDACTIONS, 0)
            found[names.CONTENT_REDACTIONS] = count + (before if isinstance(before, int) else 0)
        text, cut = _cut(render(value, chars_max=self.bytes_max), self.bytes_max)
        found[name] = text
        if cut:
            found[names.CONTENT_TRUNCATED] = True

    def messages(
        self, *, inputs: object, outputs: object, instructions: object, tools: object
    ) -> dict[str, AttributeValue]:
        """
        Make the attributes for what a model was sent and gave back, as the conventions name them.

        Args:
            inputs:
                Messages to the model.
            outputs:
                Messages from it.
            instructions:
                Of the system.
            tools:
                Offered to the model.

        Returns:
            One attribute for each that is not empty, each cut to the limit;
            nothing in the modes `none` and `metadata`, and after an internal
            error, which is reported.

        """
        found: dict[str, AttributeValue] = {}
        if self.mode not in {"redacted", "full"}:
            return found
        try:
            for name, value in (
                (names.INPUT_MESSAGES, inputs),
                (names.OUTPUT_MESSAGES, outputs),
                (names.SYSTEM_INSTRUCTIONS, instructions),
                (names.TOOL_DEFINITIONS, tools),
            ):
                if value:
                    self._keep(found, name, value)
        except Exception as error:
            self.on_internal_error("capture.content", error)
            return {}
        return found


def _cut(text: str, bytes_max: int) -> tuple[str, bool]:
    """Cut a text to a number of bytes in UTF-8, between two characters."""
    data = text.encode("utf-8", "replace")
    if len(data) <= bytes_max:
        return data.decode("utf-8"), False
    return data[:bytes_max].decode("utf-8", "ignore"), True


def render(value: object, *, chars_max: int) -> str:
    """
    Write a value as text: a string as it is, all else as JSON.

    Args:
        value:
            Anything; deeper than 16 levels and beyond 1,000 items a container
            is cut.
        chars_max:
            About how many characters are wanted; a longer result says only
            that there was more.

    Returns:
        The text, at most a few times *chars_max* long.

    Example:
        >>> render({"a": (1, object())}, chars_max=100)
        '{"a": [1, "<object>"]}'

    """
    if issubclass(type(value), str):
        return str.__str__(value)[: chars_max + 1]
    budget = _Budget(chars_max)
    return json.dumps(budget.plain(value, 0), ensure_ascii=False)


class _Budget:
    """Turns values into plain data, and stops when enough characters are there."""

    __slots__ = ("left",)

    def __init__(self, chars_max: int) -> None:
        self.left = chars_max + 1

    def plain(self, value: Any, depth: int) -> Any:
        """Make one value plain; one that raises when it is looked at is named by its class, as any other object."""
        try:
            return self._plain(value, depth)
        except Exception:
            self.left -= 16
            return f"<{type(value).__qualname__}>"

    def _plain(self, value: Any, depth: int) -> Any:
        """Do it, for a value that does not raise."""
        if self.left <= 0 or depth > _DEPTH_MAX:
            return _CUT
        if value is None or value is True or value is False:
            self.left -= 4
            return value
        if isinstance(value, str):
            text = str.__str__(value)[: self.left]
            self.left -= len(text) + 2
            return text
        if isinstance(value, (int, float)):
            self.left -= 8
            return _number(value)
        if isinstance(value, (bytes, bytearray)):
            self.left -= 16
            return f"<{len(value)} bytes>"
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        """Make a container plain, or name what is none."""
        if isinstance(value, Mapping):
            return self._mapping(value.items(), depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            items: list[Any] = []
            for item in list(value)[: _ITEMS_MAX + 1]:
                if self.left <= 0 or len(items) >= _ITEMS_MAX:
                    items.append(_CUT)
                    break
                self.left -= 2
                items.append(self.plain(item, depth + 1))
            return items
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
            return self._mapping(fields, depth)
        if hasattr(type(value), "__pydantic_fields__"):
            return self._mapping(list(vars(value).items()), depth)
        self.left -= 16
        return f"<{type(value).__qualname__}>"

    def _mapping(self, items: Any, depth: int) -> dict[str, Any]:
        """Make pairs plain; keys that are no text are written as one."""
        plain: dict[str, Any] = {}
        for key, item in items:
            if self.left <= 0 or len(plain) >= _ITEMS_MAX:
                plain[_CUT] = _CUT
                break
            name = key if isinstance(key, str) else str(self.plain(key, depth + 1))
            self.left -= len(name) + 4
            plain[str.__str__(name)[:_NAME_CHARS_MAX]] = self.plain(item, depth + 1)
        return plain


_NAME_CHARS_MAX: Final = 256


def _number(value: float) -> int | float | str:
    """Write numbers that JSON does not have as text, and huge ones by their size."""
    if isinstance(value, int):
        number = int.__int__(value)
        return number if number.bit_length() <= 256 else f"<integer of {number.bit_length()} bits>"
    number_ = float.__float__(value)
    return number_ if number_ - number_ == 0 else float.__repr__(number_)
