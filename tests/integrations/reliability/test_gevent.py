"""With gevent's green threads: nothing blocks for ever, nothing is lost, whichever was imported first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrations.reliability.programs import run
from tests.support.crash_site import Site

pytest.importorskip("gevent")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place of its own."""
    return Site(tmp_path / "site").prepare()


BEFORE = "from gevent import monkey; monkey.patch_all()\n"
AFTER = "from gevent import monkey; monkey.patch_all()\nimport gevent\n"


@pytest.mark.parametrize("first", ["gevent", "agentguard"])
def test_many_green_threads(site: Site, first: str) -> None:
    """Five hundred green threads with calls that yield in the middle, and a loop that never yields."""
    program = (
        AFTER
        + """
site.start()
def green(number):
    for _ in range(4):
        work(site)
        gevent.sleep(0.001 * (number % 3))
        durable(site)
gevent.joinall([gevent.spawn(green, number) for number in range(250)], raise_error=True)
calls(500)
"""
    )
    run(site, program, code=0, before=BEFORE if first == "gevent" else "")
    found = site.look()
    found.check()
    assert len(found.said) == 250 * 8 + 500


def test_real_threads_beside_green_ones(site: Site) -> None:
    """Calls from gevent's pool of real threads, and a fork."""
    program = (
        AFTER
        + """
site.start()
calls(5)  # Our green threads live where the first call is made, which must not be a thread of the pool.
pool = gevent.get_hub().threadpool
gevent.joinall([pool.spawn(calls, 50) for _ in range(4)], raise_error=True)
calls(50)
pid = os.fork()
if pid == 0:
    calls(50)
    gevent.joinall([gevent.spawn(calls, 10) for _ in range(10)], raise_error=True)
    os._exit(0 if agentguard.flush(10).is_complete else 9)
assert os.waitpid(pid, 0)[1] == 0
calls(50)
"""
    )
    run(site, program, code=0, before=BEFORE)
    found = site.look()
    found.check()
    assert len(found.said) == 5 + 200 + 50 + 150 + 50
