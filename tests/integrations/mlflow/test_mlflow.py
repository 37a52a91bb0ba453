"""MLflow's tracking server, end to end: every span once, with its name, tokens and parent, also when sent twice."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentguard.export import OtlpExporter, otlp_config
from agentguard.runtime import SystemClock
from tests.support.backend import Found, Server, expected, wait_for, work
from tests.support.governed import Governed

pytestmark = pytest.mark.timeout(420)
if find_spec("mlflow") is None:
    pytest.skip("MLflow is not installed", allow_module_level=True)

ASK = """
import json, sys
import mlflow
client = mlflow.MlflowClient(sys.argv[1])
found, token = [], None
while True:
    page = client.search_traces(locations=["0"], max_results=100, page_token=token)
    for trace in page:
        for span in trace.data.spans:
            attributes = span.attributes
            found.append([
                trace.info.trace_id.removeprefix("tr-"), span.span_id, span.parent_id or "", span.name,
                attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens"),
                span.status.status_code.value == "ERROR",
            ])
    token = page.token
    if not token:
        break
print(json.dumps(found))
"""


class Mlflow(Server):
    """A tracking server of its own, with an empty database."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
        super().__init__(
            [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
             "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"],
            folder,
            f"http://127.0.0.1:{port}",
            {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
        )  # fmt: skip

    def spans(self) -> list[Found]:
        """Ask with MLflow's own client, in a process of its own."""
        asked = subprocess.run(
            [sys.executable, "-c", ASK, self.url], capture_output=True, text=True, timeout=120, check=False,
            env={**self._environ},
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr[-3000:]
        return [Found(*one) for one in json.loads(asked.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """Started once."""
    with Mlflow(tmp_path_factory.mktemp("mlflow")) as running:
        running.wait_until_ready("/health")
        yield running


def test_every_span_once(governed: Governed, mlflow: Mlflow) -> None:
    """What is in the store is at the backend: sent by one process, and sent once more from the start."""
    runtime = governed.start()
    stored = work(governed)
    for from_start in (False, True):
        exporter = OtlpExporter(
            runtime.store, otlp_config(mlflow.url, headers=[("x-mlflow-experiment-id", "0")]), clock=SystemClock(),
            on_internal_error=lambda where, error: pytest.fail(f"{where}: {error}"),
        )  # fmt: skip
        assert exporter.run_once(60, from_start=from_start).sent == len(stored) == 48
    wanted = expected(stored)
    found: list[Found] = []

    def has_all() -> bool:
        found[:] = mlflow.spans()
        return len({one.span_id for one in found}) >= len(wanted)

    wait_for(has_all, 90, lambda: found)
    assert len(found) == len({one.span_id for one in found}) == len(wanted)
    assert set(found) == wanted
