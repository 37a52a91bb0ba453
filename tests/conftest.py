"""
What holds for every test: a clean environment, a home of its own, no network, internal errors raise.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

REPOSITORY = Path(__file__).resolve().parents[1]

# A shared machine is slow at times, so no deadline; in CI the examples are the same in every run.
settings.register_profile("core", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("core"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "core")

_CLEARED = ("AGENTGUARD_", "OTEL_", "XDG_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class NetworkForbiddenError(RuntimeError):
    """A test tried to reach something else than this machine."""


@pytest.fixture(autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Clear `AGENTGUARD_*`, `OTEL_*` and `XDG_*`, and give the test a home folder of its own.

    Proxies are cleared too: a client must not send what is meant for loopback elsewhere.
    """
    for name in list(os.environ):
        if name.startswith(_CLEARED) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for variable, folder in (
        ("XDG_DATA_HOME", "share"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_RUNTIME_DIR", "runtime"),
    ):
        monkeypatch.setenv(variable, str(home / folder))
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sockets reach loopback and Unix sockets, nothing else."""
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto

    def check(own: socket.socket, address: object) -> None:
        if own.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            host = str(address[0])
            if not _is_loopback(host):
                raise NetworkForbiddenError(f"a test tried to reach `{host}`; only loopback is allowed")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, *args: Any) -> int:
        check(self, args[-1])
        return sendto(self, *args)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket.socket, "sendto", guarded_sendto)


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands at 2026-01-01T00:00:00Z."""
    return FrozenClock()


@pytest.fixture
def ids() -> SequentialIds:
    """Ids that count from 1."""
    return SequentialIds()


@pytest.fixture
def on_internal_error() -> Callable[[str, BaseException], None]:
    """An `InternalErrorHook` that raises: what users never see must not pass a test unseen."""

    def raise_it(where: str, error: BaseException) -> None:
        raise AssertionError(f"internal error in {where}") from error

    return raise_it


@pytest.fixture
def internal_errors() -> list[tuple[str, BaseException]]:
    """A list for tests that expect internal errors; hand over `lambda *seen: internal_errors.append(seen)`."""
    return []


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the tree."""
    return REPOSITORY
