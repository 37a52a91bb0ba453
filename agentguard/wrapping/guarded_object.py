"""What stands before an object with `__call__`: all but calling it is the object's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn


class GuardedObject:
    """
    Stands before an object with `__call__`; all else is the object's own.

    `isinstance` sees the object's class, so that frameworks which look at types
    treat it as what it is.
    """

    def __init__(self, target: Callable[..., Any], guard: Callable[[Any], Callable[..., Any]]) -> None:
        """
        Stand before an object.

        Args:
            target:
                The object.
            guard:
                Gives, for it or a copy of it, what runs when it is called.
        """
        object.__setattr__(self, "__wrapped__", target)
        object.__setattr__(self, "_agentguard_call", guard(target))
        object.__setattr__(self, "_agentguard_guard", guard)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, guarded."""
        return object.__getattribute__(self, "_agentguard_call")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "__wrapped__"), name, value)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "__wrapped__"))

    def __eq__(self, other: object) -> bool:
        target = object.__getattribute__(self, "__wrapped__")
        if isinstance(other, GuardedObject):
            other = object.__getattribute__(other, "__wrapped__")
        return bool(target == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "__wrapped__"))

    def __copy__(self) -> GuardedObject:
        return self._agentguard_again(copy.copy(object.__getattribute__(self, "__wrapped__")))

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardedObject:
        return self._agentguard_again(copy.deepcopy(object.__getattribute__(self, "__wrapped__"), memo))

    def _agentguard_again(self, target: Callable[..., Any]) -> GuardedObject:
        """Guard a copy as the original is guarded."""
        return GuardedObject(target, object.__getattribute__(self, "_agentguard_guard"))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # What came back from a pickle would be the bare object: unguarded, and nobody would see it.
        raise TypeError("a guarded object cannot be pickled; guard it where it is used")

    @property
    def __class__(self) -> type:
        return type(object.__getattribute__(self, "__wrapped__"))

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("the class of a guarded object cannot be changed")
