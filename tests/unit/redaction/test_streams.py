"""Streams of chunks: texts that run on over items are looked at together, and items leave as soon as they may."""

from __future__ import annotations

from types import SimpleNamespace as Obj
from typing import Any

import pydantic
import pytest

from agentguard.redaction import HELD_CHARS_MAX, Pieces, Seen, StreamScanner, detect, redact

CARD = "4111 1111 1111 1111"
PARTS = ("my card is 41", "11 1111 11", "11 1111, ", "thanks")


class Model(pydantic.BaseModel):
    """A chunk as SDKs have them."""

    model_config = pydantic.ConfigDict(extra="allow")


def chat(text: str | None, *, index: int = 0, finish: str | None = None) -> Any:
    """A chunk of chat completions."""
    choice = Model(index=index, delta=Model(content=text, role="assistant"), finish_reason=finish)
    return Model(id="chatcmpl-4111111111", object="chat.completion.chunk", choices=[choice], usage=None)


def call(arguments: str, index: int) -> Any:
    """A piece of the arguments of a tool call."""
    piece = Model(index=index, function=Model(arguments=arguments), type=None)
    return Model(choices=[Model(index=0, delta=Model(content=None, tool_calls=[piece]), finish_reason=None)])


def responses(text: str) -> Any:
    """An event of the Responses API."""
    return Model(
        type="response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=text
    )


def anthropic(text: str) -> Any:
    """An event of Anthropic's messages."""
    return Model(type="content_block_delta", index=0, delta=Model(type="text_delta", text=text))


def anthropic_json(text: str) -> Any:
    """A piece of a tool's input."""
    return Model(type="content_block_delta", index=1, delta=Model(type="input_json_delta", partial_json=text))


def google(text: str) -> Any:
    """A chunk of Google's."""
    return Model(
        candidates=[Model(content=Model(parts=[Model(text=text)], role="model"), finish_reason=None)]
    )


def langchain(text: str) -> Any:
    """A message chunk of LangChain."""
    return Model(content=text, type="AIMessageChunk", id="run-1", tool_call_chunks=[])


SHAPES = {
    "text": str,
    "chat": chat,
    "responses": responses,
    "anthropic": anthropic,
    "anthropic json": anthropic_json,
    "google": google,
    "langchain": langchain,
    "dict": lambda text: {"text": text, "id": 7},
    "namespace": lambda text: Obj(delta=Obj(content=text)),
    "tuple": lambda text: (Model(content=text), {"node": "a"}),
}


def said(items: list[Any]) -> str:
    """Everything that items say."""
    return repr(items)


@pytest.mark.parametrize("shape", SHAPES)
def test_card_over_three_chunks(shape: str) -> None:
    """A number in three chunks is one number: replaced where it begins, gone from the others, the originals untouched."""
    make = SHAPES[shape]
    chunks = [make(part) for part in PARTS]
    before = said(chunks)
    stream = StreamScanner(["card"], ["card"])
    shown: list[Any] = []
    for chunk in chunks:
        shown += stream.feed(chunk)
        assert "41" not in said(shown).replace("chatcmpl-4111111111", "")
    shown += stream.close()
    assert said(chunks) == before
    assert len(shown) == len(chunks)
    assert all(type(a) is type(b) for a, b in zip(shown, chunks, strict=True))
    assert said(shown) == said([make(part) for part in ("my card is [REDACTED:card]", "", ", ", "thanks")])
    assert (stream.found, stream.replaced) == ({"card"}, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_found_nothing_copied(shape: str) -> None:
    """Items without a finding are the very items that came, and leave with the next word."""
    chunks = [SHAPES[shape](part) for part in ("Hello ", "there, ", "reader. ", "Bye. ")]
    stream = StreamScanner(["card", "email"], ["card"])
    shown = [item for chunk in chunks for item in stream.feed(chunk)]
    assert all(a is b for a, b in zip(shown, chunks, strict=True))
    assert not stream.close()


def test_texts_are_told_apart() -> None:
    """Two answers, or the arguments of two tool calls, are two texts, however their pieces alternate."""
    pieces = ["4111 1111 ", "5500 0000 ", "1111 1111 ", "0000 0004 "]
    for make in (
        lambda n, text: chat(text, index=n % 2),
        lambda n, text: call(text, n % 2),
        lambda n, text: Model(type="response.output_text.delta", item_id="m", output_index=n % 2, delta=text),
        lambda n, text: Model(type="content_block_delta", index=n % 2, delta=Model(text=text)),
    ):
        stream = StreamScanner(["card"], ["card"])
        shown = [
            item for n, text in enumerate(pieces) for item in stream.feed(make(n, text))
        ] + stream.close()
        assert stream.replaced == 2
        assert "1111 " not in said(shown)
        assert "0000 " not in said(shown)


def test_the_end_of_a_text_is_the_end_of_its_hold() -> None:
    """A text that says it is over is held no longer, though the stream goes on; the same card in its whole is found."""
    stream = StreamScanner(["card"], ["card"])
    assert not stream.feed(chat("see 4111"))
    assert len(stream.feed(chat(None, finish="stop"))) == 2
    stream = StreamScanner(["card"], ["card"])
    assert not stream.feed(responses(CARD))
    done = Model(
        type="response.output_text.done", item_id="msg_1", output_index=0, content_index=0, text=CARD
    )
    [first, second] = stream.feed(done)
    assert (first.delta, second.text) == ("[REDACTED:card]", "[REDACTED:card]")


def test_what_says_everything_again_is_not_shown_after_a_finding() -> None:
    """A field that repeats the text so far would show what was taken out of the pieces."""
    stream = StreamScanner(["card"], ["card"])
    snapshot, shown = "", []
    for part in PARTS:
        snapshot += part
        shown += stream.feed({"type": "text", "text": part, "snapshot": snapshot})
    shown += stream.close()
    assert "1111" not in said(shown)


def test_bounds() -> None:
    """Without a border within the bound nothing more is shown, and the stream says so; memory stays where it is."""
    stream = StreamScanner(["card"], ["card"])
    shown = []
    for _ in range(40):
        shown += stream.feed("x" * (HELD_CHARS_MAX // 20))
    assert (shown, stream.close()) == ([], [])
    assert stream.is_beyond
    words = StreamScanner(["card"])
    assert sum(len(words.feed("word " * 1_000)) for _ in range(200)) == 200
    assert not words.is_beyond


def test_an_object_that_cannot_be_searched_is_refused() -> None:
    """With `refuse` an item that may hide text is not passed on."""
    with pytest.raises(TypeError, match="expected plain data"):
        StreamScanner(["card"], ["card"], opaque="refuse").feed(object())


def test_pieces_and_seen_in_a_structure() -> None:
    """Inside other data the items of a stream are looked at together, and a look that was taken is believed."""
    result = {"items": Pieces(PARTS), "value": None}
    assert [found.kind for found in detect(result, ["card"])] == ["card"]
    cleaned, count = redact(result, ["card"])
    assert (cleaned["items"], count) == (["my card is [REDACTED:card]", "", ", ", "thanks"], 1)
    assert detect({"items": list(PARTS)}, ["card"]) == ()
    seen = Seen(["card"], replaced=3)
    assert [found.kind for found in detect([seen], ["card", "email"])] == ["card"]
    assert detect(seen, ["email"]) == ()
    assert redact(seen, ["card"], opaque="refuse") == (seen, 3)
