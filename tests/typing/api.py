"""The public API as type checkers see it. Checked with mypy --strict, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from typing import assert_type, overload

import agentguard


@agentguard.tool
def bare(order: str, amount: float = 1.0) -> str:
    return order


assert_type(bare("o"), str)
bare(1)  # type: ignore[arg-type]
bare("o", wrong=1)  # type: ignore[call-arg]


@agentguard.tool(effect="read", name="look")
def called(order: str) -> int:
    return 1


assert_type(called("o"), int)


@agentguard.tool(effect="reads")  # type: ignore[call-overload, untyped-decorator]
def wrong_effect() -> None: ...


@agentguard.agent(name="support", version="1")
async def agent(question: str) -> list[str]:
    return [question]


async def use_agent() -> None:
    assert_type(await agent("q"), list[str])


@agentguard.model(provider="openai", model="gpt-5")
def generator(prompt: str) -> Generator[str, int, bool]:
    received = yield prompt
    return received > 0


assert_type(generator("p"), Generator[str, int, bool])


@agentguard.model
async def async_generator(prompt: str) -> AsyncGenerator[bytes, str]:
    yield prompt.encode()


@agentguard.retriever
async def iterate(query: str) -> AsyncIterator[str]:
    yield query


async def use_async_generator() -> None:
    assert_type(async_generator("p"), AsyncGenerator[bytes, str])
    async for item in iterate("q"):
        assert_type(item, str)


class Account:
    @agentguard.tool
    def method(self, value: int) -> str:
        return str(value)

    @agentguard.tool(effect="none")
    async def coroutine(self, value: int) -> str:
        return str(value)

    @classmethod
    @agentguard.tool
    def of_class(cls, value: int) -> Account:
        return cls()

    @staticmethod
    @agentguard.workflow
    def static(value: int) -> int:
        return value


assert_type(Account().method(1), str)
assert_type(Account.of_class(1), Account)
assert_type(Account.static(1), int)


@overload
def either(value: int) -> int: ...
@overload
def either(value: str) -> str: ...
@agentguard.guard(kind="plan")
def either(value: int | str) -> int | str:
    return value


assert_type(either(1), int)


class Callable_:
    def __call__(self, value: int) -> str:
        return str(value)


guarded_object = agentguard.tool(Callable_())
assert_type(guarded_object, Callable_)
assert_type(guarded_object(1), str)


def higher(function: Callable[[int], Awaitable[str]]) -> Callable[[int], Awaitable[str]]:
    return agentguard.guard(function)


with agentguard.run(principal="ann", roles=["clerk"], labels={"tier": "gold"}) as run:
    assert_type(run.run_id, str)

with agentguard.span("plan", kind="plan") as span:
    if span is not None:
        span.set("key", 1)

assert_type(agentguard.record_usage(input_tokens=1), bool)
assert_type(agentguard.record_outcome(predicted_label="a", true_label="b"), bool)
assert_type(agentguard.flush().is_complete, bool)

try:
    bare("o")
except agentguard.CallDenied as denied:
    assert_type(denied.decision_id, str)
    assert_type(denied.decision.rule_id, str)
except agentguard.ApprovalPending as pending:
    assert_type(pending.token, str)
