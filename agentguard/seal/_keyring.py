"""What the system's keyring is, where one is installed; never used to keep a key in clear."""

from __future__ import annotations

import importlib.util
from typing import Any

_ENCRYPTING_OF_ALT = frozenset({"EncryptedKeyring", "MultipartKeyringWrapper"})
_NO_STORE_MODULES = frozenset({"keyring.backends.null", "keyring.backends.fail"})


def open_keyring() -> Any:
    """Return the backend that the `keyring` package would use; `None` where it is not installed."""
    if importlib.util.find_spec("keyring") is None:
        return None
    # Imported here: an optional package.
    import keyring

    return keyring.get_keyring()


def keyring_backend() -> tuple[str, bool] | None:
    """
    Name the keyring that the `keyring` package would use.

    Returns:
        The class of the backend, and whether it keeps secrets in clear, which is
        why it is refused; None where the package is not installed.
    """
    backend = open_keyring()
    return None if backend is None else (type(backend).__name__, is_clear(backend))


def is_clear(backend: object) -> bool:
    """
    Whether a backend keeps secrets in clear, or not at all.

    One that asks several others is clear where any of them is: which one answers
    depends on what runs at that moment.
    """
    kind = type(backend)
    if any("plaintext" in base.__name__.lower() for base in kind.__mro__):
        return True
    if kind.__module__ in _NO_STORE_MODULES:
        return True
    if kind.__module__.startswith("keyrings.alt.") and kind.__name__ not in _ENCRYPTING_OF_ALT:
        return True
    wrapped = getattr(backend, "_keyring", None)
    if wrapped is not None and wrapped is not backend and is_clear(wrapped):
        return True
    # The chain of backends is an attribute of the class, and asks each of them what it is.
    several = getattr(backend, "backends", None)
    return isinstance(several, (list, tuple)) and any(is_clear(one) for one in several if one is not backend)
