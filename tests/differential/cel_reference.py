"""The reference: what Google's own CEL answers, as plain values or as an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy import Condition
from tests.differential.cel_plain import same

__all__ = ["ERROR", "REFUSED", "by_reference", "by_us", "environment", "same"]

ERROR = "error"
REFUSED = "refused"

_SIMPLE = {
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "bytes": cel.Type.BYTES,
    "null": cel.Type.NULL,
    "timestamp": cel.Type.TIMESTAMP,
    "duration": cel.Type.DURATION,
    "dyn": cel.Type.DYN,
}


def cel_type(text: str) -> Any:
    """The reference's type for one in the notation of schemas."""
    if text.startswith("list<"):
        return cel.Type.List(cel_type(text[5:-1]))
    if text.startswith("map<"):
        key, value = text[4:-1].split(",", 1)
        return cel.Type.Map(cel_type(key.strip()), cel_type(value.strip()))
    return _SIMPLE[text]


def environment(schema: Mapping[str, str]) -> Any:
    """An environment of the reference with these variables."""
    variables = {name: cel_type(of) for name, of in schema.items()}
    return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()])


def by_reference(env: Any, source: str, facts: Mapping[str, Any]) -> tuple[str, Any]:
    """`("value", v)`, `(ERROR, message)` or `(REFUSED, message)`."""
    try:
        expression = env.compile(source)
    except RuntimeError as error:
        return REFUSED, str(error)
    try:
        result = expression.eval(data=dict(facts))
    except RuntimeError as error:
        return ERROR, str(error)
    if result.type() == cel.Type.ERROR:
        return ERROR, str(result.value())
    return "value", result.plain_value()


def by_us(source: str, schema: Mapping[str, str], facts: Mapping[str, Any]) -> tuple[str, Any]:
    """The same of ours. Anything but the two documented exceptions leaves as it is: a test fails by it."""
    try:
        condition = Condition.compile(source, schema)
    except PolicyDocumentError as error:
        return REFUSED, ",".join(problem.code for problem in error.problems)
    try:
        return "value", condition.evaluate(facts)
    except PolicyEvaluationError as error:
        return ERROR, str(error)
