"""
The general parser of YAML: whatever is not written in the usual way.

ruamel.yaml is a megabyte of code, loaded with the first file that needs it.
"""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from agentguard.policy._nodes import DEPTH_MAX, NODES_MAX, Fields, Items, Node, Scalar
from agentguard.policy._problems import Problems, Source, quoted


class RefusedError(Exception):
    """One problem was noted, and nothing more can be read of this file."""


def parse_generally(source: Source, text: str, problems: Problems) -> list[Node]:
    """
    Read all documents of one file.

    Args:
        source:
            The file, for excerpts.
        text:
            Its content.
        problems:
            Where problems go; after one in the syntax nothing more of the file is read.

    Returns:
        One node a document; empty after a problem in the syntax.
    """
    try:
        return read_events(source, text, problems)
    except RefusedError:
        return []
    except ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        problems.add(
            source,
            line,
            column,
            f"character U+{error.character:04X} is not allowed in YAML",
            code="yaml-syntax",
        )
    except MarkedYAMLError as error:
        _syntax(source, error, problems)
    except (YAMLError, ValueError, RecursionError) as error:
        # Rare ends of the scanner without a place; its words are about the syntax only.
        problems.add(source, 1, 1, f"not YAML: {quoted(str(error).splitlines()[0])}", code="yaml-syntax")
    return []


def read_events(source: Source, text: str, problems: Problems) -> list[Node]:
    """
    Read all documents of one file with the general parser.

    Args:
        source:
            The file, for excerpts.
        text:
            Its content.
        problems:
            Where problems go that do not end the reading.

    Returns:
        One node a document.

    Raises:
        RefusedError: Something is written that a policy file needs not have; it was noted.
        YAMLError: It is not YAML.
    """
    return _Builder(source, problems).build(text)


class _Builder:
    """Makes nodes of events, without recursion."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._documents: list[Node] = []
        self._open: list[Items | Fields] = []
        self._keys: list[Scalar | None] = []
        self._nodes = 0

    def build(self, text: str) -> list[Node]:
        """Read the events of one file."""
        for event in YAML(typ="safe", pure=True).parse(text):
            if isinstance(event, CollectionEndEvent):
                self._open.pop()
                self._keys.pop()
                continue
            if isinstance(event, DocumentStartEvent):
                if event.tags or (event.version and tuple(event.version) != (1, 2)):
                    self._refuse(
                        event, "a directive other than `%YAML 1.2`", "yaml-directive", "remove the line"
                    )
                continue
            if isinstance(event, AliasEvent):
                self._refuse(
                    event, f"alias `*{event.anchor}`", "yaml-alias",
                    "write the value out, or use `vars`: anchors and aliases are not read",
                )  # fmt: skip
            if isinstance(event, (ScalarEvent, SequenceStartEvent, MappingStartEvent)):
                self._start(event)
        return self._documents

    def _start(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent) -> None:
        """Put one new node where it belongs."""
        if event.anchor is not None:
            self._refuse(
                event, f"anchor `&{event.anchor}`", "yaml-alias",
                "write the value out, or use `vars`: anchors and aliases are not read",
            )  # fmt: skip
        if event.tag is not None:
            self._refuse(
                event,
                f"tag {quoted(str(event.tag))}",
                "yaml-tag",
                "remove the tag: values have the type they are written in",
            )
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self._refuse(event, f"more than {NODES_MAX} values", "file-too-large", "split the file")
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        node: Node
        if isinstance(event, ScalarEvent):
            node = Scalar(event.value, line, column, event.style or "")
        elif isinstance(event, SequenceStartEvent):
            node = Items(line, column)
        else:
            node = Fields(line, column)
        self._place(event, node)
        if not isinstance(node, Scalar):
            if len(self._open) >= DEPTH_MAX:
                self._refuse(event, f"nested deeper than {DEPTH_MAX} levels", "too-deep", "")
            self._open.append(node)
            self._keys.append(None)

    def _place(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent, node: Node) -> None:
        """Add a node to the collection that is open, or as a document."""
        if not self._open:
            self._documents.append(node)
            return
        parent = self._open[-1]
        if isinstance(parent, Items):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node, Scalar):
                self._refuse(event, f"{node.says} as a key, expected text", "yaml-key", "")
            elif node.text == "<<" and node.is_plain:
                self._refuse(event, "merge key `<<`", "yaml-alias", "write the keys out: nothing is merged")
            else:
                self._keys[-1] = node
            return
        self._keys[-1] = None
        if key.text in parent.entries:
            first = parent.entries[key.text][0]
            self._problems.add(
                self._source, key.line, key.column,
                f"key {quoted(key.text)} stands twice, first in line {first.line}",
                code="duplicate-key", hint="keep one of them",
            )  # fmt: skip
            return
        parent.entries[key.text] = (key, node)

    def _refuse(self, event: object, text: str, code: str, hint: str) -> None:
        """Note a problem after which the file is not read on."""
        mark = event.start_mark  # type: ignore[attr-defined]
        said = text if code in ("file-too-large", "too-deep", "yaml-key") else f"{text} is not allowed"
        self._problems.add(self._source, mark.line + 1, mark.column + 1, said, code=code, hint=hint)
        raise RefusedError


def _syntax(source: Source, error: MarkedYAMLError, problems: Problems) -> None:
    """Say in our words what the parser could not read."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    said = " ".join(str(error.problem or error.context or "not YAML").split())
    code, hint = "yaml-syntax", ""
    if "'\\t'" in said:
        code, text, hint = "tab", "a tab where YAML wants spaces", "indent with spaces"
    elif "mapping values are not allowed" in said:
        text = "a `:` where none can stand"
        hint = "check the indentation, and put text that holds `: ` in quotes or after `|`"
    elif "could not find expected ':'" in said:
        text, hint = "a key without `:`", "write `key: value`"
    elif "end of stream" in said and "quoted scalar" in str(error.context):
        mark = error.context_mark or mark
        line, column = mark.line + 1, mark.column + 1
        text, hint = "a quote that is never closed", "close it on this line"
    elif "undefined alias" in said or "duplicate anchor" in said:
        code, text, hint = (
            "yaml-alias",
            "anchors and aliases are not allowed",
            "write the value out, or use `vars`",
        )
    elif "undefined tag handle" in said:
        code, text, hint = "yaml-tag", "tags are not allowed", "remove the tag"
    elif "incompatible YAML" in said or "duplicate YAML directive" in said:
        code, text, hint = (
            "yaml-directive",
            "a directive other than `%YAML 1.2` is not allowed",
            "remove the line",
        )
    else:
        during = f" {error.context}" if error.context and error.problem else ""
        text = f"not YAML: {said}{during}"
    line = min(line, max(1, len(source.lines)))
    problems.add(source, line, column, text.replace("\n", " "), code=code, hint=hint)
