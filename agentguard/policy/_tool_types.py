"""
Types of arguments, from the annotations of functions and from JSON Schemas of tools.

What a type cannot be told for certain is `dyn`: a condition then checks the value
when it runs. pydantic reads the annotations, so that whatever it understands
(aliases, unions, `Annotated`, models) is understood here; it is loaded when first asked.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_type_hints, is_typeddict

from agentguard.policy._other_readers import ARGUMENT
from agentguard.policy.conditions.types import (
    DYN,
    NUMBERS,
    STRING,
    Type,
    goes_with,
    list_of,
    map_of,
    parse_type,
)

DEPTH_MAX = 6
"""Lists of lists; deeper ones hold `dyn`."""

TOOLS_MAX = 5_000
"""Tools that one document of MCP schemas may have."""

_SIMPLE: Mapping[str, str] = {
    "int": "int",
    "float": "double",
    "decimal": "double",
    "str": "string",
    "bool": "bool",
    "bytes": "bytes",
    "none": "null",
    "datetime": "timestamp",
    "timedelta": "duration",
    # A day without a time reaches conditions as text, such as 2026-11-22.
    "date": "string",
    "model": "map<string, dyn>",
    "dataclass": "map<string, dyn>",
    "typed-dict": "map<string, dyn>",
}
"""Kinds of pydantic's core schemas whose values reach conditions in one form."""

_INSIDE = {
    "default": "schema",
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "custom-error": "schema",
    "definitions": "schema",
    "json-or-python": "python_schema",
}
"""Kinds that only wrap another schema."""

_JSON = {
    "integer": "int",
    "number": "double",
    "string": "string",
    "boolean": "bool",
    "null": "null",
    "object": "map<string, dyn>",
}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_RESERVED = frozenset({"null", "true", "false"})


class Arguments(NamedTuple):
    """What a callable takes."""

    types: Mapping[str, str]
    """By parameter, in the notation of conditions."""
    is_open: bool = False
    """Whether it takes keywords that it does not name."""


def arguments_of(function: Callable[..., Any], *, skip: int = 0) -> Arguments:
    """
    Read the types of a function's arguments from its annotations.

    Args:
        function:
            Any callable with a signature.
        skip:
            Leading parameters that are the receiver of a method.

    Returns:
        A type for each parameter; `dyn` where there is no annotation, or none that says more.

    Raises:
        ValueError: The callable has no signature.

    Example:
        >>> def refund(order_id: str, amount_usd: float, tags: list[str] = []) -> str: ...
        >>> dict(arguments_of(refund).types)
        {'order_id': 'string', 'amount_usd': 'double', 'tags': 'list<string>'}
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except TypeError as error:
        raise ValueError(str(error)) from None
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:
        # An annotation that cannot be resolved at run time says nothing; the argument is `dyn`.
        hints = {p.name: p.annotation for p in parameters if not isinstance(p.annotation, str)}
    types: dict[str, str] = {}
    is_open = False
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
            continue
        of = _annotated(hints.get(parameter.name, parameter.empty))
        types[parameter.name] = str(list_of(of) if parameter.kind is inspect.Parameter.VAR_POSITIONAL else of)
    return Arguments(types, is_open)


def _annotated(annotation: Any) -> Type:
    """The type of one annotation."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return DYN
    if is_typeddict(annotation):
        # Before Python 3.12 pydantic does not take those of `typing`.
        return parse_type(_SIMPLE["typed-dict"])
    # Imported here: only where annotations are read is pydantic loaded.
    from pydantic import TypeAdapter

    try:
        return _core(TypeAdapter(annotation).core_schema, DEPTH_MAX)
    except Exception:
        # A class that pydantic does not know, or one whose own schema fails: nothing is known of the value.
        return DYN


def _core(schema: Any, depth: int) -> Type:
    """The type of what pydantic's core schema describes, in the form in which conditions read it."""
    kind = schema.get("type")
    if kind in _SIMPLE:
        return parse_type(_SIMPLE[kind])
    if depth <= 0:
        return DYN
    if kind in _INSIDE:
        return _core(schema[_INSIDE[kind]], depth - 1)
    if kind in ("list", "set", "frozenset"):
        return list_of(_core(schema.get("items_schema", {}), depth - 1))
    if kind == "tuple":
        return list_of(_one([_core(item, depth - 1) for item in schema["items_schema"]]))
    if kind == "dict":
        key = _core(schema.get("keys_schema", {}), depth - 1)
        return map_of(key if key.kind in ("string", "int", "bool") else DYN,
                      _core(schema.get("values_schema", {}), depth - 1))  # fmt: skip
    if kind == "union":
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        return _one([_core(choice, depth - 1) for choice in choices])
    if kind == "literal":
        return _of_values(schema["expected"])
    if kind == "enum":
        return _of_values([member.value for member in schema["members"]])
    return DYN


def _one(types: list[Type]) -> Type:
    """The one type of several: itself, `double` of two numbers, else `dyn`."""
    found = set(types)
    if len(found) == 1:
        return types[0]
    return parse_type("double") if found and found <= NUMBERS else DYN


def _of_values(values: Any) -> Type:
    """The type of some constants."""
    named = {str: "string", bool: "bool", int: "int", float: "double"}
    plain = [getattr(value, "value", value) for value in values]
    return _one([parse_type(named.get(type(value), "dyn")) for value in plain])


