"""What a decorator was told; the meaning is worked out when the first call is governed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    # Only the type: this file is loaded by `import agentguard`.
    from agentguard.runtime.spec import CallSpec

ToolEffect: TypeAlias = Literal["none", "read", "write"]


class Declaration:
    """One decorated callable and the options given; holds its spec once there is one."""

    __slots__ = ("function", "options", "spec")

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self.options = options
        """Keyword arguments of `spec.make_spec`."""
        self.spec: CallSpec | None = None
