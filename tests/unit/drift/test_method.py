"""The parts of the method: bins, season, whitening, conformal scores."""

import math

import numpy as np
import pytest

from agentguard.drift._evidence import SIZES, add, log_bets, no_sums, normal_score
from agentguard.drift._load import REACH, fit_load, guides_of, owed
from agentguard.drift._noise import swell_of
from agentguard.drift._season import fit_season, regressors
from agentguard.drift._simulate import HOUR_S, MONDAY_S, simulate, summary_of
from agentguard.drift._streams import Stream, possible_streams, scale_of, scores_at
from agentguard.drift._summary import bin_values, logarithmic_bins
from agentguard.drift._tier import begin, fit_tier, step
from agentguard.drift._whiten import Dynamics, fit_dynamics, innovate, start


def test_bins_are_within_a_percent() -> None:
    """The value that stands for a bin is within one percent of all in it, from one to 10^18."""
    values = np.concatenate([np.arange(1.0, 2000.0), 10.0 ** np.arange(0, 18)])
    back = bin_values(logarithmic_bins(values), "latency")
    assert np.abs(back / values - 1).max() < 0.0101


def test_every_stream_has_its_own_name() -> None:
    """Names are unique and say kind and feature."""
    names = [stream.name for stream in possible_streams()]
    assert len(set(names)) == len(names)
    assert "model.response_latency_ms (tail)" in names


