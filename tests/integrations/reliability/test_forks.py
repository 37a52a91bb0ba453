"""Every way in which processes multiply: nothing is lost but the window, nothing there twice, no nonce used twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integrations.reliability.programs import SCHEDULING_S, run
from tests.support.crash_site import LOSS_WINDOW_S, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place of its own."""
    return Site(tmp_path / "site").prepare()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(site: Site, method: str) -> None:
    """Processes and pools, in which agentguard was set up before or is set up anew: all is there."""
    (site.folder / "jobs.py").write_text(
        f"""
import multiprocessing, os, sys
from pathlib import Path
from tests.support.crash_site import Site, durable, work
site = Site(Path(os.environ["SITE"]))

def job(number):
    if {method != "fork"}:
        site.start()
    for n in range(20):
        (durable if n % 10 == 0 else work)(site)
    return number

if __name__ == "__main__":
    site.start()
    job(0)
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=job, args=(n,)) for n in range(3)]
    [child.start() for child in children]
    job(0)
    [child.join() for child in children]
    assert [child.exitcode for child in children] == [0, 0, 0]
    with context.Pool(2) as pool:
        assert pool.map(job, range(4)) == [0, 1, 2, 3]
        pool.close()
        pool.join()
    job(0)
"""
    )
    run(site, f"import runpy; runpy.run_path({str(site.folder / 'jobs.py')!r}, run_name='__main__')", code=0)
    found = site.look()
    found.check()
    assert not found.lost
    assert len(found.said) == (3 + 3 + 4) * 20


RAW_FORK = """
site.start()
calls(30)
library = ctypes.PyDLL(None)  # Holds the interpreter's lock over the call, as an extension does.
for _ in range(20):
    calls(5)
    # No thread must ask for the interpreter at this moment: no program of Python's would survive that.
    time.sleep(0.02)
    pid = library.fork()
    if pid == 0:
        signal.alarm(15)
        calls(40)
        os._exit(0 if agentguard.flush(10).is_complete else 9)
    status = os.waitpid(pid, 0)[1]
    if status == signal.SIGALRM:
        os._exit(77)
    assert status == 0
"""


def test_raw_fork(tmp_path: Path) -> None:
    """
    A fork that Python does not see, while spans wait to be written: the child begins anew at its first call.

    One run in twenty forks while a thread of ours asks for the interpreter, and its child stands still: the next one
    does not.
    """
    for attempt in range(4):
        site = Site(tmp_path / str(attempt)).prepare()
        code = run(site, RAW_FORK)
        if code != 77:
            break
    assert code == 0
    found = site.look()
    found.check()
    assert len({one.pid for one in found.said}) == 21


@pytest.mark.parametrize("threads", [0, 2])
def test_forks_beside_threads(site: Site, threads: int) -> None:
    """A hundred forks at random moments, of children that fork too, beside threads that write."""
    program = f"""
site.start()
stop = threading.Event()
def background():
    while not stop.is_set():
        work(site); time.sleep(0.001)
threads = [threading.Thread(target=background, daemon=True) for _ in range({threads})]
[thread.start() for thread in threads]
for number in range(50):
    pid = os.fork()
    if pid == 0:
        calls(10)
        if number % 2:
            inner = os.fork()
            if inner == 0:
                calls(10)
                os._exit(0 if agentguard.flush(20).is_complete else 8)
            assert os.waitpid(inner, 0)[1] == 0
        os._exit(0 if agentguard.flush(20).is_complete else 9)
    calls(2)
    if number % 4 == 3:
        while True:
            try:
                assert os.wait()[1] == 0
            except ChildProcessError:
                break
while True:
    try:
        assert os.wait()[1] == 0
    except ChildProcessError:
        break
stop.set()
[thread.join() for thread in threads]
"""
    run(site, program, code=0)
    found = site.look()
    found.check()
    assert not found.lost
    assert len({one.pid for one in found.said}) == 76


AMID_EVERYTHING = """
import random
rnd = random.Random({seed})
site.start(export=rnd.choice(["none", "http://127.0.0.1:9/v1/traces"]))
from agentguard.runtime.active import ACTIVE
state, stop = ACTIVE.runtime.state, threading.Event()
def act(rnd):
    which = rnd.randrange(8)
    if which < 3:
        work(site)
    elif which < 5:
        durable(site)
    elif which == 5:
        agentguard.flush(5)
    elif which == 6:
        state.kill.set("tool:other", reason="a try", by="somebody")
        state.kill.clear("tool:other")
    else:
        state.flush()
def background(rnd):
    while not stop.is_set():
        act(rnd)
        time.sleep(rnd.random() * 0.002)
threads = [threading.Thread(target=background, args=(random.Random({seed} + n),), daemon=True) for n in range(3)]
[thread.start() for thread in threads]
children = []
for number in range(40):
    pid = os.fork()
    if pid == 0:
        for _ in range(6):
            act(rnd)
        os._exit(0 if agentguard.flush(20).is_complete else 9)
    children.append(pid)
    time.sleep(rnd.random() * 0.02)
    if number % 5 == 4:
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
        children = []
stop.set()
[thread.join(20) for thread in threads]
assert not any(thread.is_alive() for thread in threads)
"""


