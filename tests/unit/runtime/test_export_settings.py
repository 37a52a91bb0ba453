"""Where spans go: one destination or several, each with what it may have."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentguard
from agentguard.errors import ConfigurationError
from agentguard.runtime import destinations
from agentguard.runtime.config import load_config
from tests.support.otlp import Receiver
from tests.unit.runtime.conftest import Start


def configured(folder: Path, text: str, **environ: str) -> list[tuple[str, str, tuple[str, ...], float]]:
    """What a file says of its destinations."""
    (folder / "agentguard.toml").write_text(text, encoding="utf-8")
    config = load_config(environ={"HOME": str(folder), **environ}, folder=folder)
    return [(one.endpoint, one.content, one.keep, one.slow_s) for one in destinations(config, environ)]


def test_one_table_is_one_destination(tmp_path: Path) -> None:
    """`[export]` says in one place what the flat settings say."""
    found = configured(
        tmp_path,
        '[export]\nto = "http://127.0.0.1:4318"\ncontent = "redacted"\nkeep = ["error", "slow"]\nslow_s = 3\n',
    )
    assert found == [("http://127.0.0.1:4318/v1/traces", "redacted", ("error", "slow"), 3.0)]
    flat = 'export = "http://127.0.0.1:4318"\nexport_content = "redacted"\nexport_keep = ["error", "slow"]\nexport_slow_s = 3\n'
    assert configured(tmp_path, flat) == found
    assert configured(tmp_path, "") == []


def test_several_tables_are_several(tmp_path: Path) -> None:
    """Each has its own protocol, headers, content, choice and certificates; paths are those of the file."""
    text = """
[[export]]
to = "otlp"
[[export]]
to = "https://backend.example:4317"
protocol = "grpc"
headers = { api-key = "k" }
keep = ["violation"]
ca_file = "ca.pem"
"""
    (tmp_path / "agentguard.toml").write_text(text, encoding="utf-8")
    environ = {"HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    first, second = destinations(load_config(environ=environ, folder=tmp_path), environ)
    assert first.endpoint == "http://127.0.0.1:9/v1/traces"
    assert (second.endpoint, second.protocol, second.headers) == (
        "https://backend.example:4317", "grpc", (("api-key", "k"),)
    )  # fmt: skip
    assert (second.keep, second.ca_file) == (("violation",), str(tmp_path / "ca.pem"))
    assert "api-key" not in repr(load_config(environ=environ, folder=tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[export]]\nto = "otlp"\n[[export]]\ncontent = "full"\n', "each with `to`"),
        ('[[export]]\nto = "otlp"\n[[export]]\nto = "otlp"\nkep = ["error"]\n', "no `kep`"),
        ('[export]\nto = "otlp"\nkeep = ["errors"]\n', "a list of error, violation, slow"),
        ('[export]\nto = "otlp"\ncontent = true\n', "one of none, redacted, full"),
        ('[[export]]\nto = "otlp"\n[[export]]\nto = "otlp"\n', "same endpoint"),
        ('[export]\nto = "http://backend.example"\n', "in clear"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, text: str, said: str) -> None:
    """A destination with a mistake is not one that quietly gets nothing, or more than it should."""
    with pytest.raises(ConfigurationError, match=said):
        configured(tmp_path, text)


def test_two_destinations_get_what_each_may_have(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One has all spans without content, the other the failed traces with redacted content; both to the last span."""
    with Receiver() as every, Receiver() as failed:
        runtime = start(
            capture="full", export=every.endpoint,
            export_others=[{"to": failed.endpoint, "content": "redacted", "keep": ["error"]}],
        )  # fmt: skip

        @agentguard.tool
        def look(who: str) -> str:
            if "fail" in who:
                raise ValueError("no")
            return who

        look("ann@example.org")
        with pytest.raises(ValueError, match="no"):
            look("fail ann@example.org")
        assert runtime.flush(5.0).is_complete
        agentguard.shutdown(5.0)
        assert len(every.taken) == 2
        [one] = failed.taken
        assert "example.org" not in str(every.taken)
        assert "fail [REDACTED:email]" in str(one)
