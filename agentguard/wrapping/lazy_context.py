"""
A context whose values are worked out when somebody looks at one.

Making a context current for a call costs a copy of the one around it; hardly any call has anybody who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context


class LazyContext(Context):
    """
    An empty dict to the interpreter, until one of a dict's methods is called.

    It is a context of OpenTelemetry in all else: what reads it, copies it or builds on it finds all values.
    """

    __slots__ = ()

    def work_out(self) -> Mapping[str, object]:
        """Give all values, those of the contexts around this one included; may be called more than once."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        # Not as the methods below: a dict would look into the other one without asking it.
        return dict(self) == (dict(other) if isinstance(other, LazyContext) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment] # as a dict


def _looking(name: str) -> Callable[..., Any]:
    """Make a method of a dict that has the values worked out first."""
    method = getattr(dict, name)

    def look(self: LazyContext, *args: Any) -> Any:
        if not dict.__len__(self):
            dict.update(self, self.work_out())
        return method(self, *args)

    look.__name__ = look.__qualname__ = name
    look.__doc__ = method.__doc__
    return look


# All that a dict can be asked. `__iter__` among them has C code, such as that of `{**context}`, ask through these too.
for _name in (
    "__contains__", "__getitem__", "__iter__", "__len__", "__or__", "__repr__", "__reversed__", "__ror__",
    "copy", "get", "items", "keys", "values",
):  # fmt: skip
    setattr(LazyContext, _name, _looking(_name))
