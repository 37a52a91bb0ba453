"""`agentguard.wrap` without any SDK: functions, HTTP clients by their shape, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

import agentguard


class Http:
    """An HTTP client as httpx has them."""

    def __init__(self) -> None:
        self.event_hooks: dict[str, list[Any]] = {"request": [print], "response": []}

    def send(self, request: object) -> object:
        """Send."""
        return request


class Client:
    """A client of an SDK that is not known."""

    def __init__(self) -> None:
        self._client = Http()


def test_a_function_is_guarded() -> None:
    """As by `@agentguard.guard`."""

    def function(a: int) -> int:
        return a

    wrapped = agentguard.wrap(function)
    assert wrapped is not function
    assert wrapped(3) == 3


def test_hooks_are_added_once_and_after_those_that_are_there() -> None:
    """The client's own hooks stay first; wrapping twice adds nothing."""
    client = Client()
    assert agentguard.wrap(client) is client
    assert agentguard.wrap(client) is client
    hooks = client._client.event_hooks
    assert hooks["request"][0] is print
    assert [len(hooks[name]) for name in ("request", "response")] == [2, 1]


@pytest.mark.parametrize("thing", [object(), 3, "x", None, {}, Client])
def test_anything_else_is_refused(thing: object) -> None:
    """Nobody may believe that something is governed when it is not."""
    with pytest.raises(TypeError, match=r"agentguard\.wrap takes"):
        agentguard.wrap(thing)
