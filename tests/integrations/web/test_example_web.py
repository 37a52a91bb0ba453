"""The example of a web service runs as its first lines say."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

httpx2 = pytest.importorskip("httpx2")


def test_web_service(repository: Path, tmp_path: Path) -> None:
    """Paid, refused by amount, refused by name, streamed; and all of it on record."""
    folder = Path(shutil.copytree(repository / "examples/web_service", tmp_path / "web_service"))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            for _ in range(400):
                try:
                    if client.get("/health").status_code == 200:
                        break
                except httpx2.TransportError:
                    time.sleep(0.05)
            ann = {"x-user": "ann"}
            paid = client.post("/orders/A-12/refund?amount_usd=20", headers=ann)
            large = client.post("/orders/A-12/refund?amount_usd=4800", headers=ann)
            nameless = client.post("/orders/A-12/refund?amount_usd=20")
            streamed = client.get("/orders?ids=A-1,B-2")
    finally:
        server.terminate()
        server.wait(20)
    assert paid.json() == "paid USD 20.00 back for A-12"
    assert (large.status_code, nameless.status_code) == (403, 403)
    assert "WEB-002" in large.json()["error"]["message"]
    assert "WEB-001" in nameless.json()["error"]["message"]
    assert streamed.text == "order A-1: shipped yesterday\norder B-2: shipped yesterday\n"
    listed = subprocess.run(
        [sys.executable, "-m", "agentguard", "spans", "--format", "json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = [span["kind"] for span in json.loads(listed.stdout)]
    assert sorted(kinds) == ["request"] * 4 + ["tool"] * 5
