"""Laws of looking at a text in pieces: what is found does not depend on where it was cut."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentguard.redaction import KINDS, StreamScanner, detect, redact
from agentguard.redaction._borders import last_border
from agentguard.redaction._text import apply, clean, scan

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----"
FRAGMENTS = [
    "4111 1111 1111 1111", "4111", "1111", "5500-0000-0000-0004", "DE89 3704 0044 0532 0130 00", "DE89", "3704", "MT84 MALT",
    "ann@example.org", "ann@", "example.org", "o'brien@x.co", "+49 30 12345678", "(212) 555-1234", "123-45-6789", "123-45",
    "10.0.0.1", "2001:db8::1", "::", "https://u:pw@h.example/x", "://", "password: Hunter2Hunter3", "password", "secret_key = ",
    "token: ", "pwd: token = a8Kd9fLq2", "bearer ", "Basic dXNlcjpwYXNz", "basic a8Kd9fLq2X", "eyJhbGciOi.eyJzdWIiOi.abc", "sk-abcdefghijklmnop1234",
    "AKIAIOSFODNN7EXAMPLE", KEY, "-----BEGIN RSA", " PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----",
    base64.b64encode(b"write to ann@example.org").decode(), quote("ann@example.org", safe=""), "%40", "%2",
    "\uff14\uff11\uff11\uff11", "\uff11\uff11\uff11\uff11 \uff11\uff11\uff11\uff11 \uff11\uff11\uff11\uff11", "\u200b", "\u00ad", "\u3000", "\u00a0", "\u00bd", "\ufb01", "\u017fecret: Hunter2Hunter3", "\u2013", "\ud800",
    " ", "  ", "\n", "\t", '"', "'", "<", ">", ":", "=", ":=", "=>", "-", "--", ".", "/", "_", ",", "(", ")", "+", "0", "7", "x", "Ab", "word",
    "[REDACTED:card]", "[REDACTED:email]",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=12).map("".join)
SOME_KINDS = st.one_of(st.just(KINDS), st.sets(st.sampled_from(KINDS), min_size=1).map(sorted))


def cut(text: str, places: list[int]) -> list[str]:
    """Cut a text at these places, taken by its length."""
    borders = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]


@given(TEXTS, TEXTS, SOME_KINDS)
@settings(max_examples=1_500, deadline=None)
@example("4111 1111 1111 ", "1111", KINDS)
@example("bearer basic ", "a8Kd9fLq2X", KINDS)
@example("pwd: token ", "= a8Kd9fLq2", KINDS)
@example("DE89 3704 0044 ", "0532 0130 00", ["iban"])
def test_a_border_changes_no_finding(text: str, rest: str, kinds: list[str]) -> None:
    """What is found before a border and after it is what is found in the whole."""
    border = last_border(text, kinds)
    before, after = scan(text[:border], kinds), scan(text[border:] + rest, kinds)
    moved = tuple(one._replace(start=one.start + border, end=one.end + border) for one in after.findings)
    whole = scan(text + rest, kinds)
    assert (*before.findings, *moved) == whole.findings
    assert before.kinds | after.kinds == whole.kinds


@given(TEXTS, st.lists(st.integers(0, 400), max_size=8), SOME_KINDS)
@settings(max_examples=1_500, deadline=None)
def test_any_chunking_finds_and_replaces_the_same(text: str, places: list[int], kinds: list[str]) -> None:
    """Detections of the pieces are those of the text, and the pieces together are the text without them."""
    stream = StreamScanner(kinds, kinds)
    pieces = cut(text, places)
    shown: list[str] = []
    for piece in pieces:
        shown += stream.feed(piece)
        # Nothing is said twice, and nothing is made up.
        assert len(shown) <= len(pieces)
    shown += stream.close()
    assert len(shown) == len(pieces)
    assert stream.found == scan(text, kinds).kinds
    cleaned = apply(text, clean(text, kinds).edits)
    assert "".join(shown) == cleaned
    assert not detect("".join(shown), kinds)
    if not stream.found:
        assert all(a is b for a, b in zip(shown, pieces, strict=True))


@given(TEXTS, st.lists(st.integers(0, 400), max_size=8), SOME_KINDS)
@settings(max_examples=500, deadline=None)
def test_what_is_only_looked_for_is_released_as_it_came(
    text: str, places: list[int], kinds: list[str]
) -> None:
    """Without a replacement released and held items are the text, and no part of a finding is shown before it is found."""
    stream = StreamScanner(kinds)
    shown = ""
    for piece in cut(text, places):
        before = stream.found
        new = "".join(stream.feed(piece))
        if stream.found == before:
            shown += new
        else:
            # A caller that stops here has shown nothing of what was found now.
            kinds_new = stream.found - before
            assert not scan(shown, sorted(kinds_new)).kinds & kinds_new
            shown += new
    shown += "".join(stream.close())
    assert shown == text
    assert bool(stream.found) == bool(detect(text, kinds))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_card_over_many_chunks(size: int) -> None:
    """A card number in small pieces is taken out before any digit of it is shown."""
    text = "Your card 4111 1111 1111 1111 is fine. "
    stream = StreamScanner(["card"], ["card"])
    shown = ""
    for start in range(0, len(text), size):
        shown += "".join(stream.feed(text[start : start + size]))
        assert "4" not in shown
    assert shown + "".join(stream.close()) == redact(text, ["card"])[0]
