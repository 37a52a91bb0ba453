"""
Detectors of Presidio, under names of their own: with the extra `agentguard[presidio]`.

Loaded when such a kind is first looked for. Kinds that stand on a pattern and a
check need no language model; names of people and places need one that spaCy can
load, and without it looking for them raises, so that nothing passes for clean.

Source: Presidio, "Supported entities"; scores as documented there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from agentguard.redaction._patterns import Detector, Span

MODEL: Final = "en_core_web_sm"
"""The language model that is used where it is installed."""
SCORE_MIN: Final = 0.4
"""What Presidio is less sure of is no finding."""
CHARS_MAX: Final = 100_000
"""Longest text for the language model; a longer one raises, and is thereby not let through."""

_CHECKED: Final[Mapping[str, str]] = {
    "presidio_crypto": "CRYPTO",
    "presidio_mac_address": "MAC_ADDRESS",
    "presidio_medical_license": "MEDICAL_LICENSE",
    "presidio_uk_nhs": "UK_NHS",
    "presidio_us_itin": "US_ITIN",
}
_NAMED: Final[Mapping[str, str]] = {
    "presidio_location": "LOCATION",
    "presidio_nrp": "NRP",
    "presidio_organization": "ORGANIZATION",
    "presidio_person": "PERSON",
    "presidio_us_driver_license": "US_DRIVER_LICENSE",
    "presidio_us_passport": "US_PASSPORT",
}


@lru_cache(maxsize=1)
def _analyzer() -> Any:
    """Make the analyzer, with the language model where there is one."""
    # Imported here: an extra, and large ones.
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    has_model = find_spec(MODEL) is not None
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL}])
    engine.nlp = {"en": spacy.load(MODEL) if has_model else spacy.blank("en")}
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    return AnalyzerEngine(
        registry=registry, nlp_engine=engine, supported_languages=["en"], default_score_threshold=SCORE_MIN
    )


def why_not(kind: str) -> str:
    """
    Say what a kind needs that is not installed; empty where nothing is missing.

    Args:
        kind:
            Of `DETECTORS`.
    """
    if find_spec("presidio_analyzer") is None:
        return f"`{kind}` needs presidio-analyzer: pip install 'agentguard[presidio]'"
    if kind in _NAMED and find_spec(MODEL) is None:
        return f"`{kind}` needs the language model {MODEL} of spaCy"
    return ""


def _detector(kind: str, entity: str) -> Detector:
    def detect(text: str) -> Iterator[Span]:
        missing = why_not(kind)
        if missing:
            raise ValueError(f"redaction: {missing}")
        if len(text) > CHARS_MAX:
            raise ValueError(
                f"redaction: a text of {len(text):,} characters, expected at most {CHARS_MAX:,} for `{kind}`"
            )
        found = _analyzer().analyze(text, entities=[entity], language="en")
        yield from sorted((one.start, one.end) for one in found)

    return detect


DETECTORS: Final[Mapping[str, Detector]] = {
    kind: _detector(kind, entity) for kind, entity in sorted({**_CHECKED, **_NAMED}.items())
}
"""By kind."""
