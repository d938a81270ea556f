"""What one caller may do: actions, buckets, key prefix, size and types. And which keys COS accepts at all."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from gateway.domain.errors import (
    FileTooLarge,
    Forbidden,
    InvalidKey,
    KeyNotAllowed,
    TypeNotAllowed,
    UnknownDestination,
)
from gateway.domain.objects import Bucket, ObjectAddress
from gateway.domain.pseudonyms import TOKEN_PREFIX, subject_pseudonym, token_pseudonym

MAX_KEY_BYTES: Final = 850
_MEDIA_TYPE: Final = re.compile(r"\s*([\w!#$&^.+-]+/[\w!#$&^.+-]+)\s*(;[^,]*)?", re.ASCII)
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DOT_SEGMENTS: Final = frozenset({".", ".."})
"""One media type: browsers that meet several, between commas, go by the last."""


class Action(StrEnum):
    """What a token may allow."""

    CREATE = "create"
    UPLOAD = "upload"
    COMPLETE = "complete"
    CONTROL = "control"
    READ = "read"
    LIST = "list"
    APPEND = "append"
    HEAD = "head"
    KEYS = "keys"
    ALL_TASKS = "all_tasks"


@dataclass(frozen=True, slots=True)
class Destination:
    """A configured place to upload to: callers name it by ``alias`` or by the bucket's own name.

    ``types`` are the only media types that it takes, ``options`` the only ones of ``domain.options`` that may be used
    in it, by name or pattern; None: any.
    """

    alias: str
    bucket: Bucket
    prefix: str
    types: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A token's restrictions. None, or an empty prefix, restricts nothing.

    ``all_tasks`` is the exception: it must be listed to be had. ``places`` are the buckets, by their own names, and the
    prefixes in them that ``buckets`` leaves of the configured destinations; see ``Destinations.resolved``.
    """

    buckets: frozenset[str] | None = None
    prefix: str = ""
    max_size: int | None = None
    types: tuple[str, ...] | None = None
    actions: frozenset[str] | None = None
    options: tuple[str, ...] | None = None
    forbid_overwrite: bool = False
    places: frozenset[tuple[str, str]] | None = None

    def allows(self, action: Action) -> bool:
        """Whether *action* is allowed."""
        if self.actions is None:
            return action is not Action.ALL_TASKS
        return action in self.actions

    def covers(self, bucket: str, key: str) -> bool:
        """Whether an object at *key* in the bucket of this name lies inside of what the token is for."""
        if not key.startswith(self.prefix):
            return False
        if self.places is None:
            return self.buckets is None or bucket in self.buckets
        return any(bucket == name and key.startswith(prefix) for name, prefix in self.places)


