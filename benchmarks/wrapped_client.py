"""
What `agentguard.wrap` adds to one request of the OpenAI client.

The client talks to a transport that answers at once, so that nothing is measured but Python: bare and
wrapped clients take turns, and the figure is the difference of their medians. Run it with the interpreter
of an environment that has the `openai` package:

    python benchmarks/wrapped_client.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx2
import openai

import agentguard

ROUNDS, CALLS = 40, 50
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
POLICY = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {name: bench, version: 1.0.0, title: Bench, owner: you@example.com}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
  - {id: B-1, title: A, at: model.before, when: "model.name == 'other'", then: deny}
  - {id: B-2, title: B, at: model.before, when: "args.max_tokens > 1000", then: deny}
"""


def client() -> openai.OpenAI:
    """Make a client that reaches nobody."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=ANSWER))
    return openai.OpenAI(
        api_key="none", base_url="http://model.invalid/v1", http_client=httpx2.Client(transport=transport)
    )


def per_call_us(made: openai.OpenAI) -> float:
    """Microseconds of one request, mean over a round."""
    messages = [{"role": "user", "content": "Say hi."}]
    started_ns = time.perf_counter_ns()
    for _ in range(CALLS):
        made.chat.completions.create(model="m", messages=messages, max_tokens=50)  # type: ignore[arg-type]
    return (time.perf_counter_ns() - started_ns) / CALLS / 1e3


def main() -> None:
    """Measure, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        (Path(folder) / "bench.yaml").write_text(POLICY, encoding="utf-8")
        agentguard.init(
            store=Path(folder) / "store", policies=Path(folder) / "bench.yaml", drift_interval_s=0
        )
        bare, wrapped = client(), agentguard.wrap(client())
        per_call_us(bare), per_call_us(wrapped)
        pairs = [(per_call_us(bare), per_call_us(wrapped)) for _ in range(ROUNDS)]
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        added = statistics.median(after - before for before, after in pairs)
        print(
            f"bare {medians[0]:.0f} us, wrapped {medians[1]:.0f} us, added {added:.0f} us a request, two rules judged"
        )
        agentguard.shutdown(10.0)


if __name__ == "__main__":
    main()
