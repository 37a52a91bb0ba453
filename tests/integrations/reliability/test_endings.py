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
