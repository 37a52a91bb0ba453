"""
Keys that never leave a device or a service: KMS over the AWS API, PKCS#11 tokens.

Both packages are optional, and are imported when a store is opened with them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from agentguard.errors import ConfigurationError, KeyUnavailableError
from agentguard.seal._providers import WrappingKey, read_secret
from agentguard.seal._root import KEY_BYTES

_CONTEXT_NAME = "agentguard-store"
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _TRIES_MAX = 5, 10, 3
_WRAPPED_BYTES_MAX = 6144
_OTHER_KEY_ERRORS = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_PIN_BYTES_MAX = 256


class KmsKey(WrappingKey):
    """
    A symmetric key of AWS KMS, or of what speaks its API: wraps the key of a slot.

    The id of the store is the encryption context, so the service's own log says
    which store was opened, and a wrapped key does not open for another one.
    Credentials and region come from where the AWS tools take them.
    """

    name = "kms"

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id

    def wrap(self, key: bytes, store_id: bytes) -> bytes:
        """
        Encrypt *key* with the service.

        Raises:
            KeyUnavailableError: The service cannot be asked, or refuses.
        """
        try:
            answer = self._client().encrypt(
                KeyId=self.key_id, Plaintext=key, EncryptionContext={_CONTEXT_NAME: store_id.hex()}
            )
        except _aws_errors() as error:
            raise self._refusal(error) from error
        wrapped: bytes = answer["CiphertextBlob"]
        return wrapped

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes | None:
        """
        Decrypt what `wrap` gave; `None` where another key wrapped it.

        Raises:
            KeyUnavailableError: The service cannot be asked, or refuses.
        """
        if len(wrapped) > _WRAPPED_BYTES_MAX:
            return None
        try:
            answer = self._client().decrypt(
                KeyId=self.key_id, CiphertextBlob=wrapped, EncryptionContext={_CONTEXT_NAME: store_id.hex()}
            )
        except _aws_errors() as error:
            if _code_of(error) in _OTHER_KEY_ERRORS:
                return None
            raise self._refusal(error) from error
        key: bytes = answer["Plaintext"]
        return key

    def _client(self) -> Any:
        if importlib.util.find_spec("boto3") is None:
            raise KeyUnavailableError("kms: got no package `boto3`, expected it").hint(
                "pip install 'agentguard[kms]'"
            )
        # Imported here: an optional package, and a heavy one.
        import boto3
        from botocore.config import Config

        parts = self.key_id.split(":")
        region = parts[3] if parts[0] == "arn" and len(parts) > 5 else None
        try:
            return boto3.client(
                "kms",
                region_name=region,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    retries={"total_max_attempts": _TRIES_MAX},
                ),
            )
        except _aws_errors() as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> KeyUnavailableError:
        """Say what the service said, by its code: its text may name accounts."""
        return KeyUnavailableError(
            f"kms {self.key_id}: refused: {_code_of(error) or type(error).__name__}"
        ).hint("the program needs kms:Encrypt and kms:Decrypt on this key, credentials and a region")

    def __repr__(self) -> str:
        return f"KmsKey({self.key_id!r})"


class Pkcs11Key:
    """
    A secret key on a PKCS#11 token, which never leaves it: HMAC-SHA256 of the salt is the key of a slot.

    The key is named by a URI such as
    `pkcs11:token=prod;object=agentguard?module-path=/usr/lib/p11.so&pin-source=file:/run/pin`.
    It is a generic secret of 256 bits that may sign.

    Source:
        RFC 7512 for the URI; PKCS #11 version 2.40, CKM_SHA256_HMAC.
    """

    name = "pkcs11"

    def __init__(self, uri: str) -> None:
        path, _, query = uri.removeprefix("pkcs11:").partition("?")
        named = dict(part.partition("=")[::2] for part in path.split(";") if part)
        asked = dict(parse_qsl(query, keep_blank_values=True))
        self.token = unquote(named.pop("token", ""))
        self.object = unquote(named.pop("object", ""))
        self.module = asked.pop("module-path", "")
        self.pin_source = asked.pop("pin-source", "")
        named.pop("type", None)
        if "pin-value" in asked:
            raise ConfigurationError(
                "key: got a PKCS#11 URI with `pin-value`, expected `pin-source=file:PATH`"
            )
        if not (self.token and self.object and self.module and self.pin_source) or named or asked:
            raise ConfigurationError(
                "key: got a PKCS#11 URI of another form, expected "
                "`pkcs11:token=NAME;object=NAME?module-path=PATH&pin-source=file:PATH`"
            )

    def key(self, salt: bytes) -> bytes:
        """
        Return 32 bytes that the token makes of *salt*.

        Raises:
            KeyUnavailableError: There is no such module, token or key, the PIN is
                wrong, or the key may not sign.
        """
        if importlib.util.find_spec("pkcs11") is None:
            raise KeyUnavailableError("pkcs11: got no package `python-pkcs11`, expected it").hint(
                "pip install 'agentguard[pkcs11]'"
            )
        # Imported here: an optional package.
        import pkcs11

        where = f"pkcs11 token {self.token}, object {self.object}"
        pin = self._pin(where)
        try:
            token = pkcs11.lib(self.module).get_token(token_label=self.token)
            with token.open(user_pin=pin) as session:
                key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=self.object)
                made = key.sign(b"agentguard/v1/pkcs11" + salt, mechanism=pkcs11.Mechanism.SHA256_HMAC)
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            # Their texts are of the module; the name of the class says which of its errors it is.
            raise KeyUnavailableError(f"{where}: refused: {type(error).__name__}").hint(
                "module, token, object and PIN must be right, and the key a generic secret that may sign"
            ) from error
        if len(made) != hashlib.sha256().digest_size:
            raise KeyUnavailableError(f"{where}: got {len(made)} bytes, expected {KEY_BYTES}")
        return bytes(made)

    def _pin(self, where: str) -> str:
        scheme, _, path = self.pin_source.rpartition("file:")
        if scheme or not path or not self.pin_source.startswith("file:"):
            raise KeyUnavailableError(f"{where}: got another pin-source, expected `file:PATH`")
        text = read_secret(Path(path.removeprefix("//")).expanduser(), f"{where}, PIN")
        return text[:_PIN_BYTES_MAX].decode("utf-8", "replace").strip()

    def __repr__(self) -> str:
        return f"Pkcs11Key(token={self.token!r}, object={self.object!r})"


def _aws_errors() -> tuple[type[Exception], ...]:
    """Errors of the AWS client, known once its package is."""
    if importlib.util.find_spec("botocore") is None:
        return ()
    import botocore.exceptions

    return (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)


def _code_of(error: Exception) -> str:
    """The code of what the service answered; empty where it did not answer."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return code if isinstance(code, str) else ""
