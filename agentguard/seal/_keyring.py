"""What the system's keyring is, where one is installed; never used to keep a key in clear."""

from __future__ import annotations

import importlib.util


def keyring_backend() -> tuple[str, bool] | None:
    """
    Name the keyring that the `keyring` package would use.

    Returns:
        The class of the backend, and whether it keeps secrets in clear, which is
        why it is refused; None where the package is not installed.
    """
    if importlib.util.find_spec("keyring") is None:
        return None
    # Imported here: an optional package.
    import keyring

    backend = type(keyring.get_keyring())
    return backend.__name__, "plaintext" in backend.__name__.lower()
