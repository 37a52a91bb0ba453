"""The tail probabilities agree with SciPy, which the package itself does not load for them."""

import numpy as np
import pytest
from scipy import stats

from agentguard.drift import _pvalues as pv


@pytest.mark.parametrize(("n", "m"), [(5, 5), (7, 12), (40, 30), (100, 60)])
@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0, 3.0])
def test_kolmogorov_exact_equals_scipy(n: int, m: int, shift: float) -> None:
    """The lattice walk gives SciPy's exact p-value, also far out in the tail."""
    rng = np.random.default_rng(n + m)
    a, b = rng.normal(size=n), rng.normal(size=m) + shift
    expected = stats.ks_2samp(a, b, method="exact")
    got = pv.kolmogorov_exact(float(expected.statistic), n_reference=n, n_current=m)
    assert got == pytest.approx(expected.pvalue, rel=1e-6)


@pytest.mark.parametrize("x", [0.3, 0.6, 1.0, 1.17, 1.19, 1.5, 2.5])
def test_kolmogorov_tail_equals_scipy(x: float) -> None:
    """Both series of the limiting distribution agree with SciPy's."""
    n = 10**12
    distance = x / np.sqrt(n / 2)
    got = pv.kolmogorov_tail(float(distance), n_reference=n, n_current=n)
    assert got == pytest.approx(float(stats.kstwobign.sf(x)), rel=1e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 10, 55])
@pytest.mark.parametrize("statistic", [0.1, 1.0, 8.0, 40.0, 300.0])
def test_chi_square_tail_equals_scipy(statistic: float, degrees: int) -> None:
    """The closed forms agree with SciPy's incomplete gamma."""
    assert pv.chi_square_tail(statistic, degrees) == pytest.approx(
        stats.chi2.sf(statistic, degrees), rel=1e-9
    )


@pytest.mark.parametrize(
    "table", [(1, 10, 9, 10), (0, 5, 0, 7), (20, 1000, 12, 100), (3, 60, 0, 60), (50, 50, 40, 50)]
)
def test_fisher_equals_scipy(table: tuple[int, int, int, int]) -> None:
    """Fisher's exact test agrees with SciPy's, with empty cells too."""
    a, n, b, m = table
    expected = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    got = pv.fisher_exact(hits_reference=a, n_reference=n, hits_current=b, n_current=m)
    assert got == pytest.approx(expected, rel=1e-9)


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
