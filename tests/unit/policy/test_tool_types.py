"""Types of arguments: from annotations, from MCP schemas, and where they differ from what is declared."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal, NewType, TypedDict

import pydantic
import pytest

from agentguard.policy import arguments_of, disagreement, load_texts, tools_from_mcp, write_tool_schema
from tests.support.policies import document


class Color(enum.Enum):
    """A choice of words."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """A choice of numbers."""

    LOW = 1
    HIGH = 2


class Order(pydantic.BaseModel):
    """A model."""

    id: str


@dataclasses.dataclass
class Line:
    """A dataclass."""

    n: int


class Box(TypedDict):
    """A typed mapping."""

    n: int


class Opaque:
    """A class that nothing is known of."""


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, "int"), (float, "double"), (str, "string"), (bool, "bool"), (bytes, "bytes"), (None, "null"),
        (decimal.Decimal, "double"), (dt.datetime, "timestamp"), (dt.timedelta, "duration"), (dt.date, "string"),
        (list[str], "list<string>"), (set[int], "list<int>"), (tuple[int, ...], "list<int>"),
        (tuple[int, float], "list<double>"), (tuple[int, str], "list<dyn>"), (list, "list<dyn>"),
        (dict[str, int], "map<string, int>"), (dict[int, list[decimal.Decimal]], "map<int, list<double>>"),
        (dict, "map<dyn, dyn>"), (Order, "map<string, dyn>"), (Line, "map<string, dyn>"), (Box, "map<string, dyn>"),
        (list[Order], "list<map<string, dyn>>"), (Color, "string"), (Level, "int"), (Literal["a", "b"], "string"),
        (Literal["a", 1], "dyn"), (Annotated[int, pydantic.Field(gt=0)], "int"), (UserId, "int"),
        (int | float, "double"), (int | str, "dyn"), (str | None, "dyn"),
        (Opaque, "dyn"), (list[Opaque], "dyn"), (pathlib.Path, "dyn"), (Any, "dyn"), (object, "dyn"),
        (Callable[..., int], "dyn"), (inspect.Parameter.empty, "dyn"),
    ],
)  # fmt: skip
def test_annotations(annotation: object, expected: str) -> None:
    """Each annotation has the type in which a condition reads its values."""

    def tool(x): ...  # type: ignore[no-untyped-def]

    if annotation is not inspect.Parameter.empty:
        tool.__annotations__["x"] = annotation
    assert arguments_of(tool).types == {"x": expected}


def test_parameters_of_every_kind() -> None:
    """Positional, with defaults, several, keyword-only; any keyword makes it open; a receiver is left out."""

    def tool(a: int, /, b: str = "", *rest: float, c: bool, **more: int) -> None: ...

    found = arguments_of(tool)
    assert (dict(found.types), found.is_open) == (
        {"a": "int", "b": "string", "rest": "list<double>", "c": "bool"},
        True,
    )

    class Desk:
        def tool(self, n: int) -> None: ...

    assert dict(arguments_of(Desk.tool, skip=1).types) == {"n": "int"}


def test_an_annotation_that_cannot_be_resolved_is_dyn() -> None:
    """A name that exists for a type checker only says nothing at run time."""

    def tool(a: Missing, b: int) -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert arguments_of(tool).types == {"a": "dyn", "b": "dyn"}


MCP = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {
        "tools": [
            {
                "name": "files/write",
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "path": {"type": "string"},
                        "mode": {"enum": ["w", "a"]},
                        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
                        "size": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
                        "who": {"type": ["string", "null"]},
                        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                        "in-order": {"const": True},
                        "free": {},
                        "nothing": {"type": "null"},
                    },
                    "$defs": {"line": {"type": "string"}},
                },
            },
            {"name": "ping", "inputSchema": {"type": "object"}},
        ]
    },
}


def test_mcp_schemas() -> None:
    """The answer to tools/list, its result, and the bare list say the same."""
    tools = tools_from_mcp(MCP)
    assert dict(tools["files/write"].types) == {
        "path": "string", "mode": "string", "lines": "list<string>", "size": "double", "who": "dyn",
        "tags": "map<string, string>", "in-order": "bool", "free": "dyn", "nothing": "null",
    }  # fmt: skip
    assert tools["ping"].types == {}
    result: Any = MCP["result"]
    assert tools_from_mcp(result) == tools_from_mcp(result["tools"]) == tools


def test_what_is_written_loads_and_types_arguments() -> None:
    """A ToolSchema of strange names loads as it was meant, and its arguments are checked."""
    tools = tools_from_mcp(MCP)
    text = write_tool_schema("mcp", tools)
    policy = document(
        "D | tool.before | tool.name == 'files/write' && args['in-order'] && args.size > 3 | deny"
    )
    loaded = load_texts({"s.yaml": text, "p.yaml": policy})
    assert loaded.tool_schemas == {name: dict(one.types) for name, one in tools.items()}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "no tools"), ([], "no tools"), ("x", "no tools"), ([{}], "tool 0 has no name"),
        ([{"name": "a"}], "no `inputSchema`"), ([{"name": "a", "inputSchema": {"type": "string"}}], "object"),
        ([{"name": "a", "inputSchema": {}}, {"name": "a", "inputSchema": {}}], "stands twice"),
        ([{"name": "a", "inputSchema": {"properties": {"x y": {}}}}], "argument `x y`"),
    ],
)  # fmt: skip
def test_mcp_documents_that_are_none(wrong: object, said: str) -> None:
    """Each is refused with what is missing."""
    with pytest.raises(ValueError, match=said):
        tools_from_mcp(wrong)


def test_a_reference_in_a_circle_ends() -> None:
    """Depth is bounded."""
    schema = {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert tools_from_mcp([{"name": "t", "inputSchema": schema}])["t"].types == {"x": "dyn"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"a": "int", "b": "double"}, ""), ({"a": "double", "b": "double"}, ""), ({"a": "dyn", "b": "dyn"}, ""),
        ({"a": "int"}, "takes `b`"), ({"a": "int", "b": "int"}, "`b` is double in the function, and int"),
        ({"a": "string", "b": "double"}, "`a` is int"), ({"a": "int", "b": "double", "c": "int"}, "declares `c`"),
    ],
)  # fmt: skip
def test_disagreement(declared: dict[str, str], said: str) -> None:
    """A missing, a further and a contradicting argument are each named; a whole number may stand for a double."""

    def tool(a: int, b: float) -> None: ...

    found = disagreement(declared, arguments_of(tool))
    assert said in found
    assert bool(found) is bool(said)


def test_an_open_function_takes_what_is_declared() -> None:
    """Keywords that a function does not name may be declared."""

    def tool(a: int, **more: Any) -> None: ...

    assert disagreement({"a": "int", "b": "string"}, arguments_of(tool)) == ""
