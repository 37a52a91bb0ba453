"""`agentguard.wrap` on the real OpenAI client: each request is a governed model call, and the client stays itself."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

import agentguard
from agentguard.seal import SigningKey
from agentguard.state import sign_vote
from agentguard.values import attributes as names
from tests.support.governed import Governed
from tests.support.split_card import CARD_OUT, NO_CARD, REDACTED, say_a_card
from tests.support.wire import INPUT_TOKENS, OUTPUT_TOKENS, TEXT, WireServer

openai = pytest.importorskip("openai")

HELLO = [{"role": "user", "content": "Hello, I am Quentin Needle."}]
USAGE = {"include_usage": True}

NO_BIG_MODEL = """
- id: MOD-001
  title: Only small models
  at: model.before
  when: model.name == 'big'
  then: deny
  record: required
"""
NO_WORD = """
- id: MOD-002
  title: No good day
  at: model.after
  when: >-
    has(result.choices) && result.choices.exists(c, c.message.content.contains('Good'))
  then: deny
"""


@pytest.fixture
def client(wire: WireServer) -> Iterator[openai.OpenAI]:
    """The real client, wrapped."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{wire.url}/v1", api_key="none", http_client=http) as made:
        yield agentguard.wrap(made)


def async_client(wire: WireServer) -> openai.AsyncOpenAI:
    """The same, async."""
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    return agentguard.wrap(openai.AsyncOpenAI(base_url=f"{wire.url}/v1", api_key="none", http_client=http))


