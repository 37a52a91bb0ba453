"""
The quality of the data: what is wrong with a record, whatever the agent did.

Each check says of a call that it was looked at and that it failed. Failures become shares per window, so that
the watch judges them like anything else. What is known (names, shapes of attributes, prices) is fixed by the
reference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from agentguard.drift._sample import Bools, Floats, Ints
from agentguard.drift._summary import KINDS

CHECKS: Final = (
    "new_shape",
    "new_name",
    "out_of_range",
    "output_on_error",
    "cost_mismatch",
    "duplicate",
    "clock_skew",
)
"""Checks of single calls; bit i of a row's masks is check i."""

QUALITY_WORDS: Final[Mapping[str, str]] = {
    "usage_missing": "model calls without token usage",
    "new_shape": "calls with attributes of a name or type that the reference does not know",
    "new_name": "calls of a tool or model that the reference does not know",
    "out_of_range": "calls with more tokens, retries, cost or time than there can be, or with negative ones",
    "output_on_error": "model calls that failed and say that they wrote tokens",
    "cost_mismatch": "model calls whose cost is not what their tokens cost before",
    "duplicate": "calls that were recorded more than once",
    "clock_skew": "calls that ended before they began",
    "slots": "five-minute stretches without any call",
    "volume": "number of calls; a changed sampling rate looks like this too",
}
"""What each check counts, for people."""

TOKENS_MAX: Final = 10_000_000
"""No model's context window is larger."""
RETRIES_MAX: Final = 1_000
DURATION_NS_MAX: Final = 24 * 3600 * 10**9
COST_USD_MAX: Final = 10_000.0
PRICE_TOLERANCE: Final = 0.02
"""A cost within two percent of what the tokens cost is theirs: invoices are rounded."""
PRICED_ROWS_MIN: Final = 30
"""Calls of a model that its prices are learnt from."""
_BATCHES_MAX: Final = 16
"""Batches that are remembered while looking for duplicates: it bounds memory."""


class Known(NamedTuple):
    """What the reference knew."""

    shapes: frozenset[str] = frozenset()
    """Fingerprints of attribute names and types."""
    names: frozenset[tuple[str, str]] = frozenset()
    """Pairs of dimension (tool, model) and name."""
    prices: Mapping[str, tuple[float, float]] = {}
    """By model: US dollars per input and per output token."""


NOTHING_KNOWN: Final = Known()


def known_from(
    categories: Mapping[str, Mapping[str, int]], prices: Mapping[str, tuple[float, float]]
) -> Known:
    """
    Return what a reference knows.

    What was seen once is not known: in the reference as later, names that come once and never again are then
    unknown at the same rate (A. Turing's estimate of what was not seen).

    Args:
        categories:
            By kind and column, such as model.schema: calls of each name.
        prices:
            By model.
    """
    often = {name: {text for text, n in counts.items() if n > 1} for name, counts in categories.items()}
    shapes = frozenset(text for name, texts in often.items() if name.endswith(".schema") for text in texts)
    names = frozenset(
        (dimension, text)
        for dimension in ("tool", "model")
        for text in often.get(f"{dimension}.{dimension}", ())
    )
    return Known(shapes, names, dict(prices))


class Masks(NamedTuple):
    """What the checks say of some rows, as bits."""

    looked: Ints
    failed: Ints


class Duplicates:
    """Finds calls that were recorded again: the same beginning, duration, kind and tokens, to the nanosecond."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int, Ints]] = deque(maxlen=_BATCHES_MAX)

    def of(self, end_unix_ns: Ints, duration_ns: Ints, kind: Ints, tokens: Ints) -> Bools:
        """Return which rows repeat an earlier one; of n equal ones n - 1 do, however they are cut into batches."""
        repeated = np.zeros(len(end_unix_ns), dtype=bool)
        # A clock that does not tell apart when a call began and ended cannot tell calls apart either.
        timed = np.flatnonzero(duration_ns > 0)
        if not len(timed):
            return repeated
        with np.errstate(over="ignore"):
            prints = (end_unix_ns[timed] * np.int64(6_364_136_223_846_793_005)) ^ (
                duration_ns[timed] * np.int64(1_442_695_040_888_963_407)
            )
            prints += (tokens[timed] * 8 + kind[timed]) * np.int64(2_862_933_555_777_941_757)
        ordered = np.sort(prints)
        if bool((ordered[1:] == ordered[:-1]).any()):
            _, firsts = np.unique(prints, return_index=True)
            again = np.ones(len(prints), dtype=bool)
            again[firsts] = False
            repeated[timed[again]] = True
        first, last = int(end_unix_ns[timed].min()), int(end_unix_ns[timed].max())
        for seen_first, seen_last, seen in self._seen:
            if seen_first <= last and first <= seen_last:
                places = np.minimum(np.searchsorted(seen, prints), len(seen) - 1)
                repeated[timed[seen[places] == prints]] = True
        self._seen.append((first, last, ordered))
        return repeated


class PriceSums:
    """Learns what tokens cost, by model: least squares of the relative error, from sums alone."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}

    def add(self, block: Any, inside: Bools) -> None:
        """Take the priced rows of a feature block in."""
        priced = _priced(block)
        if priced is None:
            return
        cost, tokens_in, tokens_out, models, dictionary = priced
        usable = inside & np.isfinite(cost) & (cost > 0) & (tokens_in >= 0) & (tokens_out >= 0)
        for code in np.unique(models[usable]).tolist():
            mine = usable & (models == code)
            a, b = tokens_in[mine] / cost[mine], tokens_out[mine] / cost[mine]
            sums = np.array([float(mine.sum()), a @ a, a @ b, b @ b, a.sum(), b.sum()])
            self._sums[dictionary[code]] = self._sums.get(dictionary[code], np.zeros(6)) + sums

    def prices(self) -> dict[str, tuple[float, float]]:
        """Return US dollars per input and output token of each model with enough priced calls."""
        found = {}
        for model, (n, aa, ab, bb, a, b) in sorted(self._sums.items()):
            if n >= PRICED_ROWS_MIN and model:
                solution = np.linalg.lstsq(np.array([[aa, ab], [ab, bb]]), np.array([a, b]), rcond=1e-12)[0]
                found[model] = (float(solution[0]), float(solution[1]))
        return found


