"""`otel = "global"`: the SDK's native spans exist and are taken in, in an application without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wire import INPUT_TOKENS, OUTPUT_TOKENS, WireServer

pytest.importorskip("anthropic")

# A process of its own: OpenTelemetry lets the global provider be set once.
APPLICATION = """
import sys
import agentguard, anthropic
from opentelemetry import trace

url, store = sys.argv[1:]
runtime = agentguard.init(store=store, otel="global", strict=True, drift_interval_s=0)
http = anthropic.DefaultHttpxClient(trust_env=False)
client = anthropic.Anthropic(base_url=url, api_key="none", http_client=http)

@agentguard.agent
def answer():
    return client.messages.create(model="small", max_tokens=50, messages=[{"role": "user", "content": "needle"}])

answer()
assert runtime.flush(10).is_complete
for span in sorted(runtime.store.query().spans(), key=lambda span: span.start_unix_ns):
    tokens = [span.attributes.get("gen_ai.usage." + side) for side in ("input_tokens", "output_tokens")]
    total = span.attributes.get("agentguard.usage.total.input_tokens")
    print(span.scope, span.kind, *tokens, total, bool(span.parent_span_id), "needle" in repr(span))
agentguard.shutdown()
"""


def test_native_spans_without_a_provider_of_the_application(tmp_path: Path) -> None:
    """One span of the SDK inside our agent: its tokens once, in the agent's totals, without content."""
    with WireServer() as wire:
        result = subprocess.run(
            [sys.executable, "-c", APPLICATION, wire.url, str(tmp_path / "store")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert result.returncode == 0, result.stderr
    ours, native = result.stdout.splitlines()
    assert ours == f"agentguard agent None None {INPUT_TOKENS} False False"
    assert native == f"com.anthropic.sdk.python model {INPUT_TOKENS} {OUTPUT_TOKENS} None True False"
