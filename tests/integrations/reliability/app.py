"""A WSGI application that is governed; where it is set up depends on how gunicorn loads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.crash_site import Site, durable, work

site = Site(Path(os.environ["SITE"]))
site.start()


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Make two calls, one of them with its decision on disk first."""
    work(site)
    durable(site)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
