"""The keys that bearer tokens are verified with. Each has one algorithm of its own: a token cannot choose another."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

_log = logging.getLogger(__name__)

MIN_SECRET_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
RECHECK_SECONDS: Final = 60

_ALGORITHMS: Final[Mapping[str, frozenset[str]]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
_MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key and the only algorithm it is used with."""

    algorithm: str
    material: Any


class TokenKeys(Protocol):
    """Where an Authenticator finds its keys."""

    def find(self, key_id: str | None) -> TokenKey | None:
        """The key that a token's ``kid`` names; None when there is none."""

    def changed(self) -> bool:
        """Whether the keys differ from those at the last call: what was verified before must be verified again."""


class Monotonic(Protocol):
    """A clock that never goes back, in seconds."""

    def __call__(self) -> float: ...


class SharedSecret:
    """One HS256 secret, of at least 32 bytes. It has no id: a token's ``kid`` is not looked at."""

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"the token secret has {len(secret.encode())} bytes, expected at least {MIN_SECRET_BYTES}")
        self._key = TokenKey("HS256", secret.encode())

    def find(self, key_id: str | None) -> TokenKey | None:
        del key_id
        return self._key

    def changed(self) -> bool:
        return False


class JwksFile:
    """Public keys from a JWKS file (RFC 7517). The file is looked at again at most once in 60 s.

    A file that has become unreadable keeps the keys read before, and says so in the log.

    Raises:
        ValueError, OSError: the file cannot be used at the start.
    """

    def __init__(self, path: Path, monotonic: Monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._stamp = _stamp(path)
        self._keys = _read_keys(path)

    def find(self, key_id: str | None) -> TokenKey | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def changed(self) -> bool:
        now = self._monotonic()
        if now - self._looked_at < RECHECK_SECONDS:
            return False
        self._looked_at = now
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return False
            self._keys = _read_keys(self._path)
        except (OSError, ValueError):
            _log.exception("the JWKS file cannot be read; the keys read before stay in force")
            return False
        self._stamp = stamp
        return True


def _stamp(path: Path) -> tuple[int, int, int]:
    seen = path.stat()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _read_keys(path: Path) -> dict[str, TokenKey]:
    with path.open("rb") as file:
        raw = file.read(_MAX_FILE_BYTES)
    document = json.loads(raw)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the JWKS file holds no list of keys")
    found = dict(_read_key(entry, alone=len(entries) == 1) for entry in entries if _signs(entry))
    if not found:
        raise ValueError("the JWKS file holds no public key for signatures")
    return found


def _signs(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("use", "sig") == "sig"


def _read_key(entry: dict[str, Any], *, alone: bool) -> tuple[str, TokenKey]:
    key_id = entry.get("kid", "" if alone else None)
    if not isinstance(key_id, str):
        raise ValueError("a key in the JWKS file has no kid")
    try:
        key = PyJWK(entry)
    except PyJWTError as error:
        raise ValueError("a key in the JWKS file cannot be read") from error
    if key.algorithm_name not in _ALGORITHMS.get(str(entry.get("kty")), frozenset()) or "d" in entry:
        raise ValueError("a key in the JWKS file is not a public key of RSA, EC or Ed25519")
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        raise ValueError(f"an RSA key in the JWKS file has {key.key.key_size} bits, expected at least {MIN_RSA_BITS}")
    return key_id, TokenKey(key.algorithm_name, key.key)
