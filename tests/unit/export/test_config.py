"""Settings of a destination: what is checked, what is written out, what stays hidden."""

from __future__ import annotations

import pytest

from agentguard.errors import ConfigurationError
from agentguard.export import otlp_config, parse_headers


@pytest.mark.parametrize(
    ("written", "protocol", "expected"),
    [
        ("http://localhost:4318", "http/protobuf", "http://localhost:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http/protobuf", "http://127.0.0.1:4318/v1/traces"),
        ("https://o.example/api/public/otel", "http/protobuf", "https://o.example/api/public/otel/v1/traces"),
        ("https://o.example/v1/traces", "http/protobuf", "https://o.example/v1/traces"),
        ("localhost:4318", "http/protobuf", "http://localhost:4318/v1/traces"),
        ("collector.example:4318", "http/protobuf", "https://collector.example:4318/v1/traces"),
        ("http://[::1]:4317", "grpc", "http://[::1]:4317"),
        ("localhost", "grpc", "http://localhost:4317"),
        ("https://o.example", "grpc", "https://o.example:4317"),
        ("", "http/protobuf", "http://localhost:4318/v1/traces"),
        ("", "grpc", "http://localhost:4317"),
    ],
)
def test_endpoints_are_written_out(written: str, protocol: str, expected: str) -> None:
    """The path of HTTP and the port of gRPC are added where they are missing."""
    assert otlp_config(written, protocol=protocol).endpoint == expected


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("http://collector.example:4318", "in clear"),
        ("ftp://localhost", "no URL"),
        ("http://", "no URL"),
        ("http://localhost:port", "no URL"),
        ("https://user:secret@o.example", "expected them in a header"),
        ("http://169.254.169.254/", "link-local"),
    ],
)
def test_unusable_endpoints_are_refused(written: str, problem: str) -> None:
    """Plain text over the network, other schemes, passwords and link-local addresses do not pass."""
    with pytest.raises(ConfigurationError, match=problem) as raised:
        otlp_config(written)
    assert "secret" not in str(raised.value)


def test_plaintext_needs_to_be_said() -> None:
    """Without TLS over the network only where the option or the variable says so."""
    url = "http://collector.example:4318"
    assert not otlp_config(url, is_plaintext_allowed=True).is_encrypted
    assert not otlp_config(url, environ={"OTEL_EXPORTER_OTLP_INSECURE": "true"}).is_encrypted


def test_environment_fills_what_is_not_given() -> None:
    """The variables for traces come before the general ones, and a trace endpoint is taken as it is."""
    config = otlp_config(
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://general.example",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example/in",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=k%20y",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
    )
    assert config.endpoint == "https://traces.example/in"
    assert config.headers == (("api-key", "k y"),)
    assert config.timeout_s == 2.5
    assert config.compression == "none"
    assert otlp_config(
        "https://own.example", environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "https://x.example"}
    ).endpoint == ("https://own.example/v1/traces")


def test_all_problems_come_at_once() -> None:
    """One error has every problem."""
    with pytest.raises(ConfigurationError) as raised:
        otlp_config(
            "http://collector.example",
            headers=[("bad name", "v"), ("x", "line\nbreak"), ("Content-Type", "text/plain")],
            environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem"},
        )
    assert len(raised.value.problems) == 6


def test_headers_stay_hidden() -> None:
    """Neither the repr nor a problem shows the value of a header."""
    config = otlp_config("https://o.example", headers=[("authorization", "Bearer s3cret")])
    assert "s3cret" not in repr(config)
    with pytest.raises(ConfigurationError) as raised:
        otlp_config("https://o.example", headers=[("authorization", "s3cret\r\nx: y")])
    assert "s3cret" not in str(raised.value)


def test_header_text_is_read_as_the_specification_writes_it() -> None:
    """Percent-encoding is undone, spaces around are dropped, values may hold `=`."""
    assert parse_headers("a=1, b = c%3Dd ,broken,e=f=g") == (("a", "1"), ("b", "c=d"), ("e", "f=g"))


def test_destination_goes_by_endpoint_and_protocol() -> None:
    """Another key is the same destination, another path is another one."""
    one = otlp_config("https://o.example", headers=[("k", "1")])
    assert one.destination == otlp_config("https://o.example", headers=[("k", "2")]).destination
    assert one.destination != otlp_config("https://o.example/b").destination
    assert one.destination != otlp_config("https://o.example", protocol="grpc").destination
