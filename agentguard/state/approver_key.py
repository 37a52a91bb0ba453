"""An approver's private key as a file; it belongs on the approver's machine, not on the agent's."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from agentguard.errors import KeyUnavailableError, SealError
from agentguard.seal import SigningKey, VerifyKey, open_regular, write_new_file

_PREFIX = "agentguard-approver-key-1 "
_FILE_BYTES_MAX = 256


def create_approver_key(path: Path) -> VerifyKey:
    """
    Draw a key pair and write the private half to a new file, mode 0600.

    Args:
        path:
            Where; nothing may be there.

    Returns:
        The public half, to be listed in a policy document of kind Approvers.

    Raises:
        KeyUnavailableError: Something is there already, or the file cannot be written.
    """
    key = SigningKey.generate()
    text = _PREFIX + base64.b64encode(key.seed).decode("ascii") + "\n"
    try:
        write_new_file(path, text.encode("ascii"))
    except FileExistsError:
        raise KeyUnavailableError(f"{path}: something is there already, it is not overwritten") from None
    except OSError as error:
        raise KeyUnavailableError(f"{path}: cannot be written ({error.strerror})") from error
    return key.verify_key


def load_approver_key(path: Path) -> SigningKey:
    """
    Read the private key of an approver.

    Args:
        path:
            What `create_approver_key` wrote.

    Returns:
        The key.

    Raises:
        KeyUnavailableError: It cannot be read, is no such file, or others may read it.
    """
    try:
        fd = open_regular(path, follow_links=True)
    except (OSError, SealError) as error:
        raise KeyUnavailableError(f"{path}: cannot be read ({_why(error)})") from error
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        text = os.read(fd, _FILE_BYTES_MAX)
    except OSError as error:
        raise KeyUnavailableError(f"{path}: cannot be read ({_why(error)})") from error
    finally:
        os.close(fd)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyUnavailableError(f"{path}: got mode {mode:04o}, expected 0600").hint(
            f"chmod 600 {path}, and think of who has read it"
        )
    try:
        line = text.decode("ascii").rstrip("\n")
        if not line.startswith(_PREFIX):
            raise ValueError("prefix")
        return SigningKey(base64.b64decode(line.removeprefix(_PREFIX), validate=True))
    except (ValueError, binascii.Error, SealError):
        raise KeyUnavailableError(f"{path}: not an approver's key file").hint(
            "`agentguard approvals keygen --out FILE` makes one"
        ) from None


def _why(error: BaseException) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not a regular file"
