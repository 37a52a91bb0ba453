"""What a decorator was told; the meaning is worked out when the first call is governed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias
from weakref import WeakSet

ToolEffect: TypeAlias = Literal["none", "read", "write"]


class Way(Protocol):
    """How calls of one callable begin where nothing has to be found out; a `lane.Lane`."""

    begin: Callable[..., Any]
    """Takes positional and keyword arguments; gives None where the long way is to be taken."""


class Declaration:
    """One decorated callable and the options given; holds its spec once there is one."""

    __slots__ = ("__weakref__", "function", "lane", "options", "spec")

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self.options = options
        """Keyword arguments of `spec.make_spec`."""
        self.spec: object | None = None
        """The `spec.CallSpec`, once the first call was governed; `spec.spec_of` gives it."""
        self.lane: Way | None = None
        """By which its calls take the fast path, once one has shown that they can."""
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
