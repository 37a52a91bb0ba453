"""The page on Anthropic clients is true, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.how_to import follow_with
from tests.support.wire import Asked, WireServer, answer


def test_the_page_is_true(repository: Path, tmp_path: Path, wire: WireServer) -> None:
    """Every file is written, every command run, and prints what the page says."""

    def reply(asked: Asked) -> Any:
        if not asked.body.get("tools") or "tool_result" in json.dumps(asked.body["messages"]):
            return answer(asked)
        use = {
            "type": "tool_use",
            "id": "t1",
            "name": "refund",
            "input": {"order": "A-1", "amount_usd": 900.0},
        }
        return {**answer(asked), "content": [use], "stop_reason": "tool_use"}  # type: ignore[dict-item]

    wire.answer = reply
    page = repository / "docs/how-to/wrap-anthropic.md"
    assert follow_with(page, tmp_path, ANTHROPIC_API_KEY="none", ANTHROPIC_BASE_URL=wire.url) >= 5