def test_a_request_is_a_model_call(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """One span with the parameters of the request, the tokens of the answer, and where it went."""
    governed.start()
    with agentguard.run(conversation_id="c1"):
        answer = client.chat.completions.create(
            model="small", messages=HELLO, max_tokens=50, temperature=0, top_p=0.5, stop="END", seed=3, n=1
        )
    assert type(answer).__name__ == "ChatCompletion"
    span = governed.only()
    assert (span.name, span.kind, span.otel_kind, span.status) == ("chat small", "model", "client", "unset")
    expected = {
        names.OPERATION_NAME: "chat",
        names.PROVIDER_NAME: "openai",
        names.REQUEST_MODEL: "small",
        names.REQUEST_MAX_TOKENS: 50,
        names.REQUEST_TEMPERATURE: 0.0,
        names.REQUEST_TOP_P: 0.5,
        names.REQUEST_SEED: 3,
        names.RESPONSE_MODEL: "small-2026",
        names.RESPONSE_ID: "chatcmpl-1",
        names.INPUT_TOKENS: INPUT_TOKENS,
        names.OUTPUT_TOKENS: OUTPUT_TOKENS,
        names.CONVERSATION_ID: "c1",
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: wire.port,
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert list(span.attributes[names.REQUEST_STOP_SEQUENCES]) == ["END"]
    assert names.REQUEST_STREAM not in span.attributes
    assert names.REQUEST_CHOICE_COUNT not in span.attributes
    assert "Needle" not in json.dumps(dict(span.attributes), default=str)


def test_a_denied_request_is_not_sent(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """The server hears nothing, the caller gets CallDenied, the decision is on record."""
    governed.start(NO_BIG_MODEL)
    with pytest.raises(agentguard.CallDenied, match="MOD-001"):
        client.chat.completions.create(model="big", messages=HELLO)
    assert wire.asked == []
    assert client.chat.completions.create(model="small", messages=HELLO).choices[0].message.content == TEXT
    denied, allowed = governed.spans()
    assert denied.attributes[names.OUTCOME] == "denied"
    assert "MOD-001" in json.dumps([dict(event.attributes) for event in denied.events], default=str)
    assert names.OUTCOME not in allowed.attributes
    assert [d.record.model for d in governed.decisions() if not d.record.decision.is_allowed] == ["big"]


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.chat.completions.create(model="big", messages=HELLO, stream=True),
        lambda c: c.chat.completions.create(model="small", messages=HELLO, extra_body={"model": "big"}),
        lambda c: c.chat.completions.parse(model="big", messages=HELLO),
        lambda c: c.chat.completions.stream(model="big", messages=HELLO).__enter__(),
        lambda c: c.chat.completions.with_raw_response.create(model="big", messages=HELLO),
        lambda c: c.chat.completions.with_streaming_response.create(model="big", messages=HELLO).__enter__(),
        lambda c: c.with_raw_response.chat.completions.create(model="big", messages=HELLO),
        lambda c: c.with_options(timeout=5).chat.completions.create(model="big", messages=HELLO),
        lambda c: c.copy().copy(max_retries=0).responses.create(model="big", input="hi"),
        lambda c: c.responses.create(model="big", input="hi"),
        lambda c: c.responses.create(model="big", input="hi", stream=True),
        lambda c: c.embeddings.create(model="big", input="hi"),
        lambda c: c.completions.create(model="big", prompt="hi"),
        lambda c: c.images.generate(model="big", prompt="hi"),
        lambda c: c.post("/chat/completions", body={"model": "big", "messages": HELLO}, cast_to=object),
        lambda c: (
            c.post("/chat/completions", content=b'{"model": "big"}', cast_to=object)
            if openai.__version__ >= "3"
            else c.post("/chat/completions", body={"model": "big"}, cast_to=object)
        ),
    ],
)
def test_no_way_around(governed: Governed, client: openai.OpenAI, wire: WireServer, call: Any) -> None:
    """Helpers, raw responses, copies and hand-written requests pass the same point."""
    governed.start(NO_BIG_MODEL)
    with pytest.raises(agentguard.CallDenied):
        call(client)
    assert wire.asked == []


def test_azure(governed: Governed, wire: WireServer) -> None:
    """The client for Azure rewrites the path below us; it is judged and named all the same."""
    governed.start(NO_BIG_MODEL)
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.AzureOpenAI(
        azure_endpoint=wire.url, api_key="none", api_version="2026-01-01", http_client=http
    ) as bare:
        client = agentguard.wrap(bare)
        client.chat.completions.create(model="small", messages=HELLO)
        with pytest.raises(agentguard.CallDenied):
            client.with_options(timeout=5).chat.completions.create(model="big", messages=HELLO)
    (asked,) = wire.asked
    assert asked.path.startswith("/openai/deployments/small/chat/completions")
    assert governed.spans()[0].attributes[names.PROVIDER_NAME] == "azure.ai.openai"


def test_approval(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """A request that needs a person is not sent; granted, exactly that one is sent, once."""
    key = SigningKey.generate()
    public = base64.b64encode(key.verify_key.raw).decode()
    runtime = governed.start(
        """
        - id: APP-001
          title: A person for the big model
          at: model.before
          when: model.name == 'big'
          then: { require_approval: { from: [group:ops], approvals: 1, expires: 1h } }
        """,
        more=f"""---
apiVersion: agentguard/v1
kind: Approvers
metadata: {{name: people}}
groups:
  ops:
    - {{id: bob@corp.example, public_key: "ed25519:{public}"}}
""",
    )

    def ask(**more: Any) -> str:
        answer = client.chat.completions.create(model="big", messages=HELLO, temperature=0.5, **more)
        return answer.choices[0].message.content

    with pytest.raises(agentguard.ApprovalPending) as pending:
        ask()
    assert wire.asked == []
    approvals = runtime.state.approvals
    request = approvals.show(pending.value.token)
    vote = sign_vote(
        key,
        store_id=approvals.store_id,
        token=request.token,
        digest=request.digest,
        approver="bob@corp.example",
        verdict="approve",
        time_unix_s=runtime.clock.unix_ns() // 10**9,
    )
    approvals.grant(pending.value.token, vote, runtime.approvers)
    with pytest.raises(agentguard.ApprovalPending):
        ask(max_tokens=1)
    assert ask() == TEXT
    assert wire.asked[0].body == {"model": "big", "messages": HELLO, "temperature": 0.5}
    with pytest.raises(agentguard.ApprovalPending):
        ask()
    assert len(wire.asked) == 1


def test_the_kill_switch(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """An order against one model stops its requests at once, and no other's."""
    runtime = governed.start()
    client.chat.completions.create(model="big", messages=HELLO)
    runtime.state.kill.set("model:big", by="ops", reason="incident")
    with pytest.raises(agentguard.CallDenied):
        client.chat.completions.create(model="big", messages=HELLO)
    client.chat.completions.create(model="small", messages=HELLO)
    assert [asked.body["model"] for asked in wire.asked] == ["big", "small"]


def test_an_iterator_of_messages(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """A request made from a generator is judged and sent whole."""
    governed.start(NO_BIG_MODEL)
    body = {"model": "small", "messages": iter(HELLO)}
    client.post("/chat/completions", body=body, cast_to=object)
    assert wire.asked[0].body["messages"] == HELLO


def test_other_requests_are_left_alone(governed: Governed, client: openai.OpenAI) -> None:
    """Listing models is no model call."""
    governed.start(NO_BIG_MODEL)
    assert list(client.models.list()) == []
    assert governed.spans() == []


def test_stream(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """The stream is the SDK's by type, its tokens and first content are on the span."""
    governed.start()
    wire.pause_s = 0.005
    stream = client.chat.completions.create(model="small", messages=HELLO, stream=True, stream_options=USAGE)
    assert isinstance(stream, openai.Stream)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == TEXT
    span = governed.only()
    assert span.attributes[names.REQUEST_STREAM] is True
    assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
    assert 0 < span.attributes[names.TIME_TO_FIRST_CHUNK_S] < span.duration_ns / 1e9


def test_stream_left_early(governed: Governed, client: openai.OpenAI) -> None:
    """Closed after one chunk: abandoned, usage unknown."""
    governed.start()
    with client.chat.completions.create(model="small", messages=HELLO, stream=True) as stream:
        next(iter(stream))
    span = governed.only()
    assert span.attributes[names.STREAM_OUTCOME] == "abandoned"
    assert names.OUTPUT_TOKENS not in span.attributes


def test_stream_helper(governed: Governed, client: openai.OpenAI) -> None:
    """The SDK's own accumulating stream works on top, and is one call."""
    governed.start()
    with client.chat.completions.stream(model="small", messages=HELLO, stream_options=USAGE) as stream:
        for _event in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == TEXT
    assert governed.only().attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS


def test_responses(governed: Governed, client: openai.OpenAI) -> None:
    """The Responses API: whole, stream and helper."""
    governed.start()
    assert client.responses.create(model="small", input="hi", max_output_tokens=9).output_text == TEXT
    events = list(client.responses.create(model="small", input="hi", stream=True))
    assert events[-1].response.output_text == TEXT
    with client.responses.stream(model="small", input="hi") as stream:
        stream.until_done()
    whole, *streams = governed.spans()
    assert whole.attributes[names.REQUEST_MAX_TOKENS] == 9
    for span in (whole, *streams):
        assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
        assert span.attributes[names.CACHE_READ_TOKENS] == 4
        assert span.attributes[names.REASONING_TOKENS] == 2
    assert len(streams) == 2


def test_embeddings(governed: Governed, client: openai.OpenAI) -> None:
    """Embeddings are of their own kind."""
    governed.start()
    client.embeddings.create(model="e", input="hi", dimensions=2, encoding_format="float")
    span = governed.only()
    assert (span.name, span.kind) == ("embeddings e", "embeddings")
    assert span.attributes[names.INPUT_TOKENS] == INPUT_TOKENS
    assert span.attributes[names.EMBEDDINGS_DIMENSION_COUNT] == 2


def test_retries(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """The SDK's silent retries are on the span; giving up is its own error by its code."""
    governed.start()
    wire.refuse(429, 503)
    client.chat.completions.create(model="small", messages=HELLO)
    wire.refuse(429, 429, 429)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="small", messages=HELLO)
    retried, failed = governed.spans()
    assert retried.attributes[names.HTTP_RESEND_COUNT] == 2
    retries = [event.attributes for event in retried.events if event.name == names.EVENT_RETRY]
    assert [attributes[names.HTTP_STATUS_CODE] for attributes in retries] == [429, 503]
    assert (failed.status, failed.attributes[names.ERROR_TYPE]) == ("error", "rate_limited")
    assert failed.attributes[names.HTTP_RESEND_COUNT] == 2


def test_the_client_stays_itself(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """Same object and type; wrapped twice is wrapped once; a copy is of the same type and governed once."""
    governed.start()
    assert type(client) is openai.OpenAI
    request = client.request
    assert agentguard.wrap(client) is client
    assert client.request is request
    copied = client.with_options(max_retries=0)
    assert type(copied) is openai.OpenAI
    assert agentguard.wrap(copied).max_retries == 0
    copied.chat.completions.create(model="small", messages=HELLO)
    assert len(governed.spans()) == 1
    wire.refuse(429)
    with pytest.raises(openai.RateLimitError):
        copied.chat.completions.create(model="small", messages=HELLO)


def test_raw_responses(governed: Governed, client: openai.OpenAI) -> None:
    """Raw responses are the SDK's, and their tokens are counted where they can be known."""
    governed.start()
    raw = client.chat.completions.with_raw_response.create(model="small", messages=HELLO)
    assert raw.status_code == 200
    assert raw.parse().usage.completion_tokens == OUTPUT_TOKENS
    asked = client.chat.completions.with_streaming_response
    with asked.create(model="small", messages=HELLO) as response:
        assert response.parse().choices[0].message.content == TEXT
    with asked.create(model="small", messages=HELLO) as response:
        assert b"chatcmpl-1" in b"".join(response.iter_bytes())
    raw_stream = client.chat.completions.with_raw_response.create(
        model="small", messages=HELLO, stream=True, stream_options=USAGE
    )
    assert len(list(raw_stream.parse())) > 4
    spans = governed.spans()
    known = [span.attributes.get(names.OUTPUT_TOKENS) for span in spans]
    assert known == [OUTPUT_TOKENS, OUTPUT_TOKENS, None, OUTPUT_TOKENS]
    assert spans[2].attributes[names.USAGE_MISSING] is True


def test_raw_response_that_is_dropped(governed: Governed, client: openai.OpenAI) -> None:
    """A response that nobody reads ends its call when it is collected."""
    governed.start()
    response = client.chat.completions.with_raw_response.create(model="small", messages=HELLO, stream=True)
    response.http_response.close()
    del response
    gc.collect()
    assert governed.only().attributes[names.USAGE_MISSING] is True


def test_a_rule_judges_the_answer(governed: Governed, client: openai.OpenAI) -> None:
    """A denied answer never reaches the caller: whole, raw, or as a stream."""
    governed.start(NO_WORD)
    create = client.chat.completions
    with pytest.raises(agentguard.CallDenied, match="MOD-002"):
        create.create(model="small", messages=HELLO)
    with pytest.raises(agentguard.CallDenied, match="MOD-002"):
        create.with_raw_response.create(model="small", messages=HELLO)
    # What could not be judged is not shown either.
    with (
        pytest.raises(agentguard.CallDenied),
        create.with_streaming_response.create(model="small", messages=HELLO),
    ):
        pass


def test_a_held_stream(governed: Governed, client: openai.OpenAI) -> None:
    """With a rule on results a stream is judged as a whole first, and is still the SDK's type."""
    governed.start(
        """
        - id: MOD-003
          title: Short streams only
          at: model.after
          when: has(result.items) && result.items.size() > 100
          then: deny
        """
    )
    stream = client.chat.completions.create(model="small", messages=HELLO, stream=True, stream_options=USAGE)
    assert isinstance(stream, openai.Stream)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == TEXT
    assert governed.only().attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS


def test_redaction(governed: Governed, client: openai.OpenAI, wire: WireServer) -> None:
    """A rule takes personal data out of the request and out of the answer."""
    governed.start(
        """
        - id: RED-001
          title: No mail addresses to the model
          at: model.before
          when: "true"
          then: { redact: [email] }
        """
    )
    client.chat.completions.create(
        model="small",
        messages=[{"role": "user", "content": "I am ann@example.org"}],
        extra_body={"note": "bob@example.org"},
    )
    assert "example.org" not in json.dumps(wire.asked[0].body)
    assert wire.asked[0].body["messages"][0]["content"] == "I am [REDACTED:email]"
    assert wire.asked[0].body["note"] == "[REDACTED:email]"


def test_inside_a_model_function_it_is_one_span(
    governed: Governed, client: openai.OpenAI, wire: WireServer
) -> None:
    """The request joins the call around it: one span, tokens once, judged twice."""
    runtime = governed.start(
        NO_BIG_MODEL
        + """
- id: MOD-009
  title: Count
  at: model.before
  when: run.model_calls > 1
  then: deny
"""
    )

    @agentguard.model
    def ask(question: str, model: str | None = None) -> str:
        answer = client.chat.completions.create(
            model=model or "small", messages=[{"role": "user", "content": question}], max_tokens=7
        )
        return answer.choices[0].message.content

    @agentguard.agent(name="a")
    def agent() -> str:
        return ask("hi")

    wire.refuse(429)
    with agentguard.run() as this:
        assert agent() == TEXT
        assert (this.model_calls, this.tokens) == (1, INPUT_TOKENS + OUTPUT_TOKENS)
    assert runtime.state.spend.tokens_today() == INPUT_TOKENS + OUTPUT_TOKENS
    root, span = governed.spans()
    assert span.name == "chat small"
    assert span.attributes[names.REQUEST_MODEL] == "small"
    assert span.attributes[names.REQUEST_MAX_TOKENS] == 7
    assert span.attributes[names.PROVIDER_NAME] == "openai"
    assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
    assert span.attributes[names.HTTP_RESEND_COUNT] == 1
    assert root.attributes[names.USAGE_TOTAL_OUTPUT_TOKENS] == OUTPUT_TOKENS
    # The function does not say which model it calls: only the request does, and it is judged.
    with agentguard.run(), pytest.raises(agentguard.CallDenied):
        ask("hi", "big")
    assert len(wire.asked) == 2


def test_a_limit_counts_one_model_call_once(
    governed: Governed, client: openai.OpenAI, wire: WireServer
) -> None:
    """The function and its request are one call for a throttle; a throttle by model counts the model."""
    governed.start(
        """
        - id: THR-001
          title: Two calls
          at: model.before
          when: "true"
          then: { throttle: { key: agent.name, limit: 2, window: 1h } }
        - id: THR-002
          title: One call of the big model
          at: model.before
          when: model.name == 'big'
          then: { throttle: { key: model.name, limit: 1, window: 1h } }
        """
    )

    @agentguard.model
    def ask(model: str | None = None) -> str:
        return (
            client.chat.completions.create(model=model or "small", messages=HELLO).choices[0].message.content
        )

    assert ask() == TEXT
    assert ask("big") == TEXT
    for model, rule in (("small", "THR-001"), ("big", "THR-00")):
        with pytest.raises(agentguard.CallDenied, match=rule):
            client.chat.completions.create(model=model, messages=HELLO)
    assert len(wire.asked) == 2


def test_timeouts_and_cancellation_are_the_callers(governed: Governed, wire: WireServer) -> None:
    """`asyncio.timeout` around a wrapped call fires as around a bare one, in a stream too."""
    governed.start()
    wire.pause_s = 1.0

    async def scene() -> None:
        async with async_client(wire) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    async for _ in await client.chat.completions.create(
                        model="small", messages=HELLO, stream=True
                    ):
                        pass
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0

    asyncio.run(scene())
    assert governed.only().attributes[names.OUTCOME] == "cancelled"


def test_a_stream_inside_a_model_function(governed: Governed, client: openai.OpenAI) -> None:
    """Consumed inside or handed out: one span, tokens once, time to first chunk."""
    governed.start()

    def create() -> Any:
        return client.chat.completions.create(
            model="small", messages=HELLO, stream=True, stream_options=USAGE
        )

    @agentguard.model
    def text() -> str:
        return "".join(c.choices[0].delta.content or "" for c in create() if c.choices)

    @agentguard.model
    def handed_out() -> Any:
        return create()

    @agentguard.model
    def generated() -> Iterator[Any]:
        yield from create()

    assert text() == TEXT
    assert len(list(handed_out())) == len(list(generated())) == 6
    spans = governed.spans()
    assert [span.name for span in spans] == ["chat small"] * 3
    for span in spans:
        assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
        assert names.USAGE_BILLED_OUTPUT_TOKENS not in span.attributes
        assert span.attributes[names.TIME_TO_FIRST_CHUNK_S] > 0


def test_inside_an_agent_or_a_tool_it_has_a_span_of_its_own(
    governed: Governed, client: openai.OpenAI
) -> None:
    """Only a model call is joined: a tool that asks a model makes two spans."""
    governed.start()

    @agentguard.tool
    def summarise() -> str:
        return client.chat.completions.create(model="small", messages=HELLO).choices[0].message.content

    @agentguard.model
    def outer() -> str:
        return summarise()

    outer()
    model, tool, request = governed.spans()
    assert [model.kind, tool.kind, request.kind] == ["model", "tool", "model"]
    assert request.parent_span_id == tool.span_id
    assert names.OUTPUT_TOKENS not in model.attributes
    assert request.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS


def test_a_denied_tool_call_is_told_to_the_model(
    governed: Governed, client: openai.OpenAI, wire: WireServer
) -> None:
    """The text of CallDenied is the answer to the tool call; the tool does not run."""
    governed.start(
        """
        - id: REF-001
          title: Refunds up to 100
          at: tool.before
          when: tool.name == 'refund' && args.amount_usd > 100.0
          then: deny
        """
    )
    ran = []

    @agentguard.tool(effect="write")
    def refund(order: str, amount_usd: float) -> str:
        ran.append(order)
        return "done"

    tools = {"refund": refund}
    messages: list[Any] = [{"role": "user", "content": "900 back, please"}]
    offered = [{"type": "function", "function": {"name": "refund", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(model="small", messages=messages, tools=offered)
    messages.append(answer.choices[0].message.model_dump(exclude_none=True))
    for call in answer.choices[0].message.tool_calls:
        try:
            result = tools[call.function.name](**json.loads(call.function.arguments))
        except agentguard.CallDenied as denied:
            result = str(denied)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    final = client.chat.completions.create(model="small", messages=messages, tools=offered)
    assert final.choices[0].message.content == TEXT
    assert ran == []
    assert wire.asked[-1].body["messages"][-1]["content"].startswith("Denied by policy REF-001")


def test_async(governed: Governed, wire: WireServer) -> None:
    """The async client: answers, streams, raw responses, retries, and a denial before the server hears of it."""
    governed.start(NO_BIG_MODEL)

    async def scene() -> None:
        async with async_client(wire) as client:
            create = client.chat.completions.create
            wire.refuse(429)
            answer = await create(model="small", messages=HELLO)
            assert answer.choices[0].message.content == TEXT
            stream = await create(model="small", messages=HELLO, stream=True, stream_options=USAGE)
            assert isinstance(stream, openai.AsyncStream)
            assert [c async for c in stream][-1].usage.completion_tokens == OUTPUT_TOKENS
            raw = await client.chat.completions.with_raw_response.create(model="small", messages=HELLO)
            assert raw.parse().usage.completion_tokens == OUTPUT_TOKENS
            asked = client.chat.completions.with_streaming_response.create(model="small", messages=HELLO)
            async with asked as response:
                assert (await response.parse()).usage.completion_tokens == OUTPUT_TOKENS
            async with client.chat.completions.stream(
                model="small", messages=HELLO, stream_options=USAGE
            ) as helper:
                await helper.get_final_completion()
            count = len(wire.asked)
            for denied in (
                create(model="big", messages=HELLO),
                create(model="big", messages=HELLO, stream=True),
                client.with_options(max_retries=0).responses.create(model="big", input="hi"),
            ):
                with pytest.raises(agentguard.CallDenied):
                    await denied
            assert len(wire.asked) == count
            task = asyncio.create_task(create(model="small", messages=HELLO))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scene())
    spans = governed.spans()
    assert [span.attributes.get(names.OUTPUT_TOKENS) for span in spans[:5]] == [OUTPUT_TOKENS] * 5
    assert spans[0].attributes[names.HTTP_RESEND_COUNT] == 1
    assert [span.attributes[names.OUTCOME] for span in spans[5:8]] == ["denied"] * 3


def test_many_at_once(governed: Governed, wire: WireServer) -> None:
    """Concurrent calls keep their parents apart."""
    governed.start()

    async def scene() -> None:
        async with async_client(wire) as client:

            @agentguard.agent
            async def agent(n: int) -> None:
                await client.chat.completions.create(model=f"m{n}", messages=HELLO)

            await asyncio.gather(*(agent(n) for n in range(20)))

    asyncio.run(scene())
    spans = governed.spans()
    agents = {span.span_id for span in spans if span.kind == "agent"}
    parents = [span.parent_span_id for span in spans if span.kind == "model"]
    assert len(agents) == len(parents) == 20
    assert set(parents) == agents


def test_before_init_it_is_the_bare_client(client: openai.OpenAI) -> None:
    """Without a runtime nothing is in the way."""
    assert client.chat.completions.create(model="big", messages=HELLO).choices[0].message.content == TEXT


def _chat_text(stream: Any) -> str:
    """What a stream of chat completions says."""
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


def _response_texts(stream: Any) -> set[str]:
    """What a stream of the Responses API says, by its pieces and by its events about the whole."""
    events = list(stream)
    pieces = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    whole = [e.response.output_text for e in events if e.type == "response.completed"]
    return {pieces, *whole}


def test_a_card_over_many_chunks(
    governed: Governed, client: openai.OpenAI, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule takes a number out that is split over chunks, of chats and of responses, sync and async."""
    say_a_card(monkeypatch)
    governed.start(CARD_OUT)
    stream = client.chat.completions.create(model="small", messages=HELLO, stream=True, stream_options=USAGE)
    assert _chat_text(stream) == REDACTED
    assert _response_texts(client.responses.create(model="small", input="hi", stream=True)) == {REDACTED}

    async def main() -> None:
        async with async_client(wire) as other:
            chunks = await other.chat.completions.create(model="small", messages=HELLO, stream=True)
            assert _chat_text([chunk async for chunk in chunks]) == REDACTED
            events = await other.responses.create(model="small", input="hi", stream=True)
            assert _response_texts([event async for event in events]) == {REDACTED}

    asyncio.run(main())
    spans = governed.spans()
    assert all(span.attributes[names.CONTENT_REDACTIONS] >= 1 for span in spans)
    assert spans[0].attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS


def test_a_card_over_many_chunks_stops_the_stream(
    governed: Governed, client: openai.OpenAI, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No digit of the number is shown before the stream ends with the reason."""
    say_a_card(monkeypatch)
    governed.start(NO_CARD)
    shown: list[Any] = []

    def read(stream: Any) -> None:
        for item in stream:
            shown.append(item)

    with pytest.raises(agentguard.CallDenied, match="CARD-1"):
        read(client.chat.completions.create(model="small", messages=HELLO, stream=True))
    with pytest.raises(agentguard.CallDenied, match="CARD-1"):
        read(client.responses.create(model="small", input="hi", stream=True))

    async def main() -> None:
        async with async_client(wire) as other:
            with pytest.raises(agentguard.CallDenied, match="CARD-1"):
                async for chunk in await other.chat.completions.create(
                    model="small", messages=HELLO, stream=True
                ):
                    shown.append(chunk)

    asyncio.run(main())
    assert "41" not in "".join(str(getattr(item, "delta", "")) for item in shown)
    assert "Card" not in "".join(str(item) for item in shown)


FALLBACK = """
- id: FBK-001
  title: The big model is too dear for this
  at: model.before
  when: model.name == 'big'
  then: { fallback: { model: small } }
"""


@pytest.mark.parametrize("kind", ["plain", "stream", "async", "extra body"])
def test_another_model_is_asked(
    governed: Governed, client: openai.OpenAI, wire: WireServer, kind: str
) -> None:
    """The request that leaves names the other model; span and decision name both."""
    governed.start(FALLBACK)
    if kind == "plain":
        assert client.chat.completions.create(model="big", messages=HELLO).choices[0].message.content == TEXT
    elif kind == "stream":
        list(client.chat.completions.create(model="big", messages=HELLO, stream=True, stream_options=USAGE))
    elif kind == "async":

        async def ask() -> None:
            async with async_client(wire) as later:
                await later.chat.completions.create(model="big", messages=HELLO)

        asyncio.run(ask())
    else:
        client.chat.completions.create(model="other", messages=HELLO, extra_body={"model": "big"})
    assert [asked.body["model"] for asked in wire.asked] == ["small"]
    span = governed.only()
    assert (span.name, span.attributes[names.REQUEST_MODEL]) == ("chat small", "small")
    assert span.attributes[names.FALLBACK_FROM] == "big"
    record = governed.decisions()[0].record
    assert (record.model, record.requested, record.fallback) == ("small", "big", "test/FBK-001")


def test_a_request_inside_a_model_function_is_sent_on(
    governed: Governed, client: openai.OpenAI, wire: WireServer
) -> None:
    """The span of the function names the model that was asked."""
    governed.start(FALLBACK)

    @agentguard.model
    def ask() -> object:
        return client.chat.completions.create(model="big", messages=HELLO)

    ask()
    assert wire.asked[0].body["model"] == "small"
    assert governed.only().attributes[names.REQUEST_MODEL] == "small"


def test_a_function_answers_for_a_model(
    governed: Governed, client: openai.OpenAI, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registered function gets the body by name, and nothing is sent."""
    from agentguard.runtime import registering

    monkeypatch.setattr(registering, "_STAND_INS", {})
    agentguard.register_fallback("canned", lambda **body: f"not {body['model']}")
    governed.start(FALLBACK.replace("{ model: small }", "{ function: canned }"))
    assert client.chat.completions.create(model="big", messages=HELLO) == "not big"
    assert wire.asked == []
    assert governed.decisions()[0].record.model == "canned"


def test_a_request_without_a_model_is_not_sent_on(
    governed: Governed, client: openai.OpenAI, wire: WireServer
) -> None:
    """Where no model stands none is put: the request is denied."""
    governed.start(FALLBACK.replace("model.name == 'big'", '"true"'))
    with pytest.raises(agentguard.CallDenied, match="FBK-001"):
        client.batches.create(completion_window="24h", endpoint="/v1/chat/completions", input_file_id="f")
    assert wire.asked == []
