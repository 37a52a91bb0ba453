"""
Sealing: keys, key providers, authenticated encryption, signatures.

Takes bytes and a key, gives sealed bytes and signatures. It never decides what
is to be sealed, never prints a key, and draws randomness from the system only.
"""

from agentguard.seal._auditor import AuditorKey, AuditorPublicKey, create_auditor_file
from agentguard.seal._box import BOX_OVERHEAD_BYTES, open_box, seal_box
from agentguard.seal._certificates import load_certificates
from agentguard.seal._files import (
    PRIVATE_FILE_MODE,
    PRIVATE_FOLDER_MODE,
    check_private_folder,
    ensure_private_folder,
    open_regular,
    read_file,
    sync_data,
    sync_folder,
    write_all,
    write_file_atomic,
    write_new_file,
)
from agentguard.seal._keyring import keyring_backend
from agentguard.seal._keystore import STORE_FILE, Keystore, create_keystore, open_keystore
from agentguard.seal._post_quantum import PostQuantumSigningKey, PostQuantumVerifyKey, has_post_quantum
from agentguard.seal._providers import (
    EnvironmentKey,
    FileKey,
    PassphraseCost,
    PassphraseKey,
    WrappingKey,
    create_key_file,
)
from agentguard.seal._providers_device import KmsKey, Pkcs11Key
from agentguard.seal._providers_system import DescriptorKey, KeyringKey, SystemdKey
from agentguard.seal._root import (
    COMMITMENT_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    RootKey,
    SealKey,
)
from agentguard.seal._signing import SigningKey, VerifyKey
from agentguard.seal._specs import create_key, provider_from
from agentguard.seal._store_file import Slot
from agentguard.seal._wrap_key import WrapKey, create_wrap_key, destroy_file, open_wrap_key, read_wrap_key

__all__ = [
    "BOX_OVERHEAD_BYTES",
    "COMMITMENT_BYTES",
    "KEY_BYTES",
    "NONCE_BYTES",
    "PRIVATE_FILE_MODE",
    "PRIVATE_FOLDER_MODE",
    "SALT_BYTES",
    "STORE_FILE",
    "TAG_BYTES",
    "AuditorKey",
    "AuditorPublicKey",
    "DescriptorKey",
    "EnvironmentKey",
    "FileKey",
    "KeyringKey",
    "Keystore",
    "KmsKey",
    "PassphraseCost",
    "PassphraseKey",
    "Pkcs11Key",
    "PostQuantumSigningKey",
    "PostQuantumVerifyKey",
    "RootKey",
    "SealKey",
    "SigningKey",
    "Slot",
    "SystemdKey",
    "VerifyKey",
    "WrapKey",
    "WrappingKey",
    "check_private_folder",
    "create_auditor_file",
    "create_key",
    "create_key_file",
    "create_keystore",
    "create_wrap_key",
    "destroy_file",
    "ensure_private_folder",
    "has_post_quantum",
    "keyring_backend",
    "load_certificates",
    "open_box",
    "open_keystore",
    "open_regular",
    "open_wrap_key",
    "provider_from",
    "read_file",
    "read_wrap_key",
    "seal_box",
    "sync_data",
    "sync_folder",
    "write_all",
    "write_file_atomic",
    "write_new_file",
]
