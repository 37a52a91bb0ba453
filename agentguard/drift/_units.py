"""What a feature's name says about its type and unit."""

from __future__ import annotations

from collections.abc import Mapping

from agentguard.values import FEATURES, FeatureType

TYPES: tuple[FeatureType, ...] = ("continuous", "count", "share", "category")

EVERYDAY_TYPES: Mapping[str, FeatureType] = {
    "response_latency_ms": "continuous",
    "token_count": "continuous",
    "retry_count": "count",
    "error_rate": "share",
}
"""Types of the columns that `export features` writes."""

UNKNOWN_IS_NEGATIVE = frozenset({"input_tokens", "output_tokens", "time_to_first_chunk_ns"})
"""Features of the catalogue in which -1 says that the value is unknown."""

NEVER_NEGATIVE = (
    frozenset({"response_latency_ms", "token_count", "retry_count", "duration_ns", "retries", "cost_usd"})
    | UNKNOWN_IS_NEGATIVE
)
_MEASURES_OF_TIME_SPENT = frozenset({"latency", "duration"})
_SUFFIXES = {
    "ns": "ns", "us": "us", "ms": "ms", "s": "s", "usd": "USD", "bytes": "bytes", "tokens": "tokens",
}  # fmt: skip
_WORDS = {"token_count": "tokens", "retry_count": "retries", "error_rate": "share"}


def is_never_negative(name: str) -> bool:
    """
    Return whether negative values of a feature are broken data.

    Example:
        >>> [is_never_negative(name) for name in ("token_count", "api_latency_ms", "departure_delay_min")]
        [True, True, False]
    """
    return name in NEVER_NEGATIVE or not _MEASURES_OF_TIME_SPENT.isdisjoint(name.lower().split("_"))


def known_type(name: str) -> FeatureType | None:
    """Return the type of a feature of the catalogue or of the everyday table, else None."""
    if name in EVERYDAY_TYPES:
        return EVERYDAY_TYPES[name]
    return FEATURES[name].type if name in FEATURES else None


def unit_of(name: str, type_: str) -> str:
    """
    Return the unit that effects of a feature are given in; a kind of call before a dot is ignored.

    Example:
        >>> unit_of("response_latency_ms", "continuous"), unit_of("is_error", "share")
        ('ms', 'share')
    """
    if type_ in {"share", "category"}:
        return "share"
    plain = name.rpartition(".")[2]
    if plain in FEATURES:
        return FEATURES[plain].unit
    return _WORDS.get(plain, _SUFFIXES.get(plain.rpartition("_")[2], ""))
