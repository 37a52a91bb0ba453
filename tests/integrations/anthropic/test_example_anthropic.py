"""The example of an agent on the Anthropic SDK runs as its first lines say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire import TEXT, Asked, WireServer, answer


@pytest.mark.parametrize(
    ("amount_usd", "told"), [(20.0, "paid USD 20.00"), (4800.0, "Denied by policy REF-001")]
)
def test_anthropic_agent(
    repository: Path, tmp_path: Path, wire: WireServer, amount_usd: float, told: str
) -> None:
    """The model reads the result of the tool, or why it did not run."""

    def reply(asked: Asked) -> Any:
        if "tool_result" in json.dumps(asked.body["messages"]):
            return answer(asked)
        use = {"type": "tool_use", "id": "t1", "name": "refund"}
        given = {**use, "input": {"order_id": "A-12", "amount_usd": amount_usd}}
        return {**answer(asked), "content": [given], "stop_reason": "tool_use"}  # type: ignore[dict-item]

    wire.answer = reply
    folder = Path(shutil.copytree(repository / "examples/anthropic_agent", tmp_path / "anthropic_agent"))
    ran = subprocess.run(
        [sys.executable, "anthropic_agent.py", "Money back, please."],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(repository),
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_BASE_URL": wire.url,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, f"{TEXT}\n"), ran.stderr
    assert told in json.dumps(wire.asked[-1].body["messages"][-1])
