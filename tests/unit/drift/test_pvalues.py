"""Tail probabilities: SciPy's where it has them, and laws for what is our own."""

import numpy as np
import pytest
from scipy import stats

from agentguard.drift import _pvalues as pv


@pytest.mark.parametrize("n", [10, 500, 100_000])
def test_kolmogorov_tail_is_that_of_scipy(n: int) -> None:
    """Distance and sizes give what `ks_2samp` gives for the rows themselves."""
    rng = np.random.default_rng(n)
    expected = stats.ks_2samp(rng.normal(size=n), rng.normal(size=n // 2), method="asymp")
    got = pv.kolmogorov_tail(float(expected.statistic), n_reference=n, n_current=n // 2)
    assert got == pytest.approx(expected.pvalue, rel=1e-9)


def test_fewer_rows_count_less() -> None:
    """Sizes may be fractions, and the fewer rows count, the larger the p-value."""
    p = [pv.kolmogorov_tail(0.2, n_reference=200 / d, n_current=100 / d) for d in (1.0, 2.5, 50.0, 1e6)]
    assert p == sorted(p)
    assert p[-1] == 1.0


@pytest.mark.parametrize("events", [0.0, 0.2, 3, 40.5])
def test_poisson_limits_hold_their_events(events: float) -> None:
    """The limits are the points where so many events become unlikely."""
    low, high = pv.poisson_limits(events, confidence=0.9)
    assert low <= events <= high
    if events == 3:
        assert stats.poisson.sf(2, low) == pytest.approx(0.05)
        assert stats.poisson.cdf(3, high) == pytest.approx(0.05)


def test_share_of_many_rows_uses_the_score_test() -> None:
    """Above 200,000 rows the score test takes over and says so."""
    z, p, test = pv.share_p_value(
        hits_reference=20_000, n_reference=1_000_000, hits_current=21_000, n_current=1_000_000
    )
    assert test == "score"
    assert z > 0
    assert p < 1e-4


def test_permuted_tables_keep_the_margins() -> None:
    """Each table dealt out at random holds exactly the rows of the current window."""
    tables = pv.permuted_tables(np.array([50, 3, 1]), 20, draws=500)
    assert (tables.sum(axis=1) == 20).all()
    assert (tables <= np.array([50, 3, 1])).all()


def test_permuted_tables_beyond_the_sampler() -> None:
    """More than 10^9 rows are drawn by the multinomial instead of failing."""
    tables = pv.permuted_tables(np.array([2_000_000_000, 1_000_000]), 1_000, draws=10)
    assert (tables.sum(axis=1) == 1_000).all()


@pytest.mark.parametrize("correct", [pv.holm, pv.benjamini_hochberg])
def test_corrections_never_lower_a_p_value(correct) -> None:
    """A corrected p-value is at least the raw one, at most 1, and keeps the order."""
    raw = [0.5, 0.01, 0.01, 0.9, 1e-12]
    corrected = correct(raw)
    assert all(c >= r for c, r in zip(corrected, raw, strict=True))
    assert max(corrected) <= 1.0
    order = np.argsort(raw, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_bh_equals_scipy() -> None:
    """Benjamini-Hochberg agrees with SciPy's."""
    raw = [0.5, 0.01, 0.02, 0.9, 1e-12]
    assert pv.benjamini_hochberg(raw) == pytest.approx(stats.false_discovery_control(raw).tolist())
    assert pv.benjamini_hochberg([]) == []
    assert pv.holm([]) == []
