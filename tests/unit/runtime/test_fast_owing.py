"""What a call on the fast path used: it is in each sum that anybody reads, though its own thread adds it to none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import agentguard
from agentguard.runtime.core import Runtime
from agentguard.runtime.fast_call import FastCall

from .conftest import Start, spans

# Newer Pythons warn of forks beside threads; what then happens is what a test here is about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

Ask = Callable[..., dict[str, Any]]


def _answer() -> dict[str, Any]:
    return {
        "id": "c-1", "model": "gpt-5", "choices": [{"finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 10}},
    }  # fmt: skip


@agentguard.model(provider="openai", model="gpt-5")
def ask(answer: dict[str, Any]) -> dict[str, Any]:
    """Give what is given."""
    return answer


@agentguard.agent(name="around")
def around(times: int) -> None:
    """Ask some times."""
    for _ in range(times):
        ask(_answer())


@pytest.fixture
def seen(start: Start) -> list[object]:
    """A runtime of which the class of each span is kept, so that a test knows which way calls took."""
    runtime = start(None)
    found: list[object] = []
    sink = runtime.environment.sink
    runtime.environment.sink = lambda source: (found.append(type(source)), sink(source))[1]  # type: ignore[func-returns-value]
    around(1), around(1), ask(_answer()), ask(_answer())
    found.clear()
    return found


@pytest.fixture
def runtime(seen: list[object]) -> Runtime:
    """That runtime."""
    from agentguard.runtime.active import ACTIVE

    assert ACTIVE.runtime is not None
    return ACTIVE.runtime


def test_a_response_that_is_changed_afterwards(runtime: Runtime, seen: list[object]) -> None:
    """What is recorded is what was there when the call returned, whatever the application does with it then."""
    answer = ask(_answer())
    answer["usage"]["prompt_tokens"] = answer["usage"]["prompt_tokens_details"]["cached_tokens"] = 7
    answer["choices"][0]["finish_reason"] = "changed"
    answer["model"] = answer["id"] = "changed"
    answer["usage"].clear()
    assert seen == [FastCall]
    attributes = spans(runtime)[-1].attributes
    assert attributes["gen_ai.usage.input_tokens"] == 1000
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 10
    assert attributes["gen_ai.response.model"] == "gpt-5"
    assert attributes["gen_ai.response.id"] == "c-1"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)


def test_sums_are_right_at_once(runtime: Runtime, seen: list[object]) -> None:
    """Of the run, and of the day: nobody has to wait for the store's thread."""
    before = runtime.state.spend.tokens_today(), runtime.state.spend.usd_today()
    with agentguard.run() as run:
        for number in range(1, 4):
            ask(_answer())
            assert run.tokens == number * 1100
            assert run.cost_usd == pytest.approx(number * (990 * 1.25 + 10 * 0.125 + 100 * 10.0) / 1e6)
            assert runtime.state.spend.tokens_today() == before[0] + number * 1100
    assert runtime.state.spend.usd_today() == pytest.approx(before[1] + run.cost_usd)
    assert set(seen) == {FastCall}


def test_what_an_agent_used_stands_on_its_span(runtime: Runtime, seen: list[object]) -> None:
    """Its calls are added before it is written."""
    around(3)
    assert set(seen) == {FastCall}
    span = next(span for span in reversed(spans(runtime)) if span.name.endswith("around"))
    assert span.attributes["agentguard.usage.total.input_tokens"] == 3000


def test_a_child_goes_on_from_the_sums_of_its_parent(runtime: Runtime) -> None:
    """The run has what ended before the fork, in both; the day has it once."""
    before = runtime.state.spend.tokens_today()
    with agentguard.run() as run:
        ask(_answer())
        pid = os.fork()
        if pid == 0:
            ask(_answer())
            is_right = run.tokens == 2200
            runtime.flush(10.0)
            runtime.state.flush()
            os._exit(0 if is_right else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert run.tokens == 1100
    runtime.state.flush()
    assert runtime.state.spend.tokens_today() == before + 2200


def test_a_rule_sees_each_call_before_it(start: Start) -> None:
    """The call after the one that goes over the limit is stopped, and none before it."""
    rules = '- {id: A-1, title: Much, at: model.before, when: "run.tokens > 5000", then: deny}'
    start(rules)
    with agentguard.run() as run:
        for _ in range(5):
            ask(_answer())
        assert run.tokens == 5500
        with pytest.raises(agentguard.CallDenied):
            ask(_answer())