def _priced(block: Any) -> tuple[Floats, Ints, Ints, Ints, tuple[str, ...]] | None:
    """Return cost, tokens in, tokens out and model of each row; None where a block lacks one of them."""
    columns = block.columns
    if any(name not in columns for name in ("cost_usd", "input_tokens", "output_tokens", "model")):
        return None
    model = columns["model"]
    return (
        np.asarray(columns["cost_usd"].values, dtype=np.float64),
        np.asarray(columns["input_tokens"].values).astype(np.int64),
        np.asarray(columns["output_tokens"].values).astype(np.int64),
        np.asarray(model.values).astype(np.int64),
        model.dictionary,
    )


def masks_of(block: Any, *, kind: Ints, duration_ns: Ints, known: Known) -> Masks:
    """
    Check the rows of a feature block; duplicates are `Duplicates`' to find.

    A check that needs a column which the block lacks, or something the reference did not know, looks at nothing.
    """
    columns, n = block.columns, block.rows
    looked, failed = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def note(check: str, rows: Bools, wrong: Bools) -> None:
        bit = 1 << CHECKS.index(check)
        looked[rows] |= bit
        failed[rows & wrong] |= bit

    def integers(name: str) -> Ints:
        return (
            np.asarray(columns[name].values).astype(np.int64) if name in columns else np.full(n, -1, np.int64)
        )

    everywhere = np.ones(n, dtype=bool)
    is_model = kind == KINDS.index("model")
    tokens_in, tokens_out, retries = integers("input_tokens"), integers("output_tokens"), integers("retries")
    cost = (
        np.asarray(columns["cost_usd"].values, dtype=np.float64)
        if "cost_usd" in columns
        else np.full(n, np.nan)
    )
    strange = (duration_ns > DURATION_NS_MAX) | (retries > RETRIES_MAX)
    for tokens in (tokens_in, tokens_out):
        strange |= (tokens < -1) | (tokens > TOKENS_MAX)
    strange |= np.isinf(cost) | (cost < 0) | (cost > COST_USD_MAX)
    note("out_of_range", everywhere, strange)
    note("clock_skew", everywhere, duration_ns < 0)
    note("duplicate", duration_ns > 0, ~everywhere)
    note("output_on_error", is_model, (tokens_out > 0) & (integers("is_error") > 0))
    if known.shapes and "schema" in columns:
        shapes = columns["schema"]
        is_new = np.array([text not in known.shapes for text in shapes.dictionary] or [False])
        note("new_shape", everywhere, is_new[np.asarray(shapes.values)])
    for dimension in ("tool", "model"):
        if dimension in columns and any(pair[0] == dimension for pair in known.names):
            names = columns[dimension]
            is_new = np.array(
                [bool(t) and (dimension, t) not in known.names for t in names.dictionary] or [False]
            )
            note("new_name", kind == KINDS.index(dimension), is_new[np.asarray(names.values)])
    priced = _priced(block) if known.prices else None
    if priced is not None:
        _, _, _, codes, dictionary = priced
        pairs = np.array(
            [known.prices.get(text, (np.nan, np.nan)) for text in dictionary] or [(np.nan, np.nan)]
        )
        each = pairs[codes]
        expected = tokens_in * each[:, 0] + tokens_out * each[:, 1]
        is_priced = (
            np.isfinite(expected) & np.isfinite(cost) & (tokens_in >= 0) & (tokens_out >= 0) & is_model
        )
        gap = np.abs(np.where(is_priced, cost - expected, 0.0))
        note("cost_mismatch", is_priced, gap > PRICE_TOLERANCE * np.maximum(np.abs(cost), 1e-9))
    return Masks(looked, failed)
