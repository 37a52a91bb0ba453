"""A card number in the small pieces of a stream, and rules that must see it whole."""

from __future__ import annotations

import pytest

from tests.support import wire

CARD_PARTS = ("Card 41", "11 1111 11", "11 1111", " it is")
"""As many pieces as the server's usual words."""
REDACTED = "Card [REDACTED:card] it is"

NO_CARD = """
- id: CARD-1
  title: No card leaves a model
  at: model.after
  when: detects(result, ['card'])
  then: deny
"""
CARD_OUT = """
- id: CARD-2
  title: Cards are taken out of answers
  at: model.after
  when: "true"
  then: { redact: [card] }
"""


def say_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model server say a card number instead of its usual words."""
    monkeypatch.setattr(wire, "WORDS", CARD_PARTS)
    monkeypatch.setattr(wire, "TEXT", "".join(CARD_PARTS))
