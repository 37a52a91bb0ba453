"""A raw response that nobody can parse is refused where a rule is to judge it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentguard.integrations.raw_response import finish_raw, finish_raw_async


class WithheldError(Exception):
    """What `withhold` raises here."""


class Call:
    """The part of a call that raw responses use."""

    def __init__(self, *, holds_back: bool) -> None:
        self.holds_back = holds_back

    def finish(self, result: Any) -> Any:
        return result

    async def finish_async(self, result: Any) -> Any:
        return result

    def withhold(self, reason: str) -> None:
        raise WithheldError(reason)


def unparsable() -> Any:
    def parse() -> Any:
        raise ValueError("no JSON")

    return SimpleNamespace(http_response=SimpleNamespace(is_closed=True), parse=parse)


def finish(call: Call, *, is_async: bool) -> Any:
    response: Any = unparsable()
    if is_async:
        return asyncio.run(finish_raw_async(call, response, is_stream=False))  # type: ignore[arg-type]
    return finish_raw(call, response, is_stream=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_async", [False, True])
def test_unparsable_answer_is_withheld_from_an_after_rule(is_async: bool) -> None:
    """What no rule could read does not pass one."""
    with pytest.raises(WithheldError):
        finish(Call(holds_back=True), is_async=is_async)


@pytest.mark.parametrize("is_async", [False, True])
def test_unparsable_answer_passes_where_nothing_judges(is_async: bool) -> None:
    """Without an enforcing after-rule the caller gets the response as it is."""
    assert finish(Call(holds_back=False), is_async=is_async).http_response.is_closed
