"""
The canonical layout of documents: indentation, quotes of keys, line width, white space.

Comments stay where they are, and so does the order of keys. What a document
says is not touched: whatever is written is read again first, and compared.
"""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.emitter import RoundTripEmitter
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import MappingEndEvent

from agentguard.errors import PolicyDocumentError
from agentguard.policy._problems import Problems, Source
from agentguard.policy._reader import plain
from agentguard.policy._yaml import decode, parse

WIDTH = 120
"""Characters of a line; longer text is folded where that changes nothing."""

_PASSES_MAX = 4
_COMMENT = re.compile(r"(?m)(?:^|\s)#.*$")


def format_document(data: bytes, path: str = "policy.yaml") -> str:
    r"""
    Lay a file out canonically.

    Args:
        data:
            Its bytes.
        path:
            Its name, for messages.

    Returns:
        The text; formatting it again changes nothing.

    Raises:
        PolicyDocumentError: It is not what the loader reads as YAML, or cannot be laid out without
            touching what it says.

    Example:
        >>> format_document(b"kind:   Policy # mine\nrules:\n- id: A\n  at: 'tool.before'\n")
        "kind: Policy   # mine\nrules:\n  - id: A\n    at: 'tool.before'\n"
    """
    text, meaning = _read(data, path)
    for _ in range(_PASSES_MAX):
        laid_out = _lay_out(text, path)
        bare = "".join(f"{line.rstrip()}\n" for line in laid_out.split("\n")[:-1])
        if _read(bare.encode(), path)[1] == meaning:
            # White space at the end of a line means something in blocks of text only.
            laid_out = bare
        if laid_out == text:
            return text
        if _read(laid_out.encode(), path)[1] != meaning or len(_COMMENT.findall(laid_out)) < len(
            _COMMENT.findall(text)
        ):
            raise _cannot(path, "its layout cannot be changed without changing what it says")
        text = laid_out
    raise _cannot(path, "its layout does not settle")


def _read(data: bytes, path: str) -> tuple[str, object]:
    """Text, and what it says to the loader."""
    problems = Problems()
    text = decode(path, data, problems)
    if text is None:
        raise problems.error()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    nodes = parse(Source(path, text), text, problems)
    if problems.count:
        raise problems.error()
    if not nodes:
        raise _cannot(path, "the file holds no document")
    return text, [_typed(plain(node)) for node in nodes]


def _typed(value: object) -> object:
    """Plain data in which 1, 1.0 and true differ, and NaN equals itself."""
    if isinstance(value, dict):
        return [(key, _typed(part)) for key, part in value.items()]
    if isinstance(value, list):
        return ["list", *(_typed(part) for part in value)]
    return (type(value).__name__, repr(value))


class _Emitter(RoundTripEmitter):
    """Writes `{ a: b }` with air, and `{}` without."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.brace_single_entry_mapping_in_flow_sequence = True
        self._is_empty = False

    def expect_first_flow_mapping_key(self) -> None:
        """Put air behind `{`, where anything follows."""
        self._is_empty = isinstance(self.event, MappingEndEvent)
        if not self._is_empty:
            self.stream.write(" ")
            self.column += 1
        super().expect_first_flow_mapping_key()
        self._is_empty = False

    def write_indicator(
        self, indicator: Any, need_whitespace: Any, whitespace: bool = False, indention: bool = False
    ) -> None:
        """Put air before `}`."""
        if indicator == "}" and not self._is_empty:
            indicator = " }"
        super().write_indicator(indicator, need_whitespace, whitespace, indention)


def _lay_out(text: str, path: str) -> str:
    """One pass."""
    yaml = YAML()
    yaml.Emitter = _Emitter
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.allow_unicode = True
    stream = io.StringIO()
    try:
        documents = list(yaml.load_all(text))
        yaml.explicit_start = False
        yaml.dump_all(documents, stream)
    except (YAMLError, ValueError, RecursionError, AttributeError) as error:
        raise _cannot(path, f"its layout cannot be written ({type(error).__name__})") from error
    lines = stream.getvalue().split("\n")
    if lines and lines[0] == "---" and not text.startswith("---"):
        del lines[0]
    return "\n".join(lines).rstrip("\n") + "\n"


def _cannot(path: str, why: str) -> PolicyDocumentError:
    """The error for a file that is left as it is."""
    return PolicyDocumentError(f"{path}: {why}").hint("the file is left as it is")
