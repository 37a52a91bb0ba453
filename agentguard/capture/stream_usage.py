"""
Following a stream chunk by chunk: when content begins, and what was used at the end.

Knows the chunks of OpenAI (chat and responses), Anthropic, Google and LangChain
by their shape. Work and memory for a chunk do not grow with the stream; no chunk
is kept. Once one with content was looked at closely, in this stream or another, those of its
class that carry content and nothing else are passed by (`stream_plain`). Never raises.

Source: OpenAI sends the usage in the last chunk, if it was asked to; Anthropic's
and Google's counts are cumulative and replace the earlier ones; LangChain's add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agentguard.capture.cost import TOKENS_MAX, Rate
from agentguard.capture.stream_plain import PLAIN, IsPlain
from agentguard.capture.usage import add_usage, extract_usage, usage_of
from agentguard.capture.usage_quick import UNPRICED, Reading, UsageRow, chat_reading, is_reading
from agentguard.capture.usage_shapes import new_tuple, read, reader, token_count
from agentguard.values import Usage

_FINISHED_RESPONSES: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_OTHER_DELTA_FIELDS: Final = (
    "tool_calls",
    "refusal",
    "function_call",
    "reasoning_content",
    "reasoning",
    "audio",
)
_CONTENT_BLOCKS: Final = frozenset({"tool_use", "server_tool_use"})
_TEXTS: Final = (str, bytes)
_REASONS_MAX: Final = 16
_CLASSES_MAX: Final = 64

_plain: Final[dict[type, tuple[IsPlain, bool]]] = {}
"""By class of chunks with content: what tells whether one of them has content and nothing else; and whether they say who answers."""


class StreamUsage:
    """
    Accumulates what the chunks of one stream say.

    Example:
        >>> stream = StreamUsage()
        >>> stream.chunk({"choices": [{"delta": {"content": "Hi"}}]})
        True
        >>> stream.chunk({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 1}})
        False
        >>> stream.usage().output_tokens
        1

    """

    __slots__ = ("_answer", "_anthropic", "_rates", "_reasons", "_usage", "is_complete", "passes")

    _anthropic: dict[str, int]
    """Anthropic's counts so far; not there before one has come."""

    def __init__(self, rates: Mapping[str, Rate] = UNPRICED) -> None:
        """
        Begin.

        Args:
            rates:
                As for `usage_row`, where a price is wanted.

        """
        self._rates = rates
        self._usage: Usage | UsageRow | Reading | None = None
        self._answer: tuple[str, str] | None = None
        """Model and response id, as the first chunks say: the usage may never come."""
        self._reasons: tuple[str, ...] = ()
        self.is_complete = False
        """Whether the stream said itself that nothing of the answer is left."""
        self.passes: IsPlain | None = None
        """
        What tells of a further chunk that it is content and nothing else: such a chunk need not come here.

        None before one has come whose class is known for such chunks.
        """

    def chunk(self, value: object) -> bool:
        """
        Look at one chunk.

        Args:
            value:
                As the stream gave it.

        Returns:
            Whether it carries content: text, a part of a tool call, or reasoning.
            A chunk of unknown shape counts as content.

        """
        try:
            known = _plain.get(type(value))
            if known is not None:
                is_plain, says_who = known
                found = is_plain(value)
                if found:
                    if self.passes is not is_plain:
                        # The first of its class: which classes were seen in other streams makes no difference.
                        self.passes = is_plain
                        if says_who:
                            self._note_answer(value)
                    return True
                if found is None and self.take_reading(value):
                    return False
        except Exception:  # noqa: S110 - a class without a hash, or one that is odd: the closer look tells
            pass
        return self._look_closely(value)

    def take_reading(self, value: object) -> bool:
        """Take the usage out of a chunk that may be the usage, and nothing else; gives whether it was."""
        reading = chat_reading(value)
        if reading is None or type(reading[0]) is not int or not 0 <= reading[0] <= TOKENS_MAX:
            return False
        self._usage, self.is_complete = reading, True
        return True

    def _look_closely(self, value: object) -> bool:
        """Do the same with a chunk that may say anything."""
        if isinstance(value, (str, bytes)):
            return bool(value) and (type(value) not in _TEXTS or _learn(value, "text"))
        try:
            return self._look(value)
        except Exception:
            # Law 1: a chunk that cannot be read is content of which we know nothing.
            return True

    def usage(self) -> Usage | None:
        """
        Give what the stream used as far as it was said.

        Returns:
            None where no chunk said anything. Counts that were not said are None: unknown, not zero.

        """
        return _unpriced(self.said())

    def said(self) -> Usage | UsageRow | Reading | None:
        """
        Give the same, as `chat_reading` does where it was read in one go: what is in it is for `usage_of` to say.

        Returns:
            As that function takes it.

        """
        usage, reasons = self._usage, self._reasons
        if usage is None:
            if not reasons and self._answer is None:
                return None
            # Without counts: who answered, and how it ended, is known all the same.
            model, response_id = self._answer or (None, None)
            usage = Usage(model=model, response_id=response_id)
        if reasons and not usage[7]:
            if is_reading(usage):
                usage = usage_of(usage, self._rates)
                assert usage is not None  # It has a count.
            usage = new_tuple(type(usage), (*usage[:7], reasons, *usage[8:]))
        return usage

    def _look(self, value: object) -> bool:
        """Tell the shapes of chunks apart."""
        of = reader(value)
        choices = of("choices", None)
        if isinstance(choices, (list, tuple)):
            return self._openai_chat(value, choices, of) and _learn(value, "chat")
        kind = of("type", None)
        if isinstance(kind, str):
            if kind.startswith("response."):
                return self._openai_responses(value, kind) and _learn(value, "event")
            if kind.startswith(("message_", "content_block_")) or kind == "ping":
                return self._anthropic_event(value, kind) and _learn(value, "event")
        if isinstance(value, tuple) and value and read(value[0], "usage_metadata") is not None:
            value = value[0]  # LangGraph: (message chunk, metadata)
        metadata = read(value, "usage_metadata")
        if read(value, "candidates") is not None or read(metadata, "prompt_token_count") is not None:
            return self._google(value)
        if metadata is not None or read(value, "tool_call_chunks") is not None:
            return self._langchain(value) and _learn(value, "message")
        return self._unknown(value)

    def _note_answer(self, value: Any) -> None:
        """Note who answers, where a chunk says it."""
        if self._answer is None:
            if type(value) is dict:
                model, response_id = value.get("model"), value.get("id")
            else:
                try:
                    model, response_id = value.model, value.id
                except AttributeError:
                    model, response_id = read(value, "model"), read(value, "id")
            if isinstance(model, str) and isinstance(response_id, str) and model and response_id:
                self._answer = model, response_id

    def _finish(self, reason: object) -> None:
        """Note why a choice ended."""
        if isinstance(reason, str) and reason and len(self._reasons) < _REASONS_MAX:
            self._reasons = (*self._reasons, str.__str__(reason))

    def _openai_chat(
        self, value: object, choices: list[object] | tuple[object, ...], of: Callable[[str, None], Any]
    ) -> bool:
        """Read a chunk of chat completions."""
        self._note_answer(value)
        if of("usage", None) is not None:
            usage = extract_usage(value)
            if usage is not None:
                self._usage = usage
                self.is_complete = self.is_complete or not choices
        is_content = False
        for choice in choices[:_REASONS_MAX]:
            of = reader(choice)
            if not is_content:
                delta = of("delta", None)
                is_content = bool(of("text", None)) if delta is None else _brings(delta)
            reason = of("finish_reason", None)
            if reason is not None:
                self._finish(reason)
                # The usage may still follow; who stops reading here has had the whole answer.
                self.is_complete = len(choices) == 1 or self.is_complete
        return is_content

    def _openai_responses(self, value: object, kind: str) -> bool:
        """Read an event of the Responses API."""
        if kind in _FINISHED_RESPONSES:
            self._usage = extract_usage(read(value, "response")) or self._usage
            self.is_complete = True
            return False
        return kind.endswith(".delta")

    def _anthropic_event(self, value: object, kind: str) -> bool:
        """Read an event of Anthropic's messages; later counts replace earlier ones."""
        if kind == "message_start":
            message = read(value, "message")
            self._usage = Usage(provider="anthropic")._replace(
                **{
                    name: found
                    for name, key in (("model", "model"), ("response_id", "id"))
                    if isinstance(found := read(message, key), str)
                }  # type: ignore[arg-type] # both fields are texts
            )
            self._count_anthropic(read(message, "usage"))
        elif kind == "message_delta":
            self._count_anthropic(read(value, "usage"))
            self._finish(read(read(value, "delta"), "stop_reason"))
        elif kind == "message_stop":
            self.is_complete = True
        elif kind == "content_block_delta":
            return True
        elif kind == "content_block_start":
            return read(read(value, "content_block"), "type") in _CONTENT_BLOCKS
        return False

    def _count_anthropic(self, usage: object) -> None:
        """Take over the counts of one event, and make the sum of the input anew."""
        if usage is None:
            return
        try:
            counts = self._anthropic
        except AttributeError:
            counts = self._anthropic = {}
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            count = token_count(read(usage, name))
            if count is not None:
                counts[name] = count
        thinking = token_count(read(read(usage, "output_tokens_details"), "thinking_tokens"))
        if thinking is not None:
            counts["thinking_tokens"] = thinking
        cache_read, cache_write = (
            counts.get("cache_read_input_tokens"),
            counts.get("cache_creation_input_tokens"),
        )
        plain = counts.get("input_tokens")
        self._usage = (_unpriced(self._usage) or Usage(provider="anthropic"))._replace(
            input_tokens=None if plain is None else plain + (cache_read or 0) + (cache_write or 0),
            output_tokens=counts.get("output_tokens"),
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            reasoning_tokens=counts.get("thinking_tokens"),
        )

    def _google(self, value: object) -> bool:
        """Read a chunk of Google's, whose counts are those of the stream so far."""
        usage = extract_usage(value)
        if usage is not None:
            self._usage = usage
        candidates = read(value, "candidates")
        is_content = False
        if isinstance(candidates, (list, tuple)):
            for candidate in candidates[:_REASONS_MAX]:
                is_content = is_content or bool(read(read(candidate, "content"), "parts"))
                if read(candidate, "finish_reason") is not None:
                    self._finish(read(candidate, "finish_reason"))
                    self.is_complete = True
        return is_content

    def _langchain(self, value: object) -> bool:
        """Read a message chunk of LangChain, whose counts add up."""
        usage = extract_usage(value)
        if usage is not None:
            before = _unpriced(self._usage)
            self._usage = usage if before is None else add_usage(before, usage)
        if read(value, "chunk_position") == "last":
            self.is_complete = True
        return bool(read(value, "content") or read(value, "tool_call_chunks"))

    def _unknown(self, value: object) -> bool:
        """Look whether a chunk of unknown shape brings the result of a run with it."""
        for name in ("result", "response"):
            usage = extract_usage(read(value, name))
            if usage is not None:
                self._usage = usage
                return False
        usage = extract_usage(value)
        if usage is not None:
            self._usage = usage
        return True


def _unpriced(said: Usage | UsageRow | Reading | None) -> Usage | None:
    """Give what was said alone: a price that was put to it here was not."""
    usage = said and usage_of(said, UNPRICED)
    return new_tuple(Usage, (*usage[:9], None)) if type(usage) is tuple else usage  # type: ignore[return-value]


def _learn(value: object, dialect: str) -> bool:
    """Remember how to tell chunks like this one, which has content."""
    if len(_plain) >= _CLASSES_MAX:
        _plain.clear()
    _plain[type(value)] = PLAIN[dialect][isinstance(value, dict)](value), dialect == "chat"
    return True


def _brings(delta: object) -> bool:
    """Whether the delta of a chat completion has any content."""
    of = reader(delta)
    return bool(of("content", None)) or any(of(field, None) for field in _OTHER_DELTA_FIELDS)
