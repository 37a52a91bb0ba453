"""What a decorator was told; the meaning is worked out when the first call is governed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias
from weakref import WeakSet

ToolEffect: TypeAlias = Literal["none", "read", "write"]


Begin: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Takes positional and keyword arguments, gives a `FastCall`; None where it is not for the fast path: then nothing
has happened."""


def _not_yet(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """Send a call the long way."""


class Declaration:
    """One decorated callable and the options given; holds its spec once there is one."""

    __slots__ = ("__weakref__", "begin", "function", "lane", "options", "spec")

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self.options = options
        """Keyword arguments of `spec.make_spec`."""
        self.spec: object | None = None
        """The `spec.CallSpec`, once the first call was governed; `spec.spec_of` gives it."""
        self.lane: object | None = None
        """A `lane.Lane`, by which its calls take the fast path, once one has shown that they can."""
        self.begin: Begin = _not_yet
        """Begins calls of that lane, or of one like it."""
        DECLARATIONS.add(self)


DECLARATIONS: WeakSet[Declaration] = WeakSet()
"""Every decorated callable that is still alive: for what writes schemas of them."""


class InCharge:
    """The runtime that governs the calls of this process."""

    __slots__ = ("runtime",)

    def __init__(self) -> None:
        self.runtime: Any = None
        """A `core.Runtime`; None where there is none, or not yet."""


IN_CHARGE: Final = InCharge()
