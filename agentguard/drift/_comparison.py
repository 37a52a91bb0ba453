"""What `compare` gives back: one row per feature, the labelled slice, and a verdict in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentguard import escape
from agentguard.drift._labels import LabelledQuality
from agentguard.values import DriftStatus, FeatureVerdict, Verdict

RowVerdict: TypeAlias = Literal["drift", "small", "stable", "not comparable"]
"""`small`: the change is real and below the floor, too small to matter."""


_ABOUT_DATA = frozenset({"missing", "schema"})
"""Kinds of rows that speak of the data, not of the agent."""


@dataclass(frozen=True, slots=True)
class FeatureComparison:
    """One feature in both windows: test, effect and verdict."""

    feature: str
    kind: Literal["value", "missing", "schema", "accuracy"]
    """What was compared: the values, the share of missing rows, the shape of the data, or the share of
    right answers."""
    type: str
    """continuous, count, share or category."""
    verdict: RowVerdict
    sentence: str
    """One line that a person can act on."""
    n_reference: int
    """Rows of the reference with a usable value."""
    n_current: int
    missing_reference: float
    """Share of rows without a usable value."""
    missing_current: float
    test: str = ""
    statistic: float = float("nan")
    statistic_name: str = ""
    p_raw: float = float("nan")
    p_value: float = float("nan")
    """Corrected for all features of the comparison."""
    effect: float = float("nan")
    """Current minus reference, in `unit`."""
    effect_low: float = float("nan")
    effect_high: float = float("nan")
    effect_name: str = ""
    """What the effect is a difference of, such as the median."""
    unit: str = ""
    before: float = float("nan")
    after: float = float("nan")

    @property
    def is_drift(self) -> bool:
        """Whether the change is both beyond chance and large enough to matter."""
        return self.verdict == "drift"

    @property
    def label(self) -> str:
        """The feature, with what of it was compared where that is not its value."""
        return f"{self.feature} (missing)" if self.kind == "missing" else self.feature

    def to_dict(self) -> dict[str, object]:
        """Return plain data; what does not apply is None."""
        names = (
            "feature", "kind", "type", "verdict", "test", "statistic_name", "statistic", "p_raw", "p_value",
            "effect_name", "effect", "effect_low", "effect_high", "unit", "before", "after",
            "n_reference", "n_current", "missing_reference", "missing_current", "sentence",
        )  # fmt: skip
        plain = {name: getattr(self, name) for name in names}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in plain.items()}

    def to_verdict(self) -> FeatureVerdict:
        """Return the value that policies and other rooms read."""
        is_tested = not math.isnan(self.p_value)
        return FeatureVerdict(
            feature=self.label,
            statistic=self.statistic if is_tested else 0.0,
            p_value=self.p_value if is_tested else 1.0,
            effect=self.effect if is_tested else 0.0,
            effect_unit=self.unit,
            test=self.test,
            is_drift=self.is_drift,
            n_reference=self.n_reference,
            n_current=self.n_current,
            sentence=self.sentence,
            effect_low=None if math.isnan(self.effect_low) else self.effect_low,
            effect_high=None if math.isnan(self.effect_high) else self.effect_high,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    The answer of `compare`.

    `str(comparison)` is a table for people, `to_dict()` and `to_frame()` are for programs.
    """

    features: tuple[FeatureComparison, ...]
    """In the order asked for; missing shares and accuracy stand at the end."""
    alpha: float
    """Chance of a false alarm over all features together (Holm), or share of false alarms (BH)."""
    correction: str
    n_reference: int
    """Rows of the reference table."""
    n_current: int
    quality_reference: LabelledQuality | None = None
    quality_current: LabelledQuality | None = None
    notes: tuple[str, ...] = ()
    """What a reader should know: dependent rows, infinite values, ignored columns."""

    def __getitem__(self, feature: str) -> FeatureComparison:
        """Return the row of a feature by name, such as `comparison["token_count"]`."""
        for row in self.features:
            if feature in {row.label, row.feature}:
                return row
        raise KeyError(feature)

    @property
    def is_drift(self) -> bool:
        """Whether any feature drifted."""
        return any(row.is_drift for row in self.features)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(row.label for row in self.features if row.is_drift)

    @property
    def status(self) -> DriftStatus:
        """drift, warning (something could not be compared), stable, or unknown (nothing could)."""
        if self.is_drift:
            return DriftStatus.DRIFT
        if all(row.verdict == "not comparable" for row in self.features):
            return DriftStatus.UNKNOWN
        if any(row.verdict == "not comparable" for row in self.features):
            return DriftStatus.WARNING
        return DriftStatus.STABLE

    @property
    def verdict(self) -> str:
        """The answer in words."""
        drifted = [row for row in self.features if row.is_drift]
        skipped = [row.label for row in self.features if row.verdict == "not comparable"]
        tested = len(self.features) - len(skipped)
        tail = f" Not comparable: {', '.join(skipped)}." if skipped else ""
        if drifted:
            lead = drifted[0] if len(drifted) == 1 else min(drifted, key=lambda row: row.p_value)
            names = ", ".join(row.label for row in drifted)
            return f"Drift in {len(drifted)} of {tested} compared: {names}. {lead.sentence}{tail}"
        if not tested:
            return f"Nothing could be compared.{tail}"
        small = [row.label for row in self.features if row.verdict == "small"]
        aside = f" Real but too small to matter: {', '.join(small)}." if small else ""
        return f"No drift in {tested} compared.{aside}{tail}"

    def to_verdict(self, *, time_unix_ns: int = 0, kind: str = "", agent: str = "") -> Verdict:
        """
        Return the value that policies and other rooms read.

        Args:
            time_unix_ns:
                When the check ended.
            kind:
                Kind to publish when something drifted; where empty: quality if only missing shares and the
                shape of the attributes did (with them finish reasons may, a field that was renamed),
                accuracy if only that did, else incident.
            agent:
                The agent that was compared, or empty for all.
        """
        kinds: set[str] = {row.kind for row in self.features if row.is_drift}
        if kinds & _ABOUT_DATA:
            kinds = {
                row.kind
                for row in self.features
                if row.is_drift and not row.feature.endswith(".finish_reason")
            }
        found = "incident"
        for only, name in ((_ABOUT_DATA, "quality"), (frozenset({"accuracy"}), "accuracy")):
            if kinds <= only:
                found = name
        return Verdict(
            status=self.status,
            kind=(kind or found) if kinds else "",
            time_unix_ns=time_unix_ns,
            features=tuple(row.to_verdict() for row in self.features),
            agent=agent,
            sentence=self.verdict,
            alarms=tuple((row.label, kind or found) for row in self.features if row.is_drift),
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain data, ready for JSON."""
        return {
            "status": self.status.value,
            "verdict": self.verdict,
            "alpha": self.alpha,
            "correction": self.correction,
            "n_reference": self.n_reference,
            "n_current": self.n_current,
            "features": [row.to_dict() for row in self.features],
            "labelled": {
                side: quality.to_dict()
                for side, quality in (
                    ("reference", self.quality_reference),
                    ("current", self.quality_current),
                )
                if quality is not None
            },
            "notes": list(self.notes),
        }

    def to_frame(self, backend: Literal["pandas", "polars", "pyarrow"] = "pandas") -> Any:
        """
        Return one row per feature as a data frame.

        Args:
            backend:
                The library to build it with; it must be installed.
        """
        import narwhals as nw

        rows = [row.to_dict() for row in self.features]
        numeric = {"statistic", "p_raw", "p_value", "effect", "effect_low", "effect_high", "before", "after"}
        columns = {
            name: [float("nan") if name in numeric and row[name] is None else row[name] for row in rows]
            for name in (rows[0] if rows else {"feature": ""})
        }
        return nw.from_dict(columns, backend=backend).to_native()

    def __str__(self) -> str:
        """Return a table of all features, the labelled slice and the verdict."""
        header = ("feature", "reference", "current", "change (95 %)", "p", "verdict")
        body = [_cells(row) for row in self.features]
        widths = [max(len(line[i]) for line in (header, *body)) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in (header, *body)
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines += _quality_lines(self)
        unlike = [row.sentence for row in self.features if row.verdict == "not comparable" and row.sentence]
        lines += [f"note: {escape.terminal(note)}" for note in (*self.notes, *unlike)]
        lines.append("")
        lines.append(escape.terminal(self.verdict))
        lines.append(
            f"{self.n_reference:,} rows of reference, {self.n_current:,} current; p corrected for "
            f"{len(self.features)} comparisons ({self.correction}), alpha {self.alpha:g}."
        )
        return "\n".join(lines)


def figure(value: float, unit: str = "", *, signed: bool = False) -> str:
    """
    Return a number with its unit as people write it.

    Example:
        >>> figure(0.1234, "share"), figure(1234.5, "ms"), figure(0.02, "share", signed=True)
        ('12.3 %', '1,234 ms', '+2.0 pp')
    """
    if math.isnan(value):
        return "-"
    sign = "+" if signed else ""
    if unit == "share":
        return f"{100 * value:{sign}.1f} {'pp' if signed else '%'}"
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 4
    text = f"{value:{sign},.{digits}f}"
    return f"{text} {unit}" if unit else text


def p_text(p: float) -> str:
    """Return a p-value as people write it."""
    if math.isnan(p):
        return "-"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _cells(row: FeatureComparison) -> tuple[str, ...]:
    """Return the cells of one feature's line."""
    name = escape.terminal(row.label)
    if row.verdict == "not comparable":
        return (name, f"n={row.n_reference:,}", f"n={row.n_current:,}", "-", "-", row.verdict)
    what = f" {row.effect_name}" if row.kind == "value" and row.effect_name != "share" else ""

    def bare(value: float) -> str:
        return figure(value, row.unit, signed=True).split(" ")[0]

    change = (
        f"{figure(row.effect, row.unit, signed=True)} "
        f"({bare(row.effect_low)} to {bare(row.effect_high)}){what}"
    )
    return (
        name,
        figure(row.before, row.unit),
        figure(row.after, row.unit),
        change,
        p_text(row.p_value),
        row.verdict,
    )


def _quality_lines(comparison: Comparison) -> list[str]:
    """Return the lines about the labelled slice."""
    sides: list[tuple[str, LabelledQuality | None]] = [
        ("reference", comparison.quality_reference),
        ("current", comparison.quality_current),
    ]
    lines: list[str] = []
    for side, quality in sides:
        if quality is None:
            continue
        who = f"of `{escape.terminal(quality.positive)}`" if quality.average == "binary" else "macro average"
        lines.append("")
        lines.append(f"labelled, {side}: {quality.n_labelled:,} of {quality.n_rows:,} rows ({who})")
        lines += [f"  {metric.name:<10} {metric}" for metric in quality.metrics]
    return lines
