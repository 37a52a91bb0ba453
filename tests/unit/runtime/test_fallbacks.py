"""Calls that rules send to another model or function, in every shape of callable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import agentguard
from agentguard.errors import ConfigurationError, PolicyDocumentError
from agentguard.runtime import registering
from agentguard.seal import SigningKey
from agentguard.state import sign_vote
from agentguard.values import DenialKind, Effect
from agentguard.values import attributes as names
from tests.unit.runtime.conftest import Start, decisions, spans

CHEAPER = """
- id: FBK-001
  title: The big model is not for this
  at: model.before
  when: model.name == 'big'
  then: { fallback: { model: small } }
"""
CACHED = """
- id: FBK-002
  title: A cache answers
  at: tool.before
  when: tool.name == 'search'
  then: { fallback: { function: from_cache } }
"""

ASKED: list[object] = []


@agentguard.model(name="ask")
def ask(prompt: str, *, model: str = "big") -> str:
    """Answer with a model."""
    ASKED.append(model)
    agentguard.record_usage(input_tokens=10, output_tokens=0)
    return f"{model}: {prompt}"


@agentguard.model(name="ask", model="big")
def ask_fixed(prompt: str) -> str:
    """Answer with one model."""
    raise AssertionError(prompt)


@agentguard.tool(effect="read")
def search(query: str, *, pages: int = 1) -> str:
    """Search."""
    ASKED.append(("live", query, pages))
    return "live"


@agentguard.tool(name="search", effect="read")
async def search_async(query: str) -> str:
    """Search."""
    return "live"


@agentguard.tool(name="search", effect="read")
def search_items(query: str) -> Iterator[str]:
    """Search."""
    yield "live"


@agentguard.tool(name="search", effect="read")
async def search_stream(query: str) -> AsyncIterator[str]:
    """Search."""
    yield "live"


class Index:
    """Something with a method."""

    @agentguard.tool(name="search", effect="read")
    def search(self, query: str) -> str:
        """Search."""
        return "live"


def cached(query: str, pages: int = 1) -> str:
    """Answer from a cache."""
    ASKED.append(("cache", query, pages))
    return f"cached {query}"


async def cached_async(query: str) -> str:
    """Answer from a cache."""
    return f"cached {query}"


def cached_items(query: str) -> Iterator[str]:
    """Answer from a cache."""
    yield "cached"
    yield query


async def cached_stream(query: str) -> AsyncIterator[str]:
    """Answer from a cache."""
    yield "cached"
    yield query


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test with no function registered and nothing asked."""
    monkeypatch.setattr(registering, "_STAND_INS", {})
    monkeypatch.setattr(registering, "_USER", None)
    ASKED.clear()


def test_a_model_is_exchanged_in_the_argument(start: Start) -> None:
    """The function gets the other model; span and record say what was asked for and what was used."""
    runtime = start(CHEAPER)
    assert ask("hi") == "small: hi"
    assert ask("hi", model="other") == "other: hi"
    first, *_ = spans(runtime)
    assert first.name == "chat small"
    assert first.attributes[names.REQUEST_MODEL] == "small"
    assert first.attributes[names.FALLBACK_FROM] == "big"
    assert first.attributes[names.FALLBACK_RULE_ID] == "test/FBK-001"
    record = decisions(runtime)[0].record
    assert (record.model, record.requested, record.fallback) == ("small", "big", "test/FBK-001")
    assert record.decision.effect is Effect.ALLOW
    assert "sent from big to model small by FBK-001" in record.decision.reason


def test_a_function_without_a_model_to_exchange_is_denied(start: Start) -> None:
    """What cannot be sent on does not run as it was."""
    start(CHEAPER)
    with pytest.raises(agentguard.CallDenied) as caught:
        ask_fixed("hi")
    assert "takes no argument `model`" in caught.value.decision.reason


def test_the_other_model_is_asked_about_anew(start: Start) -> None:
    """A rule that denies it denies the call."""
    start(
        CHEAPER
        + """
- id: DNY-001
  title: Not for bob
  at: model.before
  when: model.name == 'small' && principal.id == 'bob'
  then: deny
"""
    )
    with agentguard.run(principal="bob"), pytest.raises(agentguard.CallDenied) as caught:
        ask("hi")
    assert caught.value.decision.rule_id == "DNY-001"
    assert caught.value.record.requested == "big"
    assert ASKED == []
    assert ask("hi") == "small: hi"


