"""The watch on the canaries that other detectors are run on, small: `benchmarks/drift_rivals.py`."""

import numpy as np
import pytest

from benchmarks import drift_rivals


def test_canaries_that_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """An offset that lingers is no alarm in a hundred cycles; twenty points more refusals are one within two days."""
    monkeypatch.setattr(drift_rivals, "ARMING_YEARS", 0.2)
    start = drift_rivals.BORDER
    for points, expected in ((0.0, np.inf), (0.2, 48)):
        counts = drift_rivals.canaries(np.random.default_rng(1), start + 100, at=start, points=points)
        found = drift_rivals.watch_alarm(counts[:start], counts[start:], b"k")
        assert found <= expected
        assert np.isinf(found) == np.isinf(expected)


def test_what_is_not_installed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the other packages the tables name them, and how to install them."""

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(drift_rivals.importlib, "import_module", missing)
    drift_rivals.quiet_rows(1)
    drift_rivals.speed_table()
    said = capsys.readouterr().out
    for name in ("ADWIN", "PageHinkley", "KSWIN", "Evidently"):
        assert name in said
    assert said.count("requirements/bench-drift.txt") == 5
