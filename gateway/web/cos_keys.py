"""Short-lived keys for the COS door: issued to callers, kept nowhere, worth nothing at COS itself.

The session token holds the policy under seal; the secret key follows from the key's id and from what sealed the token.
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.audit import AuditEvent, audit
from gateway.domain.errors import InvalidField, KeyNotAllowed, TokenExpired
from gateway.domain.policy import Action, Caller, Destination, Destinations, Policy
from gateway.transfer.ports import Clock
from gateway.web.sealing import SealBroken, Sealer

DEFAULT_TTL_SECONDS: Final = 1800
MAX_TTL_SECONDS: Final = 7200
_ID: Final = re.compile(r"AKID[0-9a-f]{32}", re.ASCII)
_ID_BYTES: Final = 16
_REMEMBERED: Final = 1024


class KeyUnknown(Exception):
    """No such key was issued here."""


class KeyExpired(Exception):
    """The key has run out."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """What an SDK signs with, for one bucket; times in whole Unix seconds."""

    tmp_secret_id: str
    tmp_secret_key: str = field(repr=False)
    session_token: str = field(repr=False)
    start_time: int
    expired_time: int
    place: Destination


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """An issued key as it comes back: whose it is, and the secret that its signatures were made with."""

    caller: Caller
    secret_key: str = field(repr=False)


class KeyIssuer:
    """Issues keys and opens them again.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, sealer: Sealer, destinations: Destinations, clock: Clock = time.time) -> None:
        self._sealer = sealer
        self._destinations = destinations
        self._clock = clock
        self._opened: dict[tuple[str, str], OpenedKey] = {}

    def issue(self, caller: Caller, bucket: str | None, prefix: str | None, ttl_seconds: int) -> IssuedKey:
        """A key that may do what *caller* may, in one bucket and below *prefix*, and for no longer.

        It counts as issued when *caller*'s token was; ``start_time`` is for the SDK's clock alone.

        Raises:
            UnknownDestination: the caller may not use *bucket*.
            KeyNotAllowed: *prefix* is wider than the caller's or the destination's.
            TokenExpired: the caller's token is about to end.
            InvalidField: the policy is too large for a key.
        """
        caller.require(Action.KEYS)
        place = self._destinations.find(caller.policy, bucket)
        now = int(self._clock())
        expires = min(now + ttl_seconds, int(caller.expires_at))
        if expires <= now:
            raise TokenExpired
        secret_id = "AKID" + secrets.token_hex(_ID_BYTES)
        policy = caller.policy
        payload = {
            "id": secret_id,
            "owner": caller.owner,
            "at": place.alias,
            "prefix": _narrowed(policy.prefix, place.prefix, prefix),
            "max_size": policy.max_size,
            "types": policy.types,
            "actions": None if policy.actions is None else sorted(policy.actions),
            "options": policy.options,
            "forbid_overwrite": policy.forbid_overwrite,
            "iat": caller.issued_at,  # a key is as old as its token: what revokes the one revokes the other
            "exp": expires,
            **({} if caller.token_id is None else {"jti": caller.token_id}),
        }
        try:
            token = self._sealer.seal("key", payload)
        except ValueError:
            raise InvalidField("The token's policy is too large for a key.") from None
        audit(AuditEvent.KEY_ISSUED, key_id=secret_id, bucket=place.bucket.name, expires_at=expires)
        return IssuedKey(secret_id, self._sealer.secret_of(token, secret_id), token, now, expires, place)

    def open(self, secret_id: str, token: str) -> OpenedKey:
        """The key of *secret_id* that came with *token*.

        Raises:
            KeyUnknown: it was not issued here, or with another token.
            KeyExpired: it has run out.
        """
        opened = self._opened.get((secret_id, token))
        if opened is None:
            opened = self._unsealed(secret_id, token)
            if len(self._opened) >= _REMEMBERED:
                self._opened.clear()
            self._opened[secret_id, token] = opened
        if opened.caller.expires_at <= self._clock():
            raise KeyExpired
        return opened

    def _unsealed(self, secret_id: str, token: str) -> OpenedKey:
        try:
            sealed = self._sealer.open("key", token)
        except SealBroken:
            raise KeyUnknown from None
        if sealed["id"] != secret_id:
            raise KeyUnknown
        caller = Caller(
            sealed["owner"],
            self._destinations.resolved(_policy(sealed)),
            float(sealed["exp"]),
            float(sealed.get("iat", 0)),
            sealed.get("jti"),
        )
        return OpenedKey(caller, self._sealer.secret_of(token, secret_id))


def is_key_id(text: str) -> bool:
    """Whether *text* looks like the id of a key issued here."""
    return _ID.fullmatch(text) is not None


def _narrowed(allowed: str, configured: str, asked: str | None) -> str:
    """The prefix of a key: never wider than the caller's and the destination's."""
    prefix = max(allowed, configured, key=len) if asked is None else asked
    if not (prefix.startswith(allowed) and prefix.startswith(configured)):
        raise KeyNotAllowed("The prefix lies outside of what the token and the destination allow.")
    return prefix


def _policy(sealed: dict[str, Any]) -> Policy:
    types, actions, options = sealed["types"], sealed["actions"], sealed.get("options")
    return Policy(
        buckets=frozenset({sealed["at"]}),
        prefix=sealed["prefix"],
        max_size=sealed["max_size"],
        types=None if types is None else tuple(types),
        actions=None if actions is None else frozenset(actions),
        options=None if options is None else tuple(options),
        forbid_overwrite=sealed.get("forbid_overwrite", False),
    )