@pytest.mark.parametrize("shape", ["function", "coroutine", "generator", "async generator", "method"])
def test_a_function_stands_in_for_each_shape(start: Start, shape: str) -> None:
    """Called as what it replaces, and its result is the caller's."""
    stand_in = {
        "coroutine": cached_async, "generator": cached_items, "async generator": cached_stream,
    }.get(shape, cached)  # fmt: skip
    agentguard.register_fallback("from_cache", stand_in)
    runtime = start(CACHED)

    async def collect() -> list[str]:
        return [item async for item in search_stream("x")]

    got = {
        "function": lambda: search("x", pages=2),
        "coroutine": lambda: asyncio.run(search_async("x")),
        "generator": lambda: list(search_items("x")),
        "async generator": lambda: asyncio.run(collect()),
        "method": lambda: Index().search("x"),
    }[shape]()
    assert got == (["cached", "x"] if "generator" in shape else "cached x")
    (span,) = spans(runtime)
    assert (span.name, span.attributes[names.TOOL_NAME]) == ("execute_tool from_cache", "from_cache")
    assert span.attributes[names.FALLBACK_FROM] == "search"
    record = decisions(runtime)[0].record
    assert (record.tool, record.requested) == ("from_cache", "search")


def test_the_arguments_are_those_of_the_call_by_name(start: Start) -> None:
    """Defaults of what was called are filled in."""
    agentguard.register_fallback("from_cache", cached)
    start(CACHED)
    search("x", pages=3)
    assert ASKED == [("cache", "x", 3)]


@pytest.mark.parametrize(
    ("stand_in", "said"),
    [
        (cached_async, "it is a coroutine function, and search a plain function"),
        (lambda other: other, "does not take the arguments of search"),
        (ask, "it is a model, and search a tool"),
    ],
)
def test_a_function_that_cannot_stand_in_is_no_way_round(start: Start, stand_in: object, said: str) -> None:
    """Another shape, other arguments, another kind: the call is denied, and the record says why."""
    agentguard.register_fallback("from_cache", stand_in)  # type: ignore[arg-type]
    runtime = start(CACHED)
    with pytest.raises(agentguard.CallDenied) as caught:
        search("x")
    assert said in caught.value.decision.reason
    assert ASKED == []
    assert decisions(runtime)[0].record.decision.effect is Effect.DENY


def test_a_decorated_function_is_judged_once_under_its_registered_name(start: Start) -> None:
    """Its decorator says what it is, and begins no second call."""

    @agentguard.tool(effect="none")
    def empty(query: str, pages: int) -> str:
        """Find nothing."""
        return ""

    agentguard.register_fallback("from_cache", empty)
    runtime = start(
        CACHED
        + """
- { id: DNY-002, title: Only what writes, at: tool.before, when: "tool.name == 'from_cache' && tool.effect != 'none'", then: deny }
"""
    )
    assert search("x") == ""
    assert len(spans(runtime)) == 1


LIMITED = """
- id: RAT-001
  title: Two a minute
  at: model.before
  when: model.name == 'big'
  then: { throttle: { key: model.name, limit: 2, window: 1m } }
- id: FBK-003
  title: Then the small one
  at: model.before
  when: "true"
  then: { fallback: { model: small, instead_of: [RAT-001] } }
"""


@pytest.mark.parametrize("is_async", [False, True])
def test_a_limit_that_is_used_up_sends_the_call_on(start: Start, is_async: bool) -> None:
    """The reservation is for what runs: the small model draws nothing from the limit of the big one."""

    @agentguard.model(name="ask")
    async def ask_later(prompt: str, model: str = "big") -> str:
        return f"{model}: {prompt}"

    runtime = start(LIMITED)
    got = [asyncio.run(ask_later("hi")) if is_async else ask("hi") for _ in range(4)]
    assert got == ["big: hi", "big: hi", "small: hi", "small: hi"]
    records = [one.record for one in decisions(runtime) if one.record.point == "model.before"]
    assert [one.requested for one in records] == ["", "", "big", "big"]
    assert "2 calls in 60 s are used up" in records[2].decision.reason


def test_a_spent_budget_falls_back_and_the_cheaper_one_has_its_own(start: Start) -> None:
    """Each is charged for what it ran; where both are spent the call is denied."""
    start(
        """
- id: FBK-004
  title: Then the small one
  at: model.before
  when: model.name == 'big'
  then: { fallback: { model: small, instead_of: [BUD-001] } }
""",
        more="""\
budgets:
  - { id: BUD-001, title: Two calls, key: [model.name], measure: calls, limit: 2, window: 1d, at: model.before,
      reserve: max, then: deny }
""",
    )
    assert [ask("hi") for _ in range(4)] == ["big: hi"] * 2 + ["small: hi"] * 2
    with pytest.raises(agentguard.CallDenied) as caught:
        ask("hi")
    assert caught.value.decision.kind is DenialKind.WAIT
    assert caught.value.record.model == "small"


def test_an_open_breaker_falls_back_to_a_function(start: Start) -> None:
    """What fails is rested, and a cache answers meanwhile."""
    agentguard.register_fallback("from_cache", cached)

    @agentguard.tool(name="search", effect="read")
    def failing(query: str) -> str:
        raise OSError(query)

    start("""
- id: REL-001
  title: Rest it
  at: tool.before
  when: tool.error_rate_5m > 0.5 && tool.calls_5m >= 3
  then: { circuit_break: { key: tool.name, open_for: 2m } }
- id: FBK-005
  title: A cache answers
  at: tool.before
  when: "true"
  then: { fallback: { function: from_cache, instead_of: [REL-001] } }
""")
    for _ in range(3):
        with pytest.raises(OSError, match="x"):
            failing("x")
    assert failing("x") == "cached x"


