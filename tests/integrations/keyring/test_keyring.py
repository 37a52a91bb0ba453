"""A key in the keyring of a desktop: the Secret Service, on a message bus of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keyring")

from agentguard.errors import KeyUnavailableError
from agentguard.seal import KeyringKey, keyring_backend

pytestmark = pytest.mark.integration

IN_THE_SESSION = """
import sys
from pathlib import Path
from agentguard.seal import KeyringKey, create_key, create_keystore, keyring_backend, open_keystore
provider = KeyringKey("agents")
assert keyring_backend()[1] is False, keyring_backend()
assert create_key(provider) and not create_key(provider)
folder = Path(sys.argv[1])
made = create_keystore(folder, provider)
assert open_keystore(folder, KeyringKey("agents")).root == made.root
print(keyring_backend()[0])
"""


@pytest.mark.skipif(
    shutil.which("dbus-run-session") is None or shutil.which("gnome-keyring-daemon") is None,
    reason="no message bus or no gnome-keyring is installed (Debian: dbus, gnome-keyring)",
)
def test_secret_service(tmp_path: Path) -> None:
    """A key is made in an unlocked keyring, once, and opens the store."""
    script = tmp_path / "session.py"
    script.write_text(IN_THE_SESSION)
    start = (
        'printf "password\\n" | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1 && '
        'exec "$0" "$@"'
    )
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share"), "XDG_RUNTIME_DIR": str(tmp_path)}
    ran = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", start, sys.executable, str(script), str(tmp_path / "s")],
        env={**os.environ, **home}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no message bus, the backend that the package falls back to is refused."""
    import keyring
    from keyring.backends import fail, null

    for backend in (fail.Keyring(), null.Keyring()):
        monkeypatch.setattr(keyring, "get_keyring", lambda backend=backend: backend)
        found = keyring_backend()
        assert found is not None
        assert found[1]
        with pytest.raises(KeyUnavailableError, match="in clear or not at all"):
            KeyringKey("agents").key(b"")
