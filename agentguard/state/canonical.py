"""
Canonical JSON (RFC 8785): one text, and so one hash, for one value.

Stricter than the standard: what two programs could read differently is refused
instead of written. Pure.
"""

from __future__ import annotations

import math
import re

from agentguard.errors import PolicyEvaluationError

SAFE_INTEGER_MAX = 2**53 - 1
"""Beyond it a double maps two integers to one (RFC 7493 section 2.2)."""
DEPTH_MAX = 64
CANONICAL_BYTES_MAX = 1 << 20

_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def canonical_json(value: object) -> bytes:
    r"""
    Write a value as RFC 8785 does.

    Args:
        value:
            None, bool, int, float, str, list, tuple or dict with text keys, of
            exactly these types, nested at most 64 deep.

    Returns:
        UTF-8, at most 1 MiB.

    Raises:
        PolicyEvaluationError: Something in it is no plain data, an integer beyond 2^53 - 1, not a
            number, infinite, text that UTF-8 cannot hold, too deep or too long.

    Example:
        >>> canonical_json({"b": [1.0, 1e21, True], "a": "\u20ac"})
        b'{"a":"\xe2\x82\xac","b":[1,1e+21,true]}'
        >>> canonical_json({"n": float("inf")})
        Traceback (most recent call last):
            ...
        agentguard.errors.PolicyEvaluationError: n: not a finite number

    Source:
        RFC 8785 section 3.2; numbers as ECMA-262 Number::toString.
    """
    parts: list[str] = []
    budget = [CANONICAL_BYTES_MAX]
    _write(value, parts, "", 0, budget)
    return "".join(parts).encode()


def copy_plain(value: object) -> object:
    """
    Copy plain data, so that nobody can change what was hashed.

    Args:
        value:
            Something that `canonical_json` accepted.

    Returns:
        An equal value that shares no list and no dict with it.
    """
    if type(value) is dict:
        return {key: copy_plain(item) for key, item in value.items()}
    if type(value) is list:
        return [copy_plain(item) for item in value]
    if type(value) is tuple:
        return tuple(copy_plain(item) for item in value)
    return value


def _write(value: object, parts: list[str], path: str, depth: int, budget: list[int]) -> None:
    """Append the text of one value; types are compared exactly, a subclass may lie about itself."""
    kind = type(value)
    if kind is str or kind is int or kind is float or value is None or kind is bool:
        text = _scalar(value, path)
        budget[0] -= len(text)
        if budget[0] < 0:
            raise PolicyEvaluationError(f"{path or 'value'}: more than {CANONICAL_BYTES_MAX} bytes as JSON")
        parts.append(text)
        return
    if depth >= DEPTH_MAX:
        raise PolicyEvaluationError(f"{path or 'value'}: nested more than {DEPTH_MAX} deep")
    if isinstance(value, list | tuple) and kind in (list, tuple):
        parts.append("[")
        for position, item in enumerate(value):
            if position:
                parts.append(",")
            budget[0] -= 1
            _write(item, parts, f"{path}[{position}]", depth + 1, budget)
        parts.append("]")
    elif isinstance(value, dict) and kind is dict:
        _write_object(value, parts, path, depth, budget)
    else:
        raise PolicyEvaluationError(f"{path or 'value'}: a {kind.__name__}, expected plain data").hint(
            "text, numbers, true, false, null, lists and maps with text keys are plain data"
        )


def _write_object(
    value: dict[object, object], parts: list[str], path: str, depth: int, budget: list[int]
) -> None:
    """Append the text of a dict, its keys in the order of their UTF-16 code units."""
    keys = []
    for key in value:
        if type(key) is not str:
            raise PolicyEvaluationError(
                f"{path or 'value'}: a key of type {type(key).__name__}, expected text"
            )
        try:
            keys.append((key.encode("utf-16-be"), key))
        except UnicodeEncodeError:
            raise PolicyEvaluationError(f"{path or 'value'}: a key that UTF-8 cannot hold") from None
    keys.sort()
    parts.append("{")
    for position, (_, key) in enumerate(keys):
        if position:
            parts.append(",")
        below = f"{path}.{key}" if path else key
        _write(key, parts, below, depth + 1, budget)
        parts.append(":")
        _write(value[key], parts, below, depth + 1, budget)
    parts.append("}")


def _scalar(value: object, path: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value, path)
    if isinstance(value, int):
        if not -SAFE_INTEGER_MAX <= value <= SAFE_INTEGER_MAX:
            raise PolicyEvaluationError(
                f"{path or 'value'}: an integer beyond 2^53 - 1, which other programs would round"
            ).hint("pass it as text")
        return str(value)
    assert isinstance(value, float)
    if not math.isfinite(value):
        raise PolicyEvaluationError(f"{path or 'value'}: not a finite number")
    return number_text(value)


def _string(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PolicyEvaluationError(f"{path or 'value'}: text that UTF-8 cannot hold") from None
    return '"' + _ESCAPED.sub(lambda m: _SHORT.get(m.group()) or f"\\u{ord(m.group()):04x}", value) + '"'


def number_text(value: float) -> str:
    """
    Write a finite double as ECMAScript does.

    Args:
        value:
            A finite number; negative zero is written as 0.

    Returns:
        The shortest digits that read back to it, in ECMAScript's layout.

    Example:
        >>> [number_text(x) for x in (1e21, 1e20, 1e-6, 1e-7, -0.0, 0.1)]
        ['1e+21', '100000000000000000000', '0.000001', '1e-7', '0', '0.1']
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # repr gives the same shortest digits; only their layout differs.
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        power = point - 1
        text = (
            digits[0] + (f".{digits[1:]}" if count > 1 else "") + f"e{'+' if power > 0 else '-'}{abs(power)}"
        )
    return sign + text