def arguments_from_json_schema(schema: Mapping[str, Any]) -> Arguments:
    """
    Read the types of a tool's arguments from the JSON Schema of its input.

    Args:
        schema:
            An object schema, such as `inputSchema` of a tool of the Model Context Protocol.

    Returns:
        A type for each property; `dyn` where it may be of several types.

    Raises:
        ValueError: It is no object schema.

    Example:
        >>> schema = {"type": "object", "properties": {"n": {"type": "integer"}, "to": {"type": ["string", "null"]}}}
        >>> dict(arguments_from_json_schema(schema).types)
        {'n': 'int', 'to': 'dyn'}
    """
    properties = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not isinstance(properties, Mapping):
        raise ValueError("expected a JSON Schema of type object")
    for name in properties:
        if not isinstance(name, str) or not ARGUMENT.fullmatch(name):
            raise ValueError(f"argument `{str(name)[:80]}`: expected letters, digits, `_`, `.`, `-`")
    return Arguments({name: str(_json(part, schema, DEPTH_MAX)) for name, part in properties.items()})


def _json(part: object, root: Mapping[str, Any], depth: int) -> Type:
    """The type of what a JSON Schema describes."""
    if not isinstance(part, Mapping) or depth <= 0:
        return DYN
    reference = part.get("$ref")
    if isinstance(reference, str):
        return _json(_follow(reference, root), root, depth - 1)
    if "const" in part:
        return _of_values([part["const"]])
    if isinstance(part.get("enum"), list):
        return _of_values(part["enum"])
    for several in ("anyOf", "oneOf"):
        if isinstance(part.get(several), list) and part[several]:
            return _one([_json(choice, root, depth - 1) for choice in part[several]])
    if isinstance(part.get("allOf"), list) and len(part["allOf"]) == 1:
        return _json(part["allOf"][0], root, depth - 1)
    kind = part.get("type")
    if kind == "array":
        return list_of(_json(part.get("items"), root, depth - 1))
    if (
        kind == "object"
        and not part.get("properties")
        and isinstance(part.get("additionalProperties"), Mapping)
    ):
        return map_of(STRING, _json(part["additionalProperties"], root, depth - 1))
    return parse_type(_JSON[kind]) if isinstance(kind, str) and kind in _JSON else DYN


def _follow(reference: str, root: Mapping[str, Any]) -> object:
    """What a reference within the schema names."""
    found: object = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def tools_from_mcp(document: object) -> dict[str, Arguments]:
    """
    Read the tools of a server of the Model Context Protocol.

    Args:
        document:
            The answer to `tools/list`, its `result`, or the list of tools itself, as plain data.

    Returns:
        The arguments of each tool.

    Raises:
        ValueError: It is none of these, a tool has no name or no input schema, or a name stands twice.

    Source:
        Model Context Protocol, specification 2025-06-18, Server features, Tools: `name`, `inputSchema`.
    """
    if isinstance(document, Mapping) and isinstance(document.get("result"), Mapping):
        document = document["result"]
    listed = document.get("tools") if isinstance(document, Mapping) else document
    if not isinstance(listed, list) or not listed:
        raise ValueError("got no tools, expected the answer to `tools/list`")
    if len(listed) > TOOLS_MAX:
        raise ValueError(f"got {len(listed)} tools, expected at most {TOOLS_MAX}")
    tools: dict[str, Arguments] = {}
    for number, tool in enumerate(listed):
        name = tool.get("name") if isinstance(tool, Mapping) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"tool {number} has no name")
        schema = tool.get("inputSchema", tool.get("input_schema"))
        if not isinstance(schema, Mapping):
            raise ValueError(f"tool `{name}` has no `inputSchema`")  # noqa: TRY004 - one kind of error for bad documents
        if name in tools:
            raise ValueError(f"tool `{name}` stands twice")
        try:
            tools[name] = arguments_from_json_schema(schema)
        except ValueError as error:
            raise ValueError(f"tool `{name}`: {error}") from None
    return tools


def disagreement(declared: Mapping[str, str], actual: Arguments) -> str:
    """
    Say where a function and its ToolSchema differ.

    Args:
        declared:
            Types by argument, of the loaded document.
        actual:
            What the function takes.

    Returns:
        One clause; empty where every declared argument is one of the function, every argument of
        the function is declared, and no type contradicts the other.
    """
    for name in actual.types:
        if name not in declared:
            return f"the function takes `{name}`, which its ToolSchema does not declare"
    for name, kind in declared.items():
        if name not in actual.types:
            if actual.is_open:
                continue
            return f"its ToolSchema declares `{name}`, which the function does not take"
        wanted, got = parse_type(kind), parse_type(actual.types[name])
        # A whole number may stand where a double is read; the other way it may not.
        if not goes_with(wanted, got) and (wanted.kind, got.kind) != ("double", "int"):
            return f"argument `{name}` is {got} in the function, and {wanted} in its ToolSchema"
    return ""


def write_tool_schema(name: str, tools: Mapping[str, Arguments]) -> str:
    """
    Write a document of kind ToolSchema.

    Args:
        name:
            Its `metadata.name`.
        tools:
            Arguments by tool, written in order of their names.

    Returns:
        YAML that loads.
    """
    lines = [
        "apiVersion: agentguard/v1",
        "kind: ToolSchema",
        f"metadata: {{ name: {_written(name)} }}",
        "tools:",
    ]
    for tool in sorted(tools):
        args = tools[tool].types
        lines.append(f"  {_written(tool)}:")
        lines.append("    args:" if args else "    args: {}")
        lines.extend(
            f"      {_written(argument)}: {_written(kind) if kind == 'null' else kind}"
            for argument, kind in args.items()
        )
    return "\n".join(lines) + "\n"


def _written(text: str) -> str:
    """A text as YAML has it, in quotes where it is not a plain word."""
    return text if _WORD.fullmatch(text) and text.lower() not in _RESERVED else json.dumps(text)
