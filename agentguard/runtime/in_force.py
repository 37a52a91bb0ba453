"""
Bringing policies into force: reading them, checking who signed them, and that they are not older.

Used when a process starts and when its policies change; both refuse the same things.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentguard.errors import ConfigurationError, PolicyDocumentError
from agentguard.runtime.config import Config
from agentguard.runtime.registering import registered_specs, stand_ins
from agentguard.seal import VerifyKey
from agentguard.state import Approvers
from agentguard.store import Store

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Bundle


class KeyVerifier:
    """
    Knows the public keys that may sign.

    Args:
        keys:
            Each `ed25519:` and base64.

    Raises:
        SealError: One of them is no key.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = {key.key_id: key for key in map(VerifyKey.from_text, keys)}

    def verify(self, *, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether the signature is that key's over the message; a key that is not known signs nothing."""
        key = self._keys.get(key_id)
        return key is not None and key.verify(signature, message)


def load_policies(config: Config) -> Bundle | None:
    """
    Load all policy documents as they are configured.

    Returns:
        None where none are configured.

    Raises:
        ConfigurationError: A path does not exist.
        PolicyDocumentError: A document does not load, or is not signed as `require_signed` asks.
    """
    if not config.policies:
        return None
    # Imported here: without policies neither pydantic nor YAML is loaded.
    from agentguard.policy import check_functions, load_bundle

    missing = [str(path) for path in config.policies if not path.exists()]
    if missing:
        raise ConfigurationError(
            *(f"policies: `{path}` does not exist ({config.sources['policies']})" for path in missing)
        )
    verifier = KeyVerifier(config.require_signed) if config.require_signed else None
    bundle = load_bundle(config.policies, extra_facts=registered_specs(), verifier=verifier)
    check_functions(bundle, stand_ins())
    return bundle


def accept_serials(store: Store, bundle: Bundle) -> None:
    """
    Refuse signed policies that are older than those seen last, and remember these.

    Args:
        store:
            Keeps the last serial of each folder, sealed.
        bundle:
            As it was loaded.

    Raises:
        PolicyDocumentError: A folder was signed before the one that was in force last.
        TamperedError: What was remembered is not what was sealed.
    """
    if not bundle.serials:
        return
    blob = store.sealed_blob("policy-state")
    content = blob.read()
    seen: dict[str, int] = json.loads(content)["serials"] if content is not None else {}
    for folder, serial in bundle.serials.items():
        if serial < seen.get(folder, 0):
            raise PolicyDocumentError(
                f"{folder}: signed with serial {serial}, and {seen[folder]} was in force already"
            ).hint("older policies are not put in force: sign them anew, with the next serial")
    newest = {**seen, **bundle.serials}
    if newest != seen:
        blob.write(json.dumps({"serials": newest}).encode())


def approvers_of(bundle: Bundle | None) -> Approvers:
    """
    List the people of all approver documents.

    Args:
        bundle:
            What is in force, or None.

    Returns:
        Key and groups by id.
    """
    found: dict[str, tuple[bytes, tuple[str, ...]]] = {}
    for document in bundle.approver_documents if bundle is not None else ():
        for group, people in document.groups.items():
            for person in people:
                _, groups = found.get(person.id, (b"", ()))
                found[person.id] = (person.public_key, (*groups, group))
    return found
