"""From the arguments of a call to values by parameter name, and back."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Binder:
    """
    Knows the parameters of one callable, and names the arguments of its calls.

    Defaults are filled in: a policy judges what the function will really see.
    The receiver of a method (`self`, `cls`) is left out.
    """

    __slots__ = ("_defaults", "_is_exact", "_names", "_positional", "_var_keyword", "_var_positional", "skip")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.skip = 0
        """How many leading arguments are the receiver."""
        self._positional: tuple[str, ...] = ()
        self._names: frozenset[str] = frozenset()
        self._defaults: dict[str, Any] = {}
        self._var_positional: str | None = "args"
        self._var_keyword = True
        self._is_exact = False
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return  # No signature (some builtins): positional arguments come as the list `args`.
        self._is_exact = (
            isinstance(function, types.FunctionType)
            and not hasattr(function, "__wrapped__")
            and not hasattr(function, "__signature__")
        )
        if parameters and parameters[0].name in {"self", "cls"} and _is_method(function):
            self.skip = 1
            del parameters[0]
        by_position = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
        self._positional = tuple(p.name for p in parameters if p.kind in by_position)
        self._var_positional = next(
            (p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), None
        )
        self._var_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        single = [p for p in parameters if p.kind in by_position or p.kind is inspect.Parameter.KEYWORD_ONLY]
        self._names = frozenset(p.name for p in single)
        self._defaults = {p.name: p.default for p in single if p.default is not inspect.Parameter.empty}

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        Name the arguments of one call.

        Args:
            args:
                Positional arguments, the receiver included.
            kwargs:
                Keyword arguments.

        Returns:
            Values by parameter name, or None where they do not fit the
            signature: the call itself will raise a TypeError, or the signature
            is not the function's own.
        """
        if self.skip:
            args = args[self.skip :]
        values = dict(zip(self._positional, args, strict=False))
        if len(values) == len(args):
            if kwargs:
                values.update(kwargs)
            if len(values) == len(args) + len(kwargs) and values.keys() == self._names:
                return values  # As most calls are: each parameter is given, and given once.
            values = dict(zip(self._positional, args, strict=False))
        if len(args) > len(self._positional):
            if self._var_positional is None:
                return None
            values[self._var_positional] = list(args[len(self._positional) :])
        if kwargs:
            if not values.keys().isdisjoint(kwargs) or not (
                self._var_keyword or kwargs.keys() <= self._names
            ):
                return None
            values.update(kwargs)
        if len(values) < len(self._names) or not self._names <= values.keys():
            for name in self._names - values.keys():
                if name not in self._defaults:
                    return None
                values[name] = self._defaults[name]
        return values

    def unbind(
        self, values: Mapping[str, Any], *, receiver: Sequence[Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        Turn named values back into arguments of a call.

        Args:
            values:
                As `bind` gave them.
            receiver:
                Arguments of the original call; the receiver is taken from them.

        Returns:
            Positional and keyword arguments.
        """
        rest = dict(values)
        args = [*receiver[: self.skip], *(rest.pop(name) for name in self._positional)]
        if self._var_positional is not None:
            args.extend(rest.pop(self._var_positional, ()))
        return tuple(args), rest

    @property
    def names_in_order(self) -> tuple[str, ...] | None:
        """Names of all parameters but the receiver, where calls that give each by its place fit; None elsewhere."""
        if self._var_keyword or self._var_positional or self._names != set(self._positional):
            return None
        return self._positional

    @property
    def is_exact(self) -> bool:
        """Whether arguments that do not fit are sure to raise a TypeError in the call."""
        return self._is_exact


def _is_method(function: Callable[..., Any]) -> bool:
    """Whether a function was defined in the body of a class."""
    owner, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    return bool(owner) and not owner.endswith("<locals>")
