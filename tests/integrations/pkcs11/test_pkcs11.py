"""A key on a PKCS#11 token, against SoftHSM; skipped with a note where it is not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pkcs11 = pytest.importorskip("pkcs11")

from agentguard.errors import KeyUnavailableError  # noqa: E402 - after the check that it is there
from agentguard.seal import create_keystore, open_keystore, provider_from  # noqa: E402

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
MODULE = next((path for path in MODULES if Path(path).exists()), "")
PIN = "4711"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not MODULE or shutil.which("softhsm2-util") is None,
        reason="SoftHSM is not installed (Debian: softhsm2)",
    ),
]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token with two keys of its own, and a file with its PIN."""
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "agents", "--pin", PIN, "--so-pin", "12345678"],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        found = pkcs11.lib(MODULE).get_token(token_label="agents")
        with found.open(rw=True, user_pin=PIN) as session:
            for label in ("first", "second"):
                session.generate_key(
                    pkcs11.KeyType.GENERIC_SECRET, 256, label=label, store=True,
                    capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
                    template={pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True},
                )  # fmt: skip
    (folder / "pin").write_text(f"{PIN}\n")
    (folder / "pin").chmod(0o400)
    return folder


def spec(token: Path, label: str, *, pin: str = "pin", name: str = "agents", module: str = MODULE) -> str:
    """The setting that names a key of the token."""
    return f"pkcs11:token={name};object={label}?module-path={module}&pin-source=file:{token / pin}"


def test_open_and_rotate(token: Path, tmp_path: Path) -> None:
    """The store opens with the key of the token; another key takes its place."""
    first, second = provider_from(spec(token, "first")), provider_from(spec(token, "second"))
    store = create_keystore(tmp_path / "s", first)
    assert open_keystore(tmp_path / "s", first).root == store.root
    with pytest.raises(KeyUnavailableError, match="opens none"):
        open_keystore(tmp_path / "s", second)
    store.rotate_slot(1, second)
    assert open_keystore(tmp_path / "s", second).root == store.root
    with pytest.raises(KeyUnavailableError, match="opens none"):
        open_keystore(tmp_path / "s", first)


def test_each_salt_has_a_key_of_its_own(token: Path) -> None:
    """What the token makes depends on key and salt only."""
    provider = provider_from(spec(token, "first"))
    made = {provider.key(bytes([byte]) * 16) for byte in (1, 2, 1)}
    assert len(made) == 2
    assert all(len(key) == 32 for key in made)


def test_refusals(token: Path, tmp_path: Path) -> None:
    """A wrong PIN, object, token or module: one error, which names no PIN."""
    wrong = token / "wrong"
    wrong.write_text("9999")
    wrong.chmod(0o400)
    for bad in (
        spec(token, "first", pin="wrong"),
        spec(token, "third"),
        spec(token, "first", name="other"),
        spec(token, "first", module="/nowhere.so"),
        spec(token, "first", pin="missing"),
    ):
        with pytest.raises(KeyUnavailableError) as caught:
            provider_from(bad).key(bytes(16))
        assert "9999" not in str(caught.value)