def test_ranks_of_the_reference_average_to_a_half() -> None:
    """The mean mid-rank of the reference against itself is 0.5; unknown bins lie between known ones."""
    stream = Stream("model", "latency", "rank")
    scale = scale_of(stream, {10: 5, 20: 3, 30: 2})
    assert scores_at(scale, stream, np.array([10, 20, 30])) @ np.array([0.5, 0.3, 0.2]) == pytest.approx(0.5)
    assert scores_at(scale, stream, np.array([1, 15, 40])).tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_season_is_recovered() -> None:
    """A daily wave and quieter weekends are fitted through missing windows."""
    windows = np.arange(MONDAY_S // HOUR_S, MONDAY_S // HOUR_S + 28 * 24)
    design = regressors(windows, window_s=HOUR_S, kind="week")
    truth = np.array([0.5, 0.1, -0.05, 0.02, 0.0, 0.01, 0.0, -0.1, 0.03, 0.0])
    scores = design @ truth
    scores[::7] = np.nan
    coefficients, _ = fit_season(design, scores, np.ones(len(scores)))
    assert np.allclose(design @ coefficients, design @ truth, atol=1e-3)


def test_whitening_removes_lingering_load() -> None:
    """Innovations of an autoregression seen through noise are white, with unit variance."""
    rng = np.random.default_rng(0)
    n, phi, sd = 2000, 0.88, 0.05
    load = np.zeros(n)
    for t in range(1, n):
        load[t] = phi * load[t - 1] + rng.normal(0, sd * math.sqrt(1 - phi**2))
    rows = np.full((n, 1), 60.0)
    seen = (load + rng.normal(0, math.sqrt(0.08 / 60), n))[:, None]
    dynamics = fit_dynamics(seen, rows, np.array([0.08]), np.ones((n, 1)), with_memory=True)
    belief, out = start(dynamics), []
    for t in range(n):
        innovation, belief = innovate(dynamics, belief, distance=seen[t], rows=rows[t], swell=np.ones(1))
        out.append(innovation[0])
    white = np.array(out)
    assert abs(np.corrcoef(white[1:], white[:-1])[0, 1]) < 0.06
    assert white.std() == pytest.approx(1.0, abs=0.12)


def test_a_window_without_calls_moves_nothing_but_time() -> None:
    """A gap gives no innovation; the belief fades towards what is usual."""
    dynamics = Dynamics(np.array([0.8]), np.array([0.01]), np.array([0.1]))
    belief = start(dynamics)._replace(mean=np.array([0.2]))
    innovation, after = innovate(
        dynamics, belief, distance=np.array([np.nan]), rows=np.zeros(1), swell=np.ones(1)
    )
    assert np.isnan(innovation[0])
    assert after.mean[0] == pytest.approx(0.16)


@pytest.mark.parametrize("ties", [False, True])
def test_normal_scores_are_standard_normal(ties: bool) -> None:
    """Scores among exchangeable values have mean 0 and deviation 1, with ties too."""
    rng = np.random.default_rng(1)
    draw = (lambda n: rng.poisson(0.5, n).astype(float)) if ties else rng.standard_cauchy
    earlier = sorted(draw(300).tolist())
    scores = np.array(
        [normal_score(earlier, v, u) for v, u in zip(draw(2000), rng.random(2000), strict=True)]
    )
    assert abs(scores.mean()) < 0.12
    assert scores.std() == pytest.approx(1.0, abs=0.06)
    assert len(earlier) == 2300


def test_a_share_is_as_noisy_as_what_is_left_of_it() -> None:
    """Whether errors are counted or the calls without one, the noise grows by the same factor."""
    streams = (Stream("", "errors", "share"), Stream("", "fine", "share"))
    swell = swell_of(streams, np.array([0.06, 0.94]), np.array([0.02, 0.98]))
    assert swell == pytest.approx([3.0, 3.0])


def test_silence_and_empty_models_do_no_harm() -> None:
    """Windows without a call add no evidence, and a tier without streams never alarms."""
    summary = summary_of(simulate(1, days=8), start_s=MONDAY_S)
    first = MONDAY_S // HOUR_S
    model = fit_tier(
        "incident", summary, possible_streams(), first=first, n_windows=8 * 24, season="week",
        log_threshold=10.0, key=b"k", with_memory=True,
    )  # fmt: skip
    state = begin(model, first + 8 * 24 - 1)
    n = len(model.streams)
    for _ in range(200):
        assert step(model, state, np.full(n, np.nan), np.zeros(n), b"k") is None
    assert state.log_evidence == -math.inf
    empty = fit_tier(
        "drift",
        summary,
        (),
        first=first,
        n_windows=24,
        season="level",
        log_threshold=1.0,
        key=b"",
        with_memory=False,
    )
    assert step(empty, begin(empty, 0), np.empty(0), np.empty(0), b"") is None


def test_bets_gain_nothing_while_nothing_changes() -> None:
    """Each bet multiplies the stake by one on the mean, the one on records too, at any pace and after a change."""
    rng = np.random.default_rng(2)
    n = 200_000
    sums = no_sums(n, 0)._replace(steps=np.full((n, 2, len(SIZES) + 1), 3.0))
    for pace in (0.5, 1.3):
        bets = np.exp(log_bets(sums, rng.normal(size=n), np.full(n, pace), np.full(n, 28.0)))
        small = bets[:, :, :3]
        assert small.mean(axis=0) == pytest.approx(np.ones(small.shape[1:]), abs=0.02)
        assert bets[:, :, -1].mean(axis=0) == pytest.approx(np.ones(2), abs=0.02)


def test_a_row_of_records_is_found_in_days() -> None:
    """Three days that are each among the most extreme of a month gain more than any bet on a size does."""
    sums = no_sums(1, 0)
    for day in range(3):
        sums = add(
            sums, normal_scores=np.array([1.9 - 0.2 * day]), distance=np.zeros(1), rows=np.ones(1),
            pace=np.ones(1), pool=np.array([28.0 + day]), window=day + 1,
        )  # fmt: skip
    assert sums.log_evidence[0, 0].argmax() == len(SIZES)
    assert sums.log_evidence[0, 0, -1] > 6.0


def test_what_follows_the_load_is_taken_away() -> None:
    """Errors that follow the load of the latencies are predicted from it; beyond the usual load nothing is."""
    rng = np.random.default_rng(3)
    n, phi, sd = 2000, 0.78, 0.05
    load = np.zeros(n)
    for t in range(1, n):
        load[t] = phi * load[t - 1] + rng.normal(0, sd * math.sqrt(1 - phi**2))
    streams = (
        Stream("model", "latency", "rank"),
        Stream("model", "error", "share"),
        Stream("tool", "error", "share"),
    )
    guide = guides_of(streams)
    assert guide.tolist() == [0, 0, 2]
    rows, noise = np.full((n, 3), 60.0), np.array([0.08, 0.02, 0.02])
    seen = np.stack([load, 0.2 * load, 0 * load], axis=1) + rng.normal(size=(n, 3)) * np.sqrt(noise / 60)
    ones = np.ones((n, 3))
    dynamics = fit_dynamics(seen, rows, noise, ones, with_memory=True)
    found, debts = fit_load(guide, dynamics, seen, rows, ones)
    assert found.factor[1] == pytest.approx(0.2, abs=0.06)
    assert found.factor[0] == found.factor[2] == 0.0
    assert np.corrcoef(debts[:, 1], load)[0, 1] > 0.7
    outage = owed(found, dynamics, np.array([10.0, 0.0, 0.0]), np.ones(3))
    assert outage[1] == pytest.approx(found.factor[1] * REACH * math.sqrt(dynamics.variance[0]))
