"""Who asks: a bearer token becomes a Caller, or one of three 401s. Every reason a token is wrong reads the same."""

import base64
import binascii
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import jwt

from gateway.audit import note_caller
from gateway.domain.errors import TokenExpired, TokenInvalid, Unauthenticated
from gateway.domain.policy import Caller, Policy
from gateway.transfer.ports import Clock
from gateway.web.token_keys import JwksFile, Monotonic, SharedSecret, TokenKeys

MAX_TOKEN_BYTES: Final = 8192
MAX_OWNER_LENGTH: Final = 256
LEEWAY_SECONDS: Final = 30
SUBPROTOCOL: Final = "gateway.v1"
BEARER_PREFIX: Final = "bearer."

_MAX_HEADER_BYTES: Final = 1024
_MAX_NESTING: Final = 64
_MAX_LIST: Final = 256
_MAX_INTEGER: Final = 2**53
_CACHE_SIZE: Final = 4096
_MAX_TOKEN_ID_LENGTH: Final = 256
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_REFUSED_HEADERS: Final = frozenset({"jku", "x5u", "jwk", "x5c", "crit"})
_OPTIONS: Final[Any] = {
    "require": ["sub", "exp", "aud"],
    "verify_exp": False,  # judged here, by our clock
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}

Resolved = Callable[[Policy], Policy]


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """What holds for every token, whatever it says.

    ``life_seconds``: the most that may lie between its ``iat``, which it must have then, and its ``exp``; None: any
    time. ``max_size``: the largest file, in bytes, that it may send.
    """

    life_seconds: float | None = None
    max_size: int | None = None


class Authenticator:
    """Verifies bearer tokens and remembers those that were good, until they expire.

    Args:
        keys: what verifies the signatures.
        audience: the ``aud`` that a token must carry.
        issuer: the ``iss`` that it must carry, or None.
        clock: Unix time in seconds.
        bounds: what no token may exceed.
        resolved: a policy that also knows what its buckets' aliases stand for.
    """

    def __init__(
        self,
        keys: TokenKeys,
        audience: str,
        issuer: str | None = None,
        clock: Clock = time.time,
        *,
        bounds: TokenBounds = TokenBounds(),
        resolved: Resolved = lambda policy: policy,
    ) -> None:
        self._keys = keys
        self._bounds = bounds
        self._resolved = resolved
        self._audience = audience
        self._issuer = issuer
        self._clock = clock
        self._known: OrderedDict[bytes, Caller] = OrderedDict()

    @classmethod
    def with_secret(
        cls,
        secret: str,
        audience: str,
        issuer: str | None = None,
        clock: Clock = time.time,
        *,
        bounds: TokenBounds = TokenBounds(),
        resolved: Resolved = lambda policy: policy,
    ) -> "Authenticator":
        """Tokens signed HS256 with *secret* (32 bytes or more)."""
        return cls(SharedSecret(secret), audience, issuer, clock, bounds=bounds, resolved=resolved)

    @classmethod
    def with_jwks_file(
        cls,
        path: Path,
        audience: str,
        issuer: str | None = None,
        clock: Clock = time.time,
        *,
        bounds: TokenBounds = TokenBounds(),
        resolved: Resolved = lambda policy: policy,
        monotonic: Monotonic = time.monotonic,
    ) -> "Authenticator":
        """Tokens signed by a key of the JWKS file at *path*. Raises ValueError or OSError if it cannot be used."""
        return cls(JwksFile(path, monotonic), audience, issuer, clock, bounds=bounds, resolved=resolved)

    def knows(self, token: str) -> bool:
        """Whether *token* was good before: then looking at it again costs next to nothing."""
        return hashlib.sha256(token.encode()).digest() in self._known

    def caller_of(self, token: str) -> Caller:
        """The caller that *token* names. Raises TokenInvalid or TokenExpired."""
        if self._keys.changed():
            self._known.clear()
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise TokenInvalid
        digest = hashlib.sha256(token.encode()).digest()
        caller = self._known.get(digest)
        if caller is None:
            caller = self._verified(token)
            self._remember(digest, caller)
        else:
            self._known.move_to_end(digest)
        if caller.expires_at + LEEWAY_SECONDS <= self._clock():
            note_caller(caller)
            raise TokenExpired
        return caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._known[digest] = caller
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)

    def _verified(self, token: str) -> Caller:
        header = _header(token)
        key_id = header.get("kid")
        key = self._keys.find(key_id) if key_id is None or isinstance(key_id, str) else None
        if key is None:
            raise TokenInvalid
        try:
            claims = jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],  # whatever the header asks for
                options=_OPTIONS,
                audience=self._audience,
                issuer=self._issuer,
            )
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise TokenInvalid from error
        latest = self._clock() + LEEWAY_SECONDS
        if any(_time(claims, name) > latest for name in ("nbf", "iat") if name in claims):
            raise TokenInvalid
        issued_at, expires_at = self._life(claims)
        policy = self._capped(_policy(claims))
        return Caller(_owner(claims), policy, expires_at, issued_at, _token_id(claims))

    def _life(self, claims: Mapping[str, Any]) -> tuple[float, float]:
        """When the token was issued, 0 where it does not say, and when it ends.

        Raises:
            TokenInvalid: it would live too long. As no ``iat`` is in the future, ``exp`` is no further from now either.
        """
        issued_at, expires_at = (_time(claims, "iat") if "iat" in claims else 0.0), _time(claims, "exp")
        longest = self._bounds.life_seconds
        if longest is not None and ("iat" not in claims or expires_at - issued_at > longest):
            raise TokenInvalid
        return issued_at, expires_at

    def _capped(self, policy: Policy) -> Policy:
        sizes = [size for size in (policy.max_size, self._bounds.max_size) if size is not None]
        return self._resolved(replace(policy, max_size=min(sizes, default=None)))


