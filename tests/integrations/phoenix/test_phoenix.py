"""Phoenix, end to end: every span once, with its name, tokens and parent, over HTTP and gRPC, also when sent twice."""

from __future__ import annotations

import json
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentguard.export import OtlpExporter, otlp_config
from agentguard.runtime import SystemClock
from tests.support.backend import Found, Server, expected, wait_for, work
from tests.support.governed import Governed

pytestmark = pytest.mark.timeout(420)
if find_spec("phoenix") is None:
    pytest.skip("Phoenix is not installed", allow_module_level=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Phoenix(Server):
    """A Phoenix of its own, with an empty database."""

    def __init__(self, folder: Path) -> None:
        port, grpc_port = free_port(), free_port()
        self.grpc_url = f"http://127.0.0.1:{grpc_port}"
        super().__init__(
            [Path(sys.executable).parent / "phoenix", "serve"],
            folder,
            f"http://127.0.0.1:{port}",
            {
                "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc_port),
                "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_TELEMETRY_ENABLED": "false",
            },
        )  # fmt: skip

    def spans(self) -> list[Found]:
        """Ask for all spans, as OTLP, page by page."""
        found: list[Found] = []
        cursor = ""
        while True:
            query = urllib.parse.urlencode({"limit": 100, **({"cursor": cursor} if cursor else {})})
            with urllib.request.urlopen(
                f"{self.url}/v1/projects/default/spans/otlpv1?{query}", timeout=30
            ) as answer:
                page = json.load(answer)
            found += map(_found, page["data"])
            cursor = page.get("next_cursor") or ""
            if not cursor:
                return found


def _found(span: dict[str, Any]) -> Found:
    """Read one span."""
    attributes = {
        one["key"]: value
        for one in span.get("attributes") or []
        for value in one["value"].values()
        if value is not None
    }

    def count(*written: str) -> int | None:
        # Phoenix reads the conventions, and writes tokens under its own names too.
        values = [attributes[name] for name in written if attributes.get(name) is not None]
        return int(float(values[0])) if values else None

    return Found(
        span["trace_id"], span["span_id"], span.get("parent_span_id") or "", span["name"],
        count("llm.token_count.prompt", "gen_ai.usage.input_tokens"), count("llm.token_count.completion", "gen_ai.usage.output_tokens"),
        (span.get("status") or {}).get("code") in (2, "STATUS_CODE_ERROR", "ERROR"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """Started once: it takes half a minute and more."""
    with Phoenix(tmp_path_factory.mktemp("phoenix")) as running:
        running.wait_until_ready("/healthz")
        yield running


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_every_span_once(governed: Governed, phoenix: Phoenix, protocol: str) -> None:
    """What is in the store is at the backend: sent by one process, and sent once more from the start."""
    runtime = governed.start()
    before = {one.span_id for one in phoenix.spans()} if protocol == "grpc" else set()
    stored = work(governed)
    endpoint = phoenix.grpc_url if protocol == "grpc" else phoenix.url
    for from_start in (False, True):
        exporter = OtlpExporter(
            runtime.store, otlp_config(endpoint, protocol=protocol), clock=SystemClock(),
            on_internal_error=lambda where, error: pytest.fail(f"{where}: {error}"),
        )  # fmt: skip
        assert exporter.run_once(60, from_start=from_start).sent == len(stored) == 48
    wanted = expected(stored)

    def arrived() -> list[Found]:
        return [one for one in phoenix.spans() if one.span_id not in before]

    wait_for(lambda: len({one.span_id for one in arrived()}) >= len(wanted), 60, arrived)
    found = arrived()
    assert len(found) == len({one.span_id for one in found}) == len(wanted)
    assert set(found) == wanted
