"""
The four calls of `overhead.py` as other libraries record them; runs in the environment of one of them.

Started by `overhead_peers.py`, with nothing but the standard library and that one library. Each is set up
as its own documentation says, with its batching exporter, and told that the sink on this machine is its
backend. `prepare_NAME` gives the function of one turn, and what brings everything to the sink.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.metadata
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CALLS_A_TURN = 4
WARM_UP_TURNS = 200
QUEUE_SPANS = 1 << 18
"""Room for every span of a run, where a library lets one say so: what is dropped would make it look cheap."""
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-5-2026-08-07",
    "choices": [{"finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1200, "completion_tokens": 90},
}

Arm = tuple[Callable[[], object], Callable[[], object]]


def ask(_: str) -> dict[str, Any]:
    """Stand in for a model."""
    return ANSWER


def refund(order_id: str, amount_usd: float) -> str:
    """Stand in for a tool."""
    return order_id if amount_usd else ""


def turn_of(model: Callable[..., Any], tool: Callable[..., Any]) -> Callable[[], object]:
    """An agent's turn: two model calls and a tool call."""

    def support() -> object:
        model("which order?")
        tool("o-17", amount_usd=12.5)
        return model("what now?")

    return support


def prepare_plain(_: str) -> Arm:
    return turn_of(ask, refund), lambda: None


def prepare_langfuse(sink: str) -> Arm:
    from langfuse import Langfuse, observe

    client = Langfuse(public_key="pk-lf-bench", secret_key="sk-lf-bench", base_url=sink)

    @observe(as_type="generation", name="chat gpt-5")
    def model(question: str) -> dict[str, Any]:
        answer = ask(question)
        usage = answer["usage"]
        client.update_current_generation(
            model=answer["model"],
            usage_details={"input": usage["prompt_tokens"], "output": usage["completion_tokens"]},
            metadata={"response_id": answer["id"], "agent": "support"},
        )
        return answer

    turn = turn_of(model, observe(as_type="tool")(refund))
    return observe(as_type="agent")(turn), client.shutdown


def prepare_langsmith(sink: str) -> Arm:
    os.environ["LANGSMITH_TRACING"] = "true"
    from langsmith import Client, traceable

    # What its backend says of itself when asked; without that it does not begin to send.
    batches = {
        "use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520,
        "scale_up_nthreads_limit": 16, "scale_up_qsize_trigger": 1_000, "scale_down_nempty_trigger": 4,
    }  # fmt: skip
    client = Client(api_url=sink, api_key="bench", info={"batch_ingest_config": batches})

    @traceable(run_type="llm", name="chat gpt-5", client=client, metadata={"ls_model_name": "gpt-5"})
    def model(question: str) -> dict[str, Any]:
        answer = ask(question)
        usage = answer["usage"]
        tokens = {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
        return answer | {"usage_metadata": tokens | {"total_tokens": sum(tokens.values())}}

    turn = turn_of(model, traceable(run_type="tool", client=client)(refund))
    return traceable(run_type="chain", client=client)(turn), client.flush


def attributes_of(answer: dict[str, Any]) -> dict[str, Any]:
    """What the conventions say of an answer."""
    usage = answer["usage"]
    return {
        "gen_ai.response.id": answer["id"],
        "gen_ai.response.model": answer["model"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.agent.name": "support",
    }


def processor_to(sink: str) -> Any:
    """The batch processor of the SDK with the OTLP exporter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink}/v1/traces"), max_queue_size=QUEUE_SPANS)


def prepare_logfire(sink: str) -> Arm:
    import logfire

    logfire.configure(
        send_to_logfire=False, console=False, inspect_arguments=False, metrics=False, service_name="bench",
        additional_span_processors=[processor_to(sink)],
    )  # fmt: skip

    def model(question: str) -> dict[str, Any]:
        with logfire.span("chat gpt-5", **{"gen_ai.request.model": "gpt-5"}) as span:
            answer = ask(question)
            span.set_attributes(attributes_of(answer))
            return answer

    turn = turn_of(model, logfire.instrument("execute_tool refund")(refund))
    return logfire.instrument("invoke_agent support")(turn), logfire.shutdown


def prepare_traceloop(sink: str) -> Arm:
    from opentelemetry import trace
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import task, tool, workflow

    Traceloop.init(app_name="bench", api_endpoint=sink, api_key="bench", telemetry_enabled=False,
                   processor=processor_to(sink), instruments=set())  # fmt: skip

    @task(name="chat gpt-5")
    def model(question: str) -> dict[str, Any]:
        answer = ask(question)
        trace.get_current_span().set_attributes(attributes_of(answer))
        return answer

    turn = turn_of(model, tool(name="refund")(refund))
    return workflow(name="support")(turn), trace.get_tracer_provider().shutdown  # type: ignore[attr-defined]


def prepare_openinference(sink: str) -> Arm:
    from openinference.instrumentation import TracerProvider
    from opentelemetry.trace import get_current_span

    provider = TracerProvider()
    provider.add_span_processor(processor_to(sink))
    tracer = provider.get_tracer("bench")

    @tracer.llm(name="chat gpt-5")
    def model(question: str) -> dict[str, Any]:
        answer = ask(question)
        get_current_span().set_attributes(
            {
                "llm.model_name": answer["model"], "llm.token_count.prompt": answer["usage"]["prompt_tokens"],
                "llm.token_count.completion": answer["usage"]["completion_tokens"],
            }
        )  # fmt: skip
        return answer

    turn = turn_of(model, tracer.tool(name="refund")(refund))
    return tracer.agent(name="support")(turn), provider.shutdown


DISTRIBUTIONS = {
    "langfuse": "langfuse", "langsmith": "langsmith", "logfire": "logfire", "traceloop": "traceloop-sdk",
    "openinference": "openinference-instrumentation",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("peer", str), ("sink", str), ("turns", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faulthandler.dump_traceback_later(300, exit=True)
    turn, finish = globals()[f"prepare_{options.peer}"](options.sink)
    for _ in range(WARM_UP_TURNS):
        turn()
    time.sleep(0.5)
    process_s, hot_s = time.process_time(), time.thread_time()
    for _ in range(options.turns):
        turn()
    hot_s = time.thread_time() - hot_s
    finish()
    calls = options.turns * CALLS_A_TURN
    found = {
        "hot_us": hot_s / calls * 1e6,
        "process_us": (time.process_time() - process_s) / calls * 1e6,
        "version": importlib.metadata.version(DISTRIBUTIONS[options.peer]) if options.peer != "plain" else "",
        "distributions": len({found.metadata["Name"] for found in importlib.metadata.distributions()}),
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Some leave threads behind that would wait for a backend.


if __name__ == "__main__":
    main()
