"""What the application registers before `init()`: facts with their types, functions that stand in for others."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import ref

from agentguard.errors import ConfigurationError

if TYPE_CHECKING:
    # Only the type: this file is loaded by `import agentguard`.
    from agentguard.values import FactSpec

FACTS_MAX = 500
"""Facts that one process registers."""
FALLBACKS_MAX = 500
"""Functions that one process registers."""

_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+")
_SIMPLE = {
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list<dyn>",
    dict: "map<string, dyn>",
}


class _Registered(NamedTuple):
    """One fact."""

    spec: FactSpec
    function: Callable[[], object]


class _User(Protocol):
    """What is_closed says of a runtime."""

    is_closed: bool


class StandIn(NamedTuple):
    """A function that calls can be sent to."""

    function: Callable[..., Any]
    """As it was before it was decorated."""
    options: Mapping[str, Any]
    """What its decorator was told."""


_REGISTERED: dict[str, _Registered] = {}
_STAND_INS: dict[str, StandIn] = {}
_USER: ref[_User] | None = None
"""The runtime whose policies were checked against what is registered."""


def register_fact(
    name: str, type: str | builtins.type[Any], function: Callable[[], object], *, trusted: bool = False, description: str = ""  # noqa: A002 - as it reads where it is called
) -> None:  # fmt: skip
    """
    Declare a fact that conditions may read.

    Rules that name it are checked against its type when they are loaded. It is asked for at most once
    a call, and only where a rule reads it; what it raises, or a value of another type, is an evaluation
    error, which denies (then it may be asked again). It runs in the thread of the call: let it be quick.

    Args:
        name:
            Dotted, such as `payee.known`; none of the catalogue.
        type:
            In the notation of conditions, such as `list<string>`; or bool, int, float, str, bytes, list, dict.
        function:
            Gives the value; `agentguard.current()` is the call.
        trusted:
            Whether no model can influence it. `policy check` warns where another one relaxes a rule.
        description:
            One sentence for reviewers.

    Raises:
        ConfigurationError: The name or type is none, is taken, or `init()` was called already.

    Example:
        >>> register_fact("shop.is_open", bool, lambda: True, trusted=True)
        >>> register_fact("args", bool, lambda: True)
        Traceback (most recent call last):
            ...
        agentguard.errors.ConfigurationError: register_fact(): `args` is no name such as `payee.known`
    """
    from agentguard.values import FACTS, FactSpec

    written = type if isinstance(type, str) else _SIMPLE.get(type, "")
    user = _USER() if _USER is not None else None
    known = _REGISTERED.get(name)
    if known is not None and (known.spec.type, known.function) == (written, function):
        return
    if user is not None and not user.is_closed:
        raise ConfigurationError(f"register_fact(): `{name}` comes after init()").hint(
            "register facts before init(): policies are checked against them"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"register_fact(): `{name}` is no name such as `payee.known`")
    taken = next((one for one in (*FACTS, "vars", "history") if _clash(name, one)), None) or next(
        (one for one in _REGISTERED if one != name and _clash(name, one)), None
    )
    if taken is not None:
        raise ConfigurationError(f"register_fact(): `{name}` cannot be told from the fact `{taken}`")
    if not written:
        raise ConfigurationError(f"register_fact(): `{name}` has no type that conditions know").hint(
            "bool, int, float, str, bytes, list, dict, or text such as `list<string>`"
        )
    if not callable(function):
        raise ConfigurationError(f"register_fact(): `{name}` needs a function that gives its value")
    if len(_REGISTERED) >= FACTS_MAX:
        raise ConfigurationError(f"register_fact(): more than {FACTS_MAX} facts")
    spec = FactSpec(name, written, description or "Registered by the application.", is_trusted=trusted)
    _REGISTERED[name] = _Registered(spec, function)


def _clash(name: str, other: str) -> bool:
    """Whether one name is the other, or reads as a member of it."""
    return name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")


def register_fallback(name: str, function: Callable[..., Any]) -> None:
    """
    Declare a function that rules may send calls to: `then: { fallback: { function: NAME } }`.

    It gets the arguments of the call by name, must be called as what it stands in for (a coroutine function
    for a coroutine function, a generator function for a generator function), and is judged by all rules
    under its own name, with the effect its decorator says; without a decorator a tool counts as write.

    Args:
        name:
            As rules name it.
        function:
            Decorated or not; its decorator's own policy is not asked a second time.

    Raises:
        ConfigurationError: The name is none or taken, or `init()` was called already.

    Example:
        >>> register_fallback("from_cache", lambda query: "")
        >>> register_fallback("from cache", lambda query: "")
        Traceback (most recent call last):
            ...
        agentguard.errors.ConfigurationError: register_fallback(): `from cache` is no name such as `from_cache`
    """
    from agentguard.runtime.declaration import DECLARATIONS

    if not isinstance(name, str) or not _FUNCTION.fullmatch(name):
        raise ConfigurationError(f"register_fallback(): `{name}` is no name such as `from_cache`")
    if not callable(function) or isinstance(function, builtins.type):
        raise ConfigurationError(f"register_fallback(): `{name}` needs a function")
    inner = getattr(function, "__wrapped__", None)
    declared = next((one for one in list(DECLARATIONS) if inner is not None and one.function is inner), None)
    found = StandIn(function, {}) if declared is None else StandIn(declared.function, declared.options)
    known = _STAND_INS.get(name)
    if known is not None:
        if known.function is found.function:
            return
        raise ConfigurationError(f"register_fallback(): `{name}` is registered already, for another function")
    user = _USER() if _USER is not None else None
    if user is not None and not user.is_closed:
        raise ConfigurationError(f"register_fallback(): `{name}` comes after init()").hint(
            "register functions before init(): policies are checked against them"
        )
    if len(_STAND_INS) >= FALLBACKS_MAX:
        raise ConfigurationError(f"register_fallback(): more than {FALLBACKS_MAX} functions")
    _STAND_INS[name] = found


def stand_ins() -> Mapping[str, StandIn]:
    """Give the registered functions by name."""
    return _STAND_INS


def registered_specs() -> tuple[FactSpec, ...]:
    """
    List what was registered, as the loader of policies takes it.

    Raises:
        ConfigurationError: A type is none.
    """
    specs = tuple(one.spec for one in _REGISTERED.values())
    if specs:
        # Imported here: only an application with facts of its own pays before its policies load.
        from agentguard.errors import PolicyDocumentError
        from agentguard.policy import Condition

        for spec in specs:
            try:
                Condition.compile("true", {spec.name: spec.type})
            except PolicyDocumentError as error:
                raise ConfigurationError(f"register_fact(): {error}") from error
    return specs


def registered_functions(user: _User) -> dict[str, Callable[[], object]]:
    """
    Give the functions by the name of their fact.

    Args:
        user:
            The runtime that asks: as long as it is open nothing more is registered.
    """
    global _USER  # noqa: PLW0603 - one process has one runtime
    _USER = ref(user)
    return {name: one.function for name, one in _REGISTERED.items()}
