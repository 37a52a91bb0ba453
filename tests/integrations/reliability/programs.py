"""Programs that run in a process of their own, and end in their own way."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

from tests.support.crash_site import Site

SCHEDULING_S = 0.6
"""How late a thread may run on a busy machine."""

BEGIN = """
import ctypes, multiprocessing, os, signal, sys, threading, time
from pathlib import Path
import agentguard
from tests.support.crash_site import Site, durable, durable_async, work
site = Site(Path(os.environ["SITE"]))
signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell starts jobs in the background without it.

def calls(count, pause_s=0.0):
    for number in range(count):
        (durable if number % 10 == 0 else work)(site)
        if pause_s:
            time.sleep(pause_s)
"""


def run(
    site: Site,
    program: str,
    *,
    code: int | None = None,
    before: str = "",
    end: signal.Signals | None = None,
    after_calls: int = 0,
) -> int:
    """
    Run a program in a process of its own.

    Args:
        site: Where it lives.
        program: What follows `BEGIN`.
        before: What comes before all imports.
        code: The exit code that it must end with, where that matters.
        end: A signal that ends it.
        after_calls: So many calls run before that.

    Returns:
        Its exit code.
    """
    with subprocess.Popen(
        [sys.executable, "-c", before + BEGIN + textwrap.dedent(program)],
        env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=site.folder,
    ) as process:  # fmt: skip
        try:
            if end is not None:
                site.await_calls(after_calls)
                process.send_signal(end)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    if (code is not None and process.returncode != code) or b"ResourceWarning" in errors:
        raise AssertionError(f"exit code {process.returncode}\n{errors.decode()}")
    return process.returncode
