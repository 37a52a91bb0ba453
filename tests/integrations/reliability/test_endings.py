"""The ways in which a process ends or forks: what may be lost is bounded, nothing is there twice, no nonce repeats."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.integrations.reliability.programs import SCHEDULING_S, run
from tests.support.crash_site import LOSS_WINDOW_S, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place of its own."""
    return Site(tmp_path / "site").prepare()


ORDERLY = {
    "end": "",
    "exit": "sys.exit(3)",
    "error": "raise RuntimeError('x')",
    "error in a thread": """
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()""",
    "non-daemon thread": "threading.Thread(target=calls, args=(100, 0.002)).start()",
    "dead backend": "",
    "hanging backend": "",
}


@pytest.mark.parametrize("how", ORDERLY)
def test_orderly_ends_lose_nothing(site: Site, how: str) -> None:
    """All is there without a call of flush; a backend that is dead or hangs holds the end up for 2 s at most."""
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(1)
        port = {"dead backend": 9, "hanging backend": hanging.getsockname()[1]}.get(how)
        settings = f"export='http://127.0.0.1:{port}'" if port else ""
        run(
            site,
            f"site.start({settings})\ncalls(300)\nsite.say(f'end end 0 {{time.time()}}')\n{ORDERLY[how]}",
        )
        ended = time.time()
    said = site.said()
    began = next(one.time_unix_s for one in said if one.tool == "end")
    assert how != "hanging backend" or ended - began < 2.0 + 1.5
    found = site.look()._replace(said=[one for one in said if one.tool != "end"])
    found.check()
    assert not found.lost


ABRUPT = {
    "SIGTERM": signal.SIGTERM,
    "SIGINT": signal.SIGINT,
    "SIGKILL": signal.SIGKILL,
    "os._exit": None,
}


@pytest.mark.parametrize("how", ABRUPT)
def test_abrupt_ends_lose_the_window_at_most(site: Site, how: str) -> None:
    """Nothing older than the loss window is missing, whatever ends the process; SIGINT is an orderly end."""
    program = "site.start()\ncalls(400, 0.005)\n" + (
        "os._exit(3)" if how == "os._exit" else "calls(10**6, 0.005)"
    )
    run(site, program, end=ABRUPT[how], after_calls=300)
    found = site.look()
    died = max(one.time_unix_s for one in found.said)
    found.check(lost_within_s=LOSS_WINDOW_S + SCHEDULING_S, died_unix_s=died)
    assert len(found.said) - len(found.lost) > 100
    if how == "SIGINT":
        assert not found.lost


BATCHED = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Exporter(SpanExporter):
    def export(self, spans):
        with (site.folder / "exported").open("a") as file:
            file.writelines(f"{span.context.span_id:016x}\\n" for span in spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter()))
tracer = provider.get_tracer("control")
while True:
    with tracer.start_as_current_span("call") as span:
        site.say(f"{span.context.span_id:016x} work {os.getpid()} {time.time():.6f}")
    time.sleep(0.005)
"""


def kill_after_calls(site: Site, program: str, calls: int) -> tuple[int, set[str]]:
    """Kill a program after so many calls; gives how many ran, and which."""
    run(site, program, end=signal.SIGKILL, after_calls=calls)
    said = site.said()
    return len(said), {one.call_id for one in said}


def test_a_batch_processor_in_memory_loses_more(tmp_path: Path) -> None:
    """The control arm: a queue in memory that is sent every five seconds loses all that a window on disk keeps."""
    control = Site(tmp_path / "control").prepare()
    made, ids = kill_after_calls(control, BATCHED, 300)
    exported = control.folder / "exported"
    kept = set(exported.read_text(encoding="ascii").split()) if exported.exists() else set()
    lost_there = len(ids - kept)
    ours = Site(tmp_path / "ours").prepare()
    kill_after_calls(ours, "site.start()\ncalls(10**6, 0.005)", 300)
    lost_here = len(ours.look().lost)
    assert lost_there > made / 2
    assert lost_here < lost_there / 2
