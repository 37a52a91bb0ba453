"""Version against version at the same hour."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agentguard import drift
from agentguard.cli._main import main
from agentguard.errors import DriftInputError


def canary(seed: int, *, days: int = 6, slower: float = 1.0) -> dict[str, np.ndarray]:
    """Calls of two prompt versions, one in five of the new one, under a strong rhythm and load."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    level = 1 + 0.5 * np.sin(2 * np.pi * hours / 24) + np.abs(np.cumsum(rng.normal(0, 0.05, len(hours))))
    hour = np.repeat(hours, 60)
    is_new = rng.random(len(hour)) < 0.2
    latency = 400 * level[hour] * rng.lognormal(0, 0.5, len(hour)) * np.where(is_new, slower, 1.0)
    return {
        "at": hour * 3600.0 + rng.integers(0, 3600, len(hour)) + 345_600,
        "prompt": np.where(is_new, "v2", "v1"),
        "latency_ms": latency,
        "failed": (rng.random(len(hour)) < 0.03).astype(float),
    }


def test_the_same_under_two_names_seldom_alarms() -> None:
    """Thirty canaries that differ in name only: hardly an alarm at one in a hundred, whatever rhythm and load do."""
    alarms = 0
    for seed in range(30):
        rows = drift.known_change(
            canary(seed), version="prompt", old="v1", new="v2", time="at", features=["latency_ms", "failed"]
        )
        alarms += any(row.is_change for row in rows)
    assert alarms <= 1


def test_a_slower_version_is_found_in_its_own_unit() -> None:
    """A third more latency of the new version is found within days, the errors are left alone."""
    latency, failed = drift.known_change(
        canary(1, slower=1.33),
        version="prompt",
        old="v1",
        new="v2",
        time="at",
        features=["latency_ms", "failed"],
    )
    assert latency.is_change
    assert latency.unit == "ms"
    assert latency.effect.low < latency.effect.value < latency.effect.high
    assert latency.effect.low > 0
    assert "sure after" in latency.sentence
    assert not failed.is_change


def test_versions_that_never_met_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other is no comparison at the same hour; a version that is not there is named."""
    table = canary(1)
    table["prompt"] = np.where(table["at"] < 345_600 + 3 * 86_400, "v1", "v2")
    names = {"version": "prompt", "time": "at", "features": ["latency_ms"]}
    with pytest.raises(DriftInputError, match="never ran in one hour"):
        drift.known_change(table, old="v1", new="v2", **names)
    with pytest.raises(DriftInputError, match="has no `v3`"):
        drift.known_change(table, old="v1", new="v3", **names)
    with pytest.raises(DriftInputError, match="alpha is 2"):
        drift.known_change(table, old="v1", new="v2", alpha=2, **names)
    pd.DataFrame(canary(1, slower=1.5)).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(SystemExit) as end:
        main(
            (
                f"drift known-change {tmp_path / 'c.csv'} --version prompt --old v1 --new v2 --time at"
                " --features latency_ms --format jsonl"
            ).split()
        )
    assert end.value.code == 1
    assert '"kind": "known-change"' in capsys.readouterr().out
