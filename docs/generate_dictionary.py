"""
Makes the dictionary that content of persons is compressed with: `agentguard/store/content-1.dict`.

    python docs/generate_dictionary.py FILE

A small group of content compresses badly by itself. The dictionary holds what such groups have in common:
the names of attributes, the scaffolding of messages, and common English, which here is the text of these
pages and of the docstrings. Nobody's content is in it.

The file in the package is part of the segment format and never changes: running this again, over
pages that have changed, makes another dictionary, which would be the next one beside it.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sys
from pathlib import Path

import msgspec

from agentguard.store._codec import zstd
from agentguard.values import attributes as names

ROOT = Path(__file__).resolve().parent.parent
DICTIONARY_BYTES = 65_536
_MARKUP = re.compile(r"[|`#*<>\[\]{}\-]+")
_SAMPLE_CHARS = 1500


def english() -> str:
    """The text of the pages and of the docstrings, on one line."""
    pages = [_MARKUP.sub(" ", path.read_text("utf-8")) for path in sorted((ROOT / "docs").rglob("*.md"))]
    for path in sorted((ROOT / "agentguard").rglob("*.py")):
        pages += [
            ast.get_docstring(node) or ""
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    return " ".join(" ".join(pages).split())


def samples(text: str) -> list[bytes]:
    """Groups of content as they are stored: values as text, values as messages, values of tools."""
    chance = random.Random(1)  # noqa: S311 - no secret, and the same each time
    found = []
    for number, start in enumerate(range(0, len(text) - _SAMPLE_CHARS, _SAMPLE_CHARS)):
        part = text[start : start + _SAMPLE_CHARS]
        count = chance.randrange(1, 7)
        length = _SAMPLE_CHARS // (2 * count)
        pieces = [part[i * length : (i + 1) * length] for i in range(2 * count)]
        asked, answered = pieces[:count], pieces[count:]
        who = {names.CONVERSATION_ID: [chance.randbytes(8).hex()]}
        if number % 3 == 0:
            who[names.USER_ID] = [f"user-{chance.randrange(9999)}"]
        if number % 5 == 0:
            values = {
                "gen_ai.input.messages": [_messages("user", each) for each in asked],
                "gen_ai.output.messages": [_messages("assistant", each) for each in answered],
                "gen_ai.system_instructions": [json.dumps([{"type": "text", "content": part[:80]}])],
            }
        elif number % 5 == 1:
            values = {
                "gen_ai.tool.call.arguments": [json.dumps({"query": e[:40], "limit": 10}) for e in asked],
                "gen_ai.tool.call.result": [json.dumps({"result": each, "error": None}) for each in answered],
            }
        else:
            values = {names.INPUT_CONTENT: asked, names.OUTPUT_CONTENT: answered}
        columns = who | values
        found.append(msgspec.msgpack.encode([[count, list(columns), list(columns.values())]]))
    return found


def _messages(role: str, text: str) -> str:
    """One message as the GenAI conventions write it."""
    finish = {"finish_reason": "stop"} if role == "assistant" else {}
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}], **finish}])


def main() -> None:
    """Write the dictionary."""
    dictionary = zstd.train_dict(samples(english()), DICTIONARY_BYTES)
    Path(sys.argv[1]).write_bytes(dictionary.dict_content)


if __name__ == "__main__":
    main()
