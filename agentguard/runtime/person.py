"""Who runs this process."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Name the account that the process runs as; in a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
