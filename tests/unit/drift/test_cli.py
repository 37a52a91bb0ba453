"""`agentguard drift` as a person uses it, on a real encrypted store."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agentguard.cli._drift_text import sparkline
from agentguard.cli._main import main
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from agentguard.values import SpanRecord
from agentguard.values import attributes as names

NS = 10**9


class WallClock:
    """Real time: the commands look back from now."""

    def unix_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class Source:
    """A finished span."""

    bytes_estimate = 500

    def __init__(self, record: SpanRecord) -> None:
        self._record = record

    def record(self) -> SpanRecord:
        return self._record


def write_calls(store: Store, *, ended_before_s: float, n: int, latency_ms: float, seed: int) -> None:
    """Write model calls, one a second, the last of which ended so long ago."""

    def told(where: str, error: BaseException) -> None:
        raise AssertionError(where) from error

    rng = np.random.default_rng(seed)
    writer = store.writer(resource={"service.name": "test"}, on_internal_error=told)
    now = time.time_ns()
    for i in range(n):
        end = now - int((ended_before_s + n - i) * NS)
        duration = int(rng.lognormal(0, 0.4) * latency_ms * 1e6)
        attributes = {
            names.AGENT_NAME: "support",
            names.INPUT_TOKENS: int(rng.integers(100, 300)),
            names.OUTPUT_TOKENS: 9,
        }
        span_id = f"{seed * 100_000 + i + 1:016x}"
        writer.append(
            Source(
                SpanRecord(
                    span_id * 2,
                    span_id,
                    "",
                    "chat",
                    "model",
                    "client",
                    end - duration,
                    duration,
                    "ok",
                    "",
                    attributes,
                )
            )
        )
    assert writer.close(30).is_complete


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """A store with five quiet minutes an hour ago, and the options that name it."""
    create_key_file(tmp_path / "key")
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=WallClock())
    write_calls(store, ended_before_s=3900, n=300, latency_ms=400, seed=1)
    return ["--store", str(tmp_path / "store"), "--key", f"file:{tmp_path / 'key'}"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command; return its exit status, output and errors."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def reopened(place: list[str]) -> Store:
    """The same store, opened again."""
    return Store.open(
        Path(place[1]), provider=FileKey(Path(place[3].removeprefix("file:"))), clock=WallClock()
    )


def test_from_the_first_day_on(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status without anything, fit, a check of slow calls that finds them, and status as JSON."""
    status, out, err = run([*place, "drift", "status"], capsys)
    assert status == 0
    assert "unknown" in out
    assert "drift fit" in err
    status, _, err = run([*place, "drift", "check"], capsys)
    assert status == 2
    assert "no reference is stored" in err
    status, out, _ = run([*place, "drift", "fit", "--until", "1h"], capsys)
    assert status == 0
    assert "300 calls in" in out
    write_calls(reopened(place), ended_before_s=5, n=120, latency_ms=900, seed=2)
    status, out, _ = run([*place, "drift", "check"], capsys)
    assert status == 1
    assert "model.response_latency_ms" in out
    status, out, _ = run([*place, "drift", "check", "--format", "json"], capsys)
    assert json.loads(out)["status"] == "drift"
    status, out, _ = run(
        [*place, "drift", "check", "--reference", "71m..68m", "--window", "68m..64m"], capsys
    )
    assert status == 0
    status, out, _ = run([*place, "drift", "status", "--format", "json"], capsys)
    document = json.loads(out)
    assert document["reference"]["calls"] == 300
    assert {one["name"] for one in document["series"]} >= {"model.response_latency_ms", "model.error_rate"}
    status, out, _ = run([*place, "drift", "status", "--over", "2h"], capsys)
    assert "█" in out


def test_a_checker_runs_on_a_real_store(place: list[str]) -> None:
    """One pass over the encrypted store publishes drift; another process reads the verdict from the store."""
    from agentguard import drift

    store = reopened(place)
    drift.save_reference(store, drift.fit_reference(store))
    write_calls(store, ended_before_s=5, n=120, latency_ms=900, seed=2)
    seen: list[object] = []
    verdict = drift.Checker(store, clock=WallClock(), publish=seen.append).check_once()
    assert seen == [verdict]
    assert verdict.status.value == "drift"
    assert drift.last_verdict(reopened(place)) == verdict