ANYWHERE: Final = Policy()
"""Covers every bucket and key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: ``owner`` is the token's subject; times are Unix seconds, ``issued_at`` 0 where the token has none.

    ``token_id`` is the token's ``jti``, None without one. A key that was issued for a token has that token's.
    """

    owner: str
    policy: Policy
    expires_at: float
    issued_at: float = 0.0
    token_id: str | None = None

    @property
    def subject(self) -> str:
        """The owner as logs show it."""
        return subject_pseudonym(self.owner)

    @property
    def token(self) -> str | None:
        """The token as logs show it, None for one without an id."""
        return None if self.token_id is None else token_pseudonym(self.token_id)

    @property
    def revocable_names(self) -> tuple[str, ...]:
        """Each name by which the caller, or this one token, can be revoked: in full, or as logs show it."""
        if self.token_id is None:
            return self.owner, self.subject
        return self.owner, self.subject, TOKEN_PREFIX + self.token_id, token_pseudonym(self.token_id)

    def require(self, action: Action) -> None:
        """Raise Forbidden unless the token allows *action*."""
        if not self.policy.allows(action):
            raise Forbidden(f"The token does not allow the action {action.value}.")

    def check_key(self, destination: Destination, key: str) -> None:
        """Refuse a key that COS does not take, or that lies outside what the destination and the token are for.

        Raises:
            InvalidKey: no key for COS.
            KeyNotAllowed: outside a prefix, or in a bucket that the token is not for.
        """
        check_key(key)
        if not _bucket_allowed(self.policy, destination):
            raise KeyNotAllowed("The token is not for this bucket.")
        if not (key.startswith(destination.prefix) and key.startswith(self.policy.prefix)):
            raise KeyNotAllowed("The key lies outside the prefix that the token and the destination allow.")

    def check_size(self, size: int) -> None:
        """Raise FileTooLarge when *size* bytes are more than the token allows."""
        limit = self.policy.max_size
        if limit is not None and size > limit:
            raise FileTooLarge(f"The file has {size} bytes or more, expected at most {limit}.", expected=limit)

    def check_type(self, destination: Destination | None, content_type: str | None) -> None:
        """Raise TypeNotAllowed unless the token's list, and the destination's if there is one, hold the type.

        ``image/*`` stands for every image.
        """
        if not self.takes_type(destination, content_type):
            raise TypeNotAllowed("The content type is not on the list of the token or the bucket.")

    def takes_type(self, destination: Destination | None, content_type: str | None) -> bool:
        """Whether ``check_type`` lets *content_type* pass."""
        ours, places = self.policy.types, None if destination is None else destination.types
        return (ours is None or _is_among(content_type, ours)) and (places is None or _is_among(content_type, places))


def _is_among(content_type: str | None, types: tuple[str, ...]) -> bool:
    match = _MEDIA_TYPE.fullmatch(content_type or "application/octet-stream")
    return match is not None and any(fnmatchcase(match[1].lower(), pattern.lower()) for pattern in types)


def check_key(key: str) -> None:
    """Refuse what COS would not keep under exactly this name (doc 436/14518, and dot segments, which paths lose).

    Raises:
        InvalidKey: 1-850 bytes of UTF-8 without control characters, dot segments or a leading slash were expected.
    """
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey("The key is not UTF-8.") from None
    if not 1 <= length <= MAX_KEY_BYTES:
        raise InvalidKey(f"The key has {length} bytes, expected 1 to {MAX_KEY_BYTES}.")
    if key[0] in "/\\":
        raise InvalidKey("The key begins with a slash.")
    if _CONTROL_CHARACTER.search(key):
        raise InvalidKey("The key holds a control character.")
    if not _DOT_SEGMENTS.isdisjoint(key.split("/")):
        raise InvalidKey("The key holds a dot segment.")


class Destinations:
    """The only places there are to upload to.

    Args:
        destinations: at least one; the first is the default.
    """

    def __init__(self, destinations: tuple[Destination, ...]) -> None:
        self.all = destinations

    def find(self, policy: Policy, bucket: str | None, region: str | None = None) -> Destination:
        """The destination that *bucket* (alias, exact name, or None for the first that is allowed) names.

        Raises:
            UnknownDestination: there is none, *region* is not its own, or the token does not allow it.
        """
        for place in self.all:
            if bucket in (None, place.alias, place.bucket.name) and _bucket_allowed(policy, place):
                if region in (None, place.bucket.region):
                    return place
                break
        raise UnknownDestination("The bucket and region are not among those that the token and the gateway allow.")

    def of(self, at: ObjectAddress) -> Destination | None:
        """The destination in which *at* lies; of several in one bucket that with the longest prefix."""
        places = [place for place in self.all if place.bucket == at.bucket and at.key.startswith(place.prefix)]
        return max(places, key=lambda place: len(place.prefix), default=None)

    def resolved(self, policy: Policy) -> Policy:
        """*policy* that also knows which buckets and prefixes there are for it."""
        places = frozenset((at.bucket.name, at.prefix) for at in self.all if _bucket_allowed(policy, at))
        return replace(policy, places=places)


def _bucket_allowed(policy: Policy, place: Destination) -> bool:
    return policy.buckets is None or place.alias in policy.buckets or place.bucket.name in policy.buckets
