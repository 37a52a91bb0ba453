"""Presidio's own recognizers as kinds of ours: found, replaced, on streams, and in rules; no language model is needed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

import agentguard
from agentguard.errors import PolicyDocumentError
from agentguard.redaction import EXTRA_KINDS, KINDS, StreamScanner, detect, redact, why_not
from tests.support.governed import Governed

pytest.importorskip("presidio_analyzer")

BITCOIN = "16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ"
NHS = "943 476 5919"


def test_checked_kinds_are_found_and_replaced() -> None:
    """Numbers with a check digit, in texts and structures; a wrong digit is no finding."""
    kinds = ["presidio_crypto", "presidio_uk_nhs"]
    assert redact({"to": f"pay {BITCOIN}", "note": f"NHS {NHS}"}, kinds) == (
        {"to": "pay [REDACTED:presidio_crypto]", "note": "NHS [REDACTED:presidio_uk_nhs]"},
        2,
    )
    assert detect("NHS 943 476 5918", kinds) == ()
    assert [found.kind for found in detect(f"{BITCOIN} of ann@example.org", ["email", *kinds])] == [
        "presidio_crypto", "email"
    ]  # fmt: skip
    assert set(EXTRA_KINDS).isdisjoint(KINDS)


def test_names_need_a_language_model() -> None:
    """Without the model looking for names is refused: nothing passes for clean."""
    if find_spec("en_core_web_sm") is not None:
        assert [found.kind for found in detect("Call Angela Merkel", ["presidio_person"])] == [
            "presidio_person"
        ]
        return
    assert "language model" in why_not("presidio_person")
    with pytest.raises(ValueError, match="needs the language model en_core_web_sm"):
        detect("Call Angela Merkel", ["presidio_person"])


def test_streams_are_held_whole() -> None:
    """What Presidio finds may depend on all of a text: nothing is shown before its end, and splits hide nothing."""
    stream = StreamScanner(["presidio_crypto"], ["presidio_crypto"])
    assert [stream.feed(piece) for piece in ("pay ", BITCOIN[:10], BITCOIN[10:], " now")] == [[], [], [], []]
    assert "".join(stream.close()) == "pay [REDACTED:presidio_crypto] now"


def test_rules_use_them(governed: Governed) -> None:
    """In `redact` and in `detects`, on results and on streams."""
    governed.start(
        """
        - {id: OUT, title: No wallets, at: tool.after, when: "true", then: {redact: [presidio_crypto]}}
        - {id: NHS, title: No patients, at: tool.after, when: "detects(result, ['presidio_uk_nhs'])", then: deny}
        """
    )

    @agentguard.tool
    def look(text: str) -> str:
        return text

    @agentguard.tool
    def stream(text: str) -> Iterator[str]:
        yield text[:12]
        yield text[12:]

    assert look(f"pay {BITCOIN}") == "pay [REDACTED:presidio_crypto]"
    assert "".join(stream(f"pay {BITCOIN}")) == "pay [REDACTED:presidio_crypto]"
    with pytest.raises(agentguard.CallDenied, match="NHS"):
        look(f"NHS {NHS}")
    with pytest.raises(agentguard.CallDenied, match="NHS"):
        list(stream(f"see NHS {NHS}"))


def test_a_rule_that_cannot_be_judged_does_not_load(governed: Governed) -> None:
    """A kind whose model is missing is refused at load, not found nothing with."""
    if find_spec("en_core_web_sm") is not None:
        pytest.skip("the language model is installed")
    with pytest.raises(PolicyDocumentError, match="needs the language model"):
        governed.start("""
            - {id: P, title: No names, at: tool.after, when: "true", then: {redact: [presidio_person]}}
        """)