def test_late_calls_are_seen(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status says how many calls came too late to be judged, in words and as JSON; of none it says nothing."""
    from agentguard import drift
    from agentguard.drift._verdicts import VERDICT_BLOB, to_json
    from agentguard.values import DriftStatus, Verdict

    store = reopened(place)
    drift.save_reference(store, drift.fit_reference(store))
    for n, words in ((0, ""), (1, "late: 1 call since then"), (1234, "late: 1,234 calls since then")):
        verdict = Verdict(DriftStatus.STABLE, time_unix_ns=time.time_ns(), late_calls=n)
        store.sealed_blob(VERDICT_BLOB).write(to_json(verdict))
        out = run([*place, "drift", "status"], capsys)[1]
        assert words in out
        assert ("late:" in out) == bool(words)
        document = json.loads(run([*place, "drift", "status", "--format", "json"], capsys)[1])
        assert document["late_calls"] == n


def test_one_pass_for_cron(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`drift run --once` ends with 1 for drift, and the next status shows its verdict."""
    assert run([*place, "drift", "run", "--once"], capsys)[0] == 0
    assert run([*place, "drift", "fit"], capsys)[0] == 0
    write_calls(reopened(place), ended_before_s=5, n=120, latency_ms=900, seed=2)
    status, out, _ = run([*place, "drift", "run", "--once"], capsys)
    assert status == 1
    assert "incident" in out
    status, out, _ = run([*place, "drift", "status"], capsys)
    assert status == 1
    assert "drift (incident)" in out


def test_too_few_calls_are_refused(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A time without calls cannot be learnt from: one sentence, exit status 2."""
    status, _, err = run([*place, "drift", "fit", "--since", "60s"], capsys)
    assert status == 2
    assert "expected at least 30" in err
    assert "Traceback" not in err


def test_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files without change give 0, with change 1, unusable ones 2; every format is readable."""
    rng = np.random.default_rng(0)
    paths = []
    for name, factor in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame(
            {"latency_ms": rng.lognormal(6, 0.5, 400) * factor, "tries": rng.poisson(0.2, 400)}
        ).to_parquet(path)
        paths.append(str(path))
    assert run(["drift", "compare", paths[0], paths[1]], capsys)[0] == 0
    status, out, _ = run(
        ["drift", "compare", paths[0], paths[2], "--features", "latency_ms,tries:count"], capsys
    )
    assert status == 1
    assert "drift" in out
    status, out, _ = run(["drift", "compare", paths[0], paths[2], "--format", "json"], capsys)
    assert json.loads(out)["features"][0]["verdict"] == "drift"
    status, out, _ = run(["drift", "compare", paths[0], paths[2], "--format", "jsonl"], capsys)
    assert len([json.loads(line) for line in out.splitlines()]) == 2
    for bad in (["nothing.csv"], [paths[1], "--features", "nope"], [paths[1], "--features", "tries:cuont"]):
        status, out, err = run(["drift", "compare", paths[0], *bad], capsys)
        assert status == 2
        assert out == ""
        assert "Traceback" not in err
    assert run(["drift", "compare", paths[0], paths[1], "--labels", "one"], capsys)[0] == 2


def test_history_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of forty days with a change is replayed; a short one is refused."""
    from agentguard.drift._simulate import DAY_HOURS, MONDAY_S, Change, simulate

    calls = simulate(3, days=40, change=Change(31 * DAY_HOURS, tokens=1.5))
    frame = pd.DataFrame(
        {
            "at": MONDAY_S + calls.hour * 3600 + 1800,
            "response_latency_ms": calls.latency_ms,
            "token_count": calls.tokens,
            "retry_count": calls.retries,
            "error_rate": calls.is_error,
        }
    )
    frame.to_parquet(tmp_path / "long.parquet")
    frame[:5_000].to_parquet(tmp_path / "short.parquet")
    status, out, _ = run(
        ["drift", "backtest", str(tmp_path / "long.parquet"), "--time", "at", "--format", "jsonl"], capsys
    )
    assert status == 1
    assert {json.loads(line)["kind"] for line in out.splitlines()} == {"incident", "drift"}
    status, _, err = run(["drift", "backtest", str(tmp_path / "short.parquet"), "--time", "at"], capsys)
    assert status == 2
    assert "expected more than the 28 of the reference" in err


def test_the_simulation(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control arm prints both counts; where nothing of one's own can be measured, it says why."""
    status, out, _ = run(["drift", "simulate", "--quiet-days", "--seed", "1", "--format", "json"], capsys)
    assert status == 0
    assert json.loads(out)["ks_alarms"] > 150
    status, out, err = run([*place, "drift", "simulate"], capsys)
    assert status == 0
    assert "no reference is stored" in err
    assert "30 quiet days" in out
    status, out, err = run(["--store", str(tmp_path / "none"), *place[2:], "drift", "simulate"], capsys)
    assert status == 0
    assert "nothing of your own to measure" in err


def test_alarms_are_handled(place: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an alarm there is nothing to explain or acknowledge; a page is drawn; reset starts anew."""
    assert run([*place, "drift", "explain"], capsys)[0] == 2
    assert run([*place, "drift", "ack", "known"], capsys)[0] == 2
    assert run([*place, "drift", "reset"], capsys)[0] == 2
    assert run([*place, "drift", "report", str(tmp_path / "page.html")], capsys)[0] == 2
    assert run([*place, "drift", "fit"], capsys)[0] == 0
    status, _, err = run([*place, "drift", "explain"], capsys)
    assert status == 2
    assert "there has been no alarm" in err
    status, _, err = run([*place, "drift", "ack", "known"], capsys)
    assert status == 1
    assert "acknowledged 0 alarms" in err
    assert run([*place, "drift", "report", str(tmp_path / "page.html")], capsys)[0] == 0
    assert "Drift watch" in (tmp_path / "page.html").read_text()
    status, _, err = run([*place, "drift", "report", str(tmp_path / "no" / "page.html")], capsys)
    assert status == 2
    assert "No such file" in err
    assert run([*place, "drift", "reset"], capsys)[0] == 0
    status, out, _ = run([*place, "drift", "reset", "--since", "2d"], capsys)
    assert status == 0
    assert "300 calls" in out


@pytest.mark.timeout(300)
def test_a_month_in_a_real_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fit with a measured promise, simulate, alarm, explain, acknowledge, draw: on an encrypted store."""
    from agentguard.drift._simulate import DAY_HOURS, Change, simulate

    def told(where: str, error: BaseException) -> None:
        raise AssertionError(where) from error

    create_key_file(tmp_path / "key")
    store = Store.create(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=WallClock())
    place = ["--store", str(tmp_path / "store"), "--key", f"file:{tmp_path / 'key'}"]
    calls = simulate(3, days=11, change=Change(10 * DAY_HOURS, latency=3.0))
    start = (time.time_ns() // (3600 * NS) - 11 * 24) * 3600 * NS
    writer = store.writer(resource={"service.name": "test"}, on_internal_error=told)
    for i in range(0, len(calls.hour), 3):
        duration, span_id = int(calls.latency_ms[i] * 1e6), f"{i + 1:016x}"
        begin = start + int(calls.hour[i]) * 3600 * NS + (i % 3400) * NS - duration
        attributes = {names.INPUT_TOKENS: int(calls.tokens[i]), names.OUTPUT_TOKENS: 1}
        record = SpanRecord(
            span_id * 2, span_id, "", "chat", "model", "client", begin, duration, "ok", "", attributes
        )
        writer.append(Source(record))
        if i % 900 == 0:
            writer.flush(10.0)
    assert writer.close(30).is_complete
    status, out, _ = run([*place, "drift", "fit", "--until", "30h"], capsys)
    assert status == 0
    assert "Measured on days drawn from it" in out
    status, out, _ = run([*place, "drift", "simulate", "--years", "0.2"], capsys)
    assert "smallest change found within a week" in out
    assert "model.response_latency_ms: +" in out
    assert run([*place, "drift", "run", "--once"], capsys)[0] == 1
    status, out, _ = run([*place, "drift", "explain"], capsys)
    assert status == 0
    assert "model.response_latency_ms: median" in out
    document = json.loads(run([*place, "drift", "explain", "--format", "json"], capsys)[1])
    assert document["features"][0]["effect_unit"] == "ms"
    assert run([*place, "drift", "ack", "on purpose"], capsys)[0] == 0
    assert run([*place, "drift", "run", "--once"], capsys)[0] == 0
    assert "on purpose" in run([*place, "drift", "explain"], capsys)[1]
    assert run([*place, "drift", "report", str(tmp_path / "page.html"), "--years", "0"], capsys)[0] == 0
    assert (tmp_path / "page.html").read_text().count("<svg") >= 4


@pytest.mark.parametrize("text", ["yesterday", "5", "5y", "1h.."])
def test_moments_are_refused_with_what_was_expected(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A time that is none is a usage error."""
    status, _, err = run(["drift", "status", "--over", text], capsys)
    assert status == 2
    assert "expected 15m" in err


def test_sparklines() -> None:
    """Bars reach from 0 to the largest; nothing is a dot; all zeros are flat."""
    assert sparkline([0.0, 4.0, float("nan")]) == "▁█·"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([]) == ""
