"""
What the demo's scripted model says.

A pure function from messages to the next assistant turn: the customer's words
decide which tool is asked for, the tool's answer decides what is said. The
model version (`Behaviour`) decides how long the answer is, how slowly it comes
and what is missing from it. Nothing here opens a socket or reads a clock.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One version of the model behind the served name."""

    words_median: int = 34
    """Median length of an answer in words."""
    words_spread: float = 0.25
    """Standard deviation of the logarithm of the length."""
    first_word_ms: float = 14.0
    """Milliseconds until the first word."""
    word_ms: float = 0.3
    """Milliseconds for each further word."""
    thinks_aloud: bool = False
    """Whether it explains itself before it calls a tool."""
    says_usage: bool = True
    """Whether the answer carries token counts."""
    finish_reason: str = "stop"
    """What a finished answer is called; another word is a schema change."""
    tokens_max: int = 14
    """Longest answer of a real model, in tokens."""
    is_seat_bound: bool = False
    """Whether requests queue for a seat, as on an overloaded backend."""


TESTED = Behaviour()
"""The version that was tested before release."""

DRIFTED = Behaviour(words_median=72, first_word_ms=22.0, word_ms=0.35, thinks_aloud=True, tokens_max=48)
"""The version that the provider put behind the same name: longer and slower."""

NO_USAGE = Behaviour(says_usage=False, finish_reason="end_turn")
"""A gateway in front of the model that strips token counts and renames a field's value."""

BUSY = Behaviour(words_median=24, first_word_ms=9.0, word_ms=0.12, is_seat_bound=True)
"""The tested version on a backend with two seats."""


class ToolRequest(NamedTuple):
    """The model asks for a tool."""

    name: str
    arguments: Mapping[str, object]
    words: tuple[str, ...] = ()
    """What it says beside, for a version that thinks aloud."""


class Text(NamedTuple):
    """The model answers the customer."""

    words: tuple[str, ...]


Turn = ToolRequest | Text

_ORDER = re.compile(r"\b[A-Z]-\d{1,6}\b")
_AMOUNT = re.compile(r"USD\s*([0-9][0-9,]*(?:\.[0-9]+)?)")
_MAIL = re.compile(r"[\w.]+@[\w.]+\w")

_REFUSED = ["This", "is", "not", "for", "me", "to", "decide,", "so", "a", "colleague", "will:"]

_VOCABULARY = re.findall(
    r"\w+",
    "your order is on its way and should reach you within two working days we packed it this morning "
    "thank you for your patience please write again whenever something is not right a colleague reads along "
    "the parcel left our house and the carrier has scanned it once there is nothing more that you need to do",
)


def next_turn(
    messages: Sequence[Mapping[str, object]],
    *,
    can_call_tools: bool,
    behaviour: Behaviour,
    draw: random.Random,
) -> Turn:
    """
    Decide what the model does next.

    Args:
        messages:
            The conversation in the shape of the chat-completions API.
        can_call_tools:
            Whether the request offered tools.
        behaviour:
            The version that answers.
        draw:
            Where the length of an answer comes from.

    Returns:
        A tool to call, or the words of an answer.
    """
    question = next((_text(m) for m in messages if m.get("role") == "user"), "")
    results = [_text(m) for m in messages if m.get("role") == "tool"]
    if can_call_tools:
        request = _wanted_tool(question, results)
        if request is not None:
            return request._replace(words=_words([], behaviour, draw)) if behaviour.thinks_aloud else request
    return Text(_words(_opening(question, results), behaviour, draw))


def _words(opening: Sequence[str], behaviour: Behaviour, draw: random.Random) -> tuple[str, ...]:
    """Talk, at the length of the version."""
    length = max(6, round(behaviour.words_median * draw.lognormvariate(0.0, behaviour.words_spread)))
    start = draw.randrange(len(_VOCABULARY))
    body = [_VOCABULARY[(start + i) % len(_VOCABULARY)] for i in range(max(0, length - len(opening)))]
    return (*opening, *body)


def count_tokens(value: object) -> int:
    """
    Count tokens the cheap way: one for every four characters, at least one.

    Returns:
        Tokens as this server bills them; not what another tokenizer would count.
    """
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return max(1, len(text) // 4)


def _text(message: Mapping[str, object]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _wanted_tool(question: str, results: Sequence[str]) -> ToolRequest | None:
    """Read the customer's wish; `None` where enough is known to answer."""
    order = (_ORDER.search(question) or [""])[0]
    lower = question.lower()
    if "until it ships" in lower:
        # The loop of a model that waits by asking: only a new answer would end it.
        return ToolRequest("lookup_order", {"order_id": order}) if not _is_settled(results) else None
    if not results and order:
        return ToolRequest("lookup_order", {"order_id": order})
    if len(results) == 1 and "refund" in lower:
        amount = _AMOUNT.search(question)
        usd = float(amount[1].replace(",", "")) if amount else 20.0
        return ToolRequest("refund", {"order_id": order, "amount_usd": usd})
    if len(results) == 1 and "mail" in lower and (to := _MAIL.search(question)):
        return ToolRequest("send_mail", {"to": to[0], "body": question})
    return None


def _is_settled(results: Sequence[str]) -> bool:
    return bool(results) and ("shipped" in results[-1] or "This is a rule, not a fault" in results[-1])


def _opening(question: str, results: Sequence[str]) -> list[str]:
    last = results[-1] if results else ""
    if "This is a rule, not a fault" in last:
        return _REFUSED
    if "refund" in question.lower() and last:
        return ["Done:"]
    return ["Good", "news:"] if last else ["Hello,"]
