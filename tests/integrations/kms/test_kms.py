"""AWS KMS as the key of a store, against moto's server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

from agentguard.errors import KeyUnavailableError  # noqa: E402 - after the check that they are there
from agentguard.seal import KmsKey, create_keystore, open_keystore, provider_from  # noqa: E402
from tests.support.stores import KnownKey  # noqa: E402

REGION = "eu-west-1"
# Packages of the server warn of themselves; of ours a warning is an error as everywhere.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with the API of AWS."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def kms(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client, and an environment from which the provider takes the same."""
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    return boto3.client("kms", region_name=REGION)


def new_key(kms: Any) -> str:
    """Make a key; returns its ARN."""
    arn: str = kms.create_key()["KeyMetadata"]["Arn"]
    return arn


def test_open_and_rotate(kms: Any, tmp_path: Path) -> None:
    """The store opens with its key of the service; a new one takes its place, and the old one opens no more."""
    first, second = new_key(kms), new_key(kms)
    provider = provider_from(f"kms:{first}")
    store = create_keystore(tmp_path / "s", provider)
    assert open_keystore(tmp_path / "s", KmsKey(first)).root == store.root
    store.rotate_slot(1, KmsKey(second))
    assert open_keystore(tmp_path / "s", KmsKey(second)).root == store.root
    with pytest.raises(KeyUnavailableError):
        open_keystore(tmp_path / "s", KmsKey(first))


def test_beside_a_key_file(kms: Any, tmp_path: Path) -> None:
    """Either opens; no secret of the slot stands in the STORE file in clear."""
    arn = new_key(kms)
    store = create_keystore(tmp_path / "s", KnownKey())
    slot = store.add_slot(KmsKey(arn))
    assert slot.attachment in (tmp_path / "s" / "STORE").read_bytes()
    assert open_keystore(tmp_path / "s", KmsKey(arn)).root == open_keystore(tmp_path / "s", KnownKey()).root


def test_a_wrapped_key_belongs_to_one_store(kms: Any, tmp_path: Path) -> None:
    """What was wrapped for another store does not unwrap."""
    key = KmsKey(new_key(kms))
    wrapped = key.wrap(bytes(32), bytes(16))
    assert key.unwrap(wrapped, bytes(16)) == bytes(32)
    assert key.unwrap(wrapped, b"x" * 16) is None


class Refusing(BaseHTTPRequestHandler):
    """Answers as the service does where a key is disabled; moto does not look at that."""

    def do_POST(self) -> None:
        body = b'{"__type": "DisabledException", "message": "arn:aws:kms:of-somebody is disabled."}'
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_disabled_key_opens_nothing(kms: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service refuses is an error with its code, and without its text."""
    arn = new_key(kms)
    create_keystore(tmp_path / "s", KmsKey(arn))
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        try:
            with pytest.raises(KeyUnavailableError, match="refused: DisabledException") as caught:
                open_keystore(tmp_path / "s", KmsKey(arn))
        finally:
            server.shutdown()
            thread.join()
    assert "of-somebody" not in str(caught.value)


def test_no_server_and_no_region(kms: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not answer, and settings that name none, are errors that say so."""
    arn = new_key(kms)
    create_keystore(tmp_path / "s", KmsKey(arn))
    with pytest.raises(KeyUnavailableError, match="NoRegionError"):
        KmsKey("alias/agents").wrap(bytes(32), bytes(16))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(KeyUnavailableError, match="EndpointConnectionError"):
        open_keystore(tmp_path / "s", KmsKey(arn))