@pytest.mark.parametrize("seed", [100, 200, 300])
def test_forks_amid_everything(site: Site, seed: int) -> None:
    """Forks while threads are inside the store, the log, the state's database, an import or an export."""
    run(site, AMID_EVERYTHING.format(seed=seed), code=0)
    found = site.look()
    found.check()
    assert not found.lost


def test_a_prefork_worker_that_ends_by_os_exit(site: Site) -> None:
    """As Celery's pool ends its workers: what is older than the window is there, without any flush."""
    program = """
site.start()
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        calls(250, 0.008)
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""
    run(site, program, code=0)
    found = site.look()
    died = {
        pid: max(one.time_unix_s for one in found.said if one.pid == pid)
        for pid in {o.pid for o in found.said}
    }
    found.check(lost_within_s=60.0, died_unix_s=max(died.values()))
    early = [one for one in found.lost if died[one.pid] - one.time_unix_s > LOSS_WINDOW_S + SCHEDULING_S]
    assert not early, f"{len(early)} spans are lost that were older than the window"


SNAPSHOT = """
import agentguard.forks
# Nothing tells a copy of a machine that it is one: no hook runs, and the process ids are the same.
agentguard.forks._mark = [1]
agentguard.forks._make_mark = lambda: [1]
own = os.getpid()
os.getpid = lambda: own
site.start()
# No other thread can be copied here: all is done on the calling thread.
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse

def disk():
    return {path: path.read_bytes() for path in (site.folder / "store").rglob("*") if path.is_file()}

def put_back(files):
    for path in disk():
        if path not in files:
            path.unlink()
    for path, content in files.items():
        with path.open("r+b") as file:  # In place: the copy has the same files open.
            file.truncate(0)
            file.write(content)

import shutil
calls(20)
assert agentguard.flush(10).is_complete
work(site)  # Its span waits in memory when the picture is taken.
time.sleep(1.5)  # Nothing else is about to be written.
picture = disk()
library = ctypes.PyDLL(None)
for number in range(COPIES):
    pid = library.fork()
    if pid == 0:
        calls(20)
        os._exit(0 if agentguard.flush(10).is_complete else 9)
    assert os.waitpid(pid, 0)[1] == 0
    shutil.copytree(site.folder / "store", site.folder / f"copy-{number}")
    put_back(picture)
calls(20)
os._exit(0 if agentguard.flush(10).is_complete else 9)
"""


def test_copies_of_a_machine(site: Site) -> None:
    """A process goes on from one picture of its memory many times, each with a disk of its own: no nonce repeats."""
    copies = 20
    run(site, SNAPSHOT.replace("COPIES", str(copies)), code=0)
    said = site.said()
    before, rest = said[:21], said[21:]
    for number in range(copies + 1):
        folder = site.folder / ("store" if number == copies else f"copy-{number}")
        found = site.look(folder)._replace(said=before + rest[20 * number : 20 * number + 20])
        found.check()
        assert len(found.said) == len(found.spans) == 41


def test_a_frozen_process(site: Site) -> None:
    """Stopped for longer than every window, as a function service does between requests, and killed while stopped."""
    program = "site.start()\ncalls(10**6, 0.004)"
    import signal
    import subprocess
    import sys

    from tests.integrations.reliability.programs import BEGIN

    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + program], env=site.environment(), stderr=subprocess.PIPE
    ) as process:
        try:
            for calls in (100, 300, 500):
                site.await_calls(calls)
                process.send_signal(signal.SIGSTOP)
                stopped = time.time()
                time.sleep(1.5)
                site.look().check(lost_within_s=LOSS_WINDOW_S + SCHEDULING_S, died_unix_s=stopped)
                process.send_signal(signal.SIGCONT)
            site.await_calls(700)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
        finally:
            process.kill()
            process.communicate()
    found = site.look()
    died = max(one.time_unix_s for one in found.said)
    found.check(lost_within_s=LOSS_WINDOW_S + SCHEDULING_S, died_unix_s=died)