def test_fallbacks_one_after_the_other_are_bounded(start: Start) -> None:
    """A circle that the documents cannot show is denied at the call, as is too long a way."""
    rules = "".join(
        f"""
- id: F{n}
  title: On
  at: model.before
  when: model.name == '{a}' && principal.id == '{who}'
  then: {{ fallback: {{ model: {b} }} }}
"""
        for n, (a, b, who) in enumerate(
            [("big", "b", "x"), ("b", "big", "x"), ("big", "m1", "y"), ("m1", "m2", "y"), ("m2", "m3", "y"), ("m3", "m4", "y")]
        )
    )  # fmt: skip
    start(rules)
    for who, said in (("x", "in a circle: big to b to big"), ("y", "more than 3 fallbacks")):
        with agentguard.run(principal=who), pytest.raises(agentguard.CallDenied, match="policy") as caught:
            ask("hi")
        assert said in caught.value.decision.reason


def test_an_approval_is_for_what_runs(start: Start) -> None:
    """The person sees the small model; the demand of the rule about the big one holds for it."""
    key = SigningKey.generate()
    runtime = start(
        CHEAPER + """
- id: PAY-001
  title: A person decides
  at: model.before
  when: model.name == 'big'
  then: { require_approval: { from: [bob@corp.example], expires: 15m } }
""",
        more=f"""---
apiVersion: agentguard/v1
kind: Approvers
metadata: {{name: people}}
groups: {{payments: [{{id: bob@corp.example, public_key: "{key.verify_key.to_text()}"}}]}}
""",
    )  # fmt: skip
    with pytest.raises(agentguard.ApprovalPending) as caught:
        ask("hi")
    approvals = runtime.state.approvals
    request = approvals.show(caught.value.token)
    assert request.action["model"] == "small"
    assert request.action["args"] == {"prompt": "hi", "model": "small"}
    vote = sign_vote(
        key, store_id=approvals.store_id, token=request.token, digest=request.digest,
        approver="bob@corp.example", time_unix_s=runtime.clock.unix_ns() // 10**9,
    )  # fmt: skip
    approvals.grant(request.token, vote, runtime.approvers)
    assert ask("hi") == "small: hi"
    with pytest.raises(agentguard.ApprovalPending):
        ask("hi")


def test_what_is_denied_is_not_saved_by_a_fallback(start: Start) -> None:
    """Gates win."""
    start(
        CHEAPER
        + """
- { id: DNY-003, title: No, at: model.before, when: model.name == 'big', then: deny }
"""
    )
    with pytest.raises(agentguard.CallDenied) as caught:
        ask("hi")
    assert caught.value.decision.rule_id == "DNY-003"


def test_a_killed_replacement_stays_killed(start: Start) -> None:
    """The kill switch is asked about what the call goes to."""
    runtime = start(CHEAPER)
    runtime.state.kill.set("model:small", reason="stop", by="ann")
    with pytest.raises(agentguard.CallDenied) as caught:
        ask("hi")
    assert caught.value.decision.effect is Effect.KILL


def test_rules_that_name_an_unknown_function_do_not_come_into_force(start: Start) -> None:
    """`init()` refuses, with the place of the rule."""
    with pytest.raises((ConfigurationError, PolicyDocumentError), match="from_cache"):
        start(CACHED)


def test_functions_are_registered_before_init(start: Start) -> None:
    """One name is one function; afterwards none is added."""
    agentguard.register_fallback("from_cache", cached)
    agentguard.register_fallback("from_cache", cached)
    with pytest.raises(ConfigurationError, match="for another function"):
        agentguard.register_fallback("from_cache", cached_items)
    with pytest.raises(ConfigurationError, match="needs a function"):
        agentguard.register_fallback("nothing", 3)  # type: ignore[arg-type]
    start(CACHED)
    with pytest.raises(ConfigurationError, match="comes after init"):
        agentguard.register_fallback("late", cached_items)


def test_the_result_is_judged_as_that_of_what_ran(start: Start) -> None:
    """A rule after the call sees the name of the function that answered."""
    agentguard.register_fallback("from_cache", cached)
    start(
        CACHED
        + """
- { id: AFT-001, title: No old answers, at: tool.after, when: "tool.name == 'from_cache' && result.contains('cached')", then: deny }
"""
    )
    with pytest.raises(agentguard.CallDenied) as caught:
        search("x")
    assert caught.value.decision.rule_id == "AFT-001"
    assert caught.value.record.requested == "search"


def test_an_object_that_counts_as_false_stands_in(start: Start) -> None:
    """Whether it is there is asked, not whether it is true."""

    class Empty(list[str]):
        def __call__(self, query: str, pages: int) -> str:
            return "nothing"

    agentguard.register_fallback("from_cache", Empty())
    start(CACHED)
    assert search("x") == "nothing"
    assert ASKED == []