def bearer_token(authorization: str | None) -> str:
    """The token in an ``Authorization`` header. Raises Unauthenticated when it holds none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return token.strip(" ")


def offered_token(offered: Sequence[str]) -> tuple[str, str | None]:
    """The token among a websocket's subprotocols, and the one to select: never the one with the token.

    Raises:
        Unauthenticated: there is none.
        TokenInvalid: there are more.
    """
    tokens = [name.removeprefix(BEARER_PREFIX) for name in offered if name.startswith(BEARER_PREFIX)]
    if not tokens:
        raise Unauthenticated
    if len(tokens) > 1:
        raise TokenInvalid
    return tokens[0], SUBPROTOCOL if SUBPROTOCOL in offered else None


def _header(token: str) -> Mapping[str, Any]:
    """The token's header, small and flat before any other parser sees it."""
    segments = token.split(".")
    if len(segments) != 3 or len(segments[0]) > _MAX_HEADER_BYTES:
        raise TokenInvalid
    try:
        raw, claims = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in segments[:2])
        if any(text.count(b"[") + text.count(b"{") > _MAX_NESTING for text in (raw, claims)):
            raise TokenInvalid
        header = json.loads(raw)
    except (binascii.Error, ValueError) as error:
        raise TokenInvalid from error
    if not isinstance(header, dict) or _REFUSED_HEADERS & header.keys():
        raise TokenInvalid
    if "typ" in header and str(header["typ"]).lower() not in _TYPES:
        raise TokenInvalid
    return header


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_INTEGER:
        raise TokenInvalid
    return float(value)


def _owner(claims: Mapping[str, Any]) -> str:
    owner = claims["sub"]
    if not isinstance(owner, str) or not 1 <= len(owner) <= MAX_OWNER_LENGTH or not owner.isprintable():
        raise TokenInvalid
    return owner


def _token_id(claims: Mapping[str, Any]) -> str | None:
    """The token's ``jti``, if it has one."""
    if "jti" not in claims:
        return None
    token_id = claims["jti"]
    if not isinstance(token_id, str) or not _is_text(token_id) or not 1 <= len(token_id) <= _MAX_TOKEN_ID_LENGTH:
        raise TokenInvalid
    return token_id


def _policy(claims: Mapping[str, Any]) -> Policy:
    buckets, types, actions = (_strings(claims, name) for name in ("buckets", "types", "actions"))
    prefix, forbid_overwrite = claims.get("prefix", ""), claims.get("forbid_overwrite", False)
    if not _is_text(prefix) or not isinstance(forbid_overwrite, bool):
        raise TokenInvalid
    return Policy(
        buckets=None if buckets is None else frozenset(buckets),
        prefix=prefix,
        max_size=_max_size(claims),
        types=types,
        actions=None if actions is None else frozenset(actions),
        options=_strings(claims, "options"),
        forbid_overwrite=forbid_overwrite,
    )


def _strings(claims: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, list) or len(value) > _MAX_LIST or not all(map(_is_text, value)):
        raise TokenInvalid
    return tuple(value)


def _is_text(value: object) -> bool:
    """Whether *value* is text that has bytes: JSON may hold half a character, as a lone surrogate."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _max_size(claims: Mapping[str, Any]) -> int | None:
    if "max_size" not in claims:
        return None
    value = claims["max_size"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INTEGER:
        raise TokenInvalid
    return value
