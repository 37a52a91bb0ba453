"""Ask one question that a person wrote down as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple

from agentguard.errors import PolicyDocumentError
from agentguard.policy import HISTORY_GIVEN, Bundle, Engine
from agentguard.review._given import GivenFacts
from agentguard.values import Decision, FactSpec, Point

CALL_BYTES_MAX = 1 << 20
"""Size of a question."""


class Evaluation(NamedTuple):
    """One answer, and what it rests on."""

    point: str
    decision: Decision
    assumed: Mapping[str, object]
    """Neutral values of facts that were read and not given."""
    facts: Mapping[str, object] = MappingProxyType({})
    """All that was known: what was given, completed with neutral values."""


def read_call(text: str) -> dict[str, object]:
    """
    Read a question.

    Args:
        text:
            JSON: `point`, and facts by dotted name or nested: `{"point": "tool.before", "tool":
            {"name": "refund"}, "args": {"amount_usd": 10}}`.

    Returns:
        The object.

    Raises:
        PolicyDocumentError: It is no JSON object, too long, or holds a key twice.
    """
    if len(text) > CALL_BYTES_MAX:
        raise PolicyDocumentError(f"the call has more than {CALL_BYTES_MAX} characters")
    try:
        call = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise PolicyDocumentError(f"the call is not JSON: {error}") from error
    if not isinstance(call, dict):
        raise PolicyDocumentError("the call is no JSON object").hint(
            'write {"point": "tool.before", "tool": {"name": "..."}, "args": {...}}'
        )
    return call


def evaluate(bundle: Bundle, call: Mapping[str, object]) -> Evaluation:
    """
    Ask one question.

    Args:
        bundle:
            By which it is decided.
        call:
            As `read_call` gives it.

    Returns:
        The decision, and which facts were assumed.

    Raises:
        PolicyDocumentError: The point or a fact is unknown, or a value is of another type.
    """
    rest = dict(call)
    point = rest.pop("point", "tool.before")
    if point not in tuple(Point):
        raise PolicyDocumentError(f"unknown point `{str(point)[:80]}`").hint(
            "one of " + ", ".join(str(p) for p in Point)
        )
    nested = rest.pop("facts", None)
    if nested is not None:
        if not isinstance(nested, Mapping):
            raise PolicyDocumentError("`facts` is no JSON object")
        rest.update(nested)
    facts: dict[str, object] = {}
    _flatten("", rest, bundle.facts, facts)
    given = GivenFacts(facts, bundle.facts)
    decision = Engine(bundle).decide(str(point), given)
    return Evaluation(str(point), decision, dict(given.assumed), given)


def _flatten(
    prefix: str, values: Mapping[str, object], specs: Mapping[str, FactSpec], into: dict[str, object]
) -> None:
    """Turn nested objects into dotted names, and check these."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        spec = specs.get(name) or HISTORY_GIVEN.get(name)
        if spec is not None:
            wrong = _mismatch(spec, value)
            if wrong:
                raise PolicyDocumentError(f"fact `{name}`: {wrong}")
            into[name] = value
        elif isinstance(value, Mapping) and any(
            known.startswith(f"{name}.") for known in (*specs, *HISTORY_GIVEN)
        ):
            _flatten(f"{name}.", value, specs, into)
        else:
            error = PolicyDocumentError(f"unknown fact `{name[:80]}`")
            near = get_close_matches(name, list(specs), n=1)
            raise error.hint(f"did you mean `{near[0]}`?") if near else error


def _mismatch(spec: FactSpec, value: object) -> str:
    """Say in what way a value is not of a fact's type, or nothing."""
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,), "timestamp": (str,), "bool": (bool,), "int": (int,), "double": (int, float),
        "list": (list,), "map": (dict,),
    }  # fmt: skip
    allowed = kinds.get(spec.type.partition("<")[0])
    if allowed is None or (isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))):
        return ""
    return f"got {'null' if value is None else type(value).__name__}, expected {spec.type}"


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse an object that names a key twice: which one counts is anybody's guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in [k for k, _ in pairs[:index]])
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return found
