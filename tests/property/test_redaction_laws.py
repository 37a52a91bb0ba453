"""Laws of redaction: nothing is left, nothing else is changed, and it is never slow."""

# ruff: noqa: RUF001 - look-alike characters are what is tested

from __future__ import annotations

import base64
import copy
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.redaction import KINDS, Bounds, detect, passes_luhn, redact

PLANTS = {
    "email": "ann@example.org",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "secret": "sk-ant-abcdefghijklmnop1234",
    "ipv4": "10.20.30.40",
    "ipv6": "2001:db8::42",
    "phone": "+49 30 12345678",
    "us_ssn": "123-45-6789",
    "url_credentials": "https://ann:pw12@host/",
}
SOUP = st.text(
    alphabet=st.sampled_from([*"aA1 4.-:@/%=+_[]()\n\"'eyJskdgh0", "é", "\u200b", "１"]), max_size=120
)
ANY_TEXT = st.one_of(st.text(max_size=80), SOUP)
PLANTED = st.builds(
    lambda before, plant, after: f"{before} {plant} {after}",
    ANY_TEXT,
    st.sampled_from(
        [
            form
            for plant in PLANTS.values()
            for form in (plant, quote(plant, safe=""), base64.b64encode(plant.encode()).decode())
        ]
    ),
    ANY_TEXT,
)
TEXT = st.one_of(ANY_TEXT, PLANTED)
VALUE = st.recursive(
    TEXT
    | st.none()
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | TEXT.map(lambda text: text.encode("utf-8", "replace")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["password", "to", "n"]), inner, max_size=2)
    ),
    max_leaves=8,
)


@given(VALUE)
def test_after_redaction_nothing_is_found(value: Any) -> None:
    """detect finds nothing in what redact gives, and the original is as it was."""
    before = copy.deepcopy(value)
    cleaned, count = redact(value, KINDS)
    assert detect(cleaned, KINDS) == ()
    assert redact(cleaned, KINDS)[1] == 0
    assert repr(value) == repr(before)
    assert (count == 0) == (detect(value, KINDS) == ())
    if count == 0:
        assert cleaned is value


@given(VALUE, st.integers(0, 40), st.integers(0, 6), st.integers(0, 3))
def test_the_same_at_every_bound(value: Any, chars_max: int, values_max: int, depth_max: int) -> None:
    """However tight the bounds, nothing is left under the same bounds."""
    bounds = Bounds(depth_max=depth_max, values_max=values_max, chars_max=chars_max)
    cleaned, _ = redact(value, KINDS, bounds=bounds)
    assert detect(cleaned, KINDS, bounds=bounds) == ()


@given(st.sampled_from(sorted(PLANTS)), st.text(max_size=30), st.text(max_size=30))
def test_a_plant_never_survives(kind: str, before: str, after: str) -> None:
    """Between blanks, whatever is around it, the planted text is gone."""
    plant = PLANTS[kind]
    cleaned, count = redact(f"{before} {plant} {after}", [kind])
    assert count >= 1
    assert plant not in cleaned or plant in before or plant in after


@given(st.text(alphabet="abcdefghij ,;\n", max_size=200))
def test_plain_words_are_unchanged(text: str) -> None:
    """Words are no data of any kind."""
    assert redact(text, KINDS) == (text, 0)


@given(
    st.integers(13, 19).flatmap(lambda n: st.text("0123456789", min_size=n - 1, max_size=n - 1)),
    st.sampled_from("234568"),
)
def test_every_card_number_is_found(body: str, first: str) -> None:
    """Whatever passes Luhn in the right length is a card, if it begins like one."""
    digits = first + body[1:]
    digits += next(check for check in "0123456789" if passes_luhn(digits + check))
    found = detect(f"x {digits} y", ["card"])
    assert [one.kind for one in found] == (["card"] if len(set(digits)) > 1 else [])


HOSTILE = [
    "a" * 50_000,
    "a@" * 25_000,
    "@" * 50_000,
    "a." * 25_000,
    "a@" + "b." * 25_000,
    "a@" + "b-" * 25_000,
    "1 " * 25_000,
    "1" * 50_000,
    "4111 " * 10_000,
    "DE89 " * 10_000,
    "DE89" + " 1" * 25_000,
    ":" * 50_000,
    "1:" * 25_000,
    "1." * 25_000,
    "%41" * 16_000,
    "%25" * 16_000,
    "QUFB" * 12_000,
    "token=" * 8_000,
    "token:" + "a" * 50_000,
    "-----BEGIN PRIVATE KEY-----" * 1_800,
    "eyJ" + "a" * 50_000,
    "eyJaaaaaaaa." * 4_000,
    "bearer " * 7_000,
    "://" * 16_000,
    "http://" + "a:" * 25_000,
    "+1 " * 16_000,
    "+" + "1 " * 25_000,
    "123-" * 12_000,
    "xoxb-" * 10_000,
    "sk-" * 16_000,
    "\u200b" * 20_000,
    "é@" * 20_000,
    "\ufdfa" * 5_000,
    " " * 50_000,
    "_" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_no_text_makes_it_slow(text: str) -> None:
    """Twice the text takes about twice the time: no pattern backtracks without end."""
    started = time.process_time()
    redact(text, KINDS)
    # Generous for a shared machine; a quadratic pattern needs minutes here.
    assert time.process_time() - started < 3.0


@settings(max_examples=30)
@given(st.lists(TEXT, max_size=30))
def test_the_same_answer_every_time(value: list[str]) -> None:
    """No clock and no chance in it."""
    assert redact(value, KINDS) == redact(copy.deepcopy(value), list(reversed(KINDS)))
