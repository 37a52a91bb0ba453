"""Attribution and lingering load, small: the tables of `benchmarks/drift_limits.py` that promise something."""

import re

import pytest

from benchmarks.drift_limits import PLANTED, attribution_table, lingering_table


def test_the_tool_that_changed_is_named_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of two changes: found, and the right tool first."""
    for name in list(PLANTED)[2:-1]:
        monkeypatch.delitem(PLANTED, name)
    attribution_table(1)
    assert "named first in 3 of 3" in capsys.readouterr().out


def test_lingering_canaries(capsys: pytest.CaptureFixture[str]) -> None:
    """Three runs: quiet ones stay quiet, and twenty points more are found within seventeen cycles."""
    lingering_table(3)
    rows = re.findall(r"\| (.*) \| ([0-9.]+)% \| (.*) \|", capsys.readouterr().out)
    assert (rows[0][0], rows[0][1]) == ("none", "0.0")
    assert rows[2][1] == "100.0"
    assert int(rows[2][2].split()[0]) <= 17
