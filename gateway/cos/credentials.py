"""Where COS keys come from: fixed ones, or a file that something else keeps fresh."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.cos.signing import Credentials
from gateway.domain.errors import CredentialsUnavailable

log = logging.getLogger("gateway.cos")

_LOOK_SECONDS: Final = 30.0
_LOOK_OFTEN_SECONDS: Final = 1.0
_READ_SECONDS: Final = 2.0
_RENEW_AT_SHARE_OF_LIFE: Final = 0.8
_MAX_FILE_BYTES: Final = 64 * 1024


class CredentialSource(Protocol):
    """Gives the keys to sign with."""

    async def current(self) -> Credentials:
        """Keys that are valid now. Raises CredentialsUnavailable."""

    async def refresh(self, stale: Credentials) -> Credentials:
        """Keys other than *stale*, which COS no longer takes. Raises CredentialsUnavailable when there are none."""


class FixedCredentials:
    """The same keys always."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def current(self) -> Credentials:
        return self._credentials

    async def refresh(self, stale: Credentials) -> Credentials:
        raise CredentialsUnavailable("COS says that the configured session token has run out")


class FileCredentials:
    """Keys from a JSON file, read again when it changes.

    The file holds an object with ``TmpSecretId``, ``TmpSecretKey``, ``Token`` and ``ExpiredTime`` (Unix seconds), or
    the same in snake_case; token and time may be missing. It is looked at every 30 s, and every second once 80 % of
    the keys' life is over. While it cannot be read, the keys read before stay in use until they run out.

    Args:
        path: the file; whoever writes it replaces it as a whole.
        clock: Unix seconds.
        read_seconds: how long one look may take: the file may be on another machine's disk.
        read: reads the file, in a thread. Raises OSError, ValueError.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        read_seconds: float = _READ_SECONDS,
        read: Callable[[Path], Credentials] | None = None,
    ) -> None:
        self._path = path
        self._read = read or read_file
        self._clock = clock
        self._read_seconds = read_seconds
        self._looks = 0
        self._held: Credentials | None = None
        self._failure: Exception | None = None
        self._renew_at = float("inf")
        self._next_look_at = float("-inf")
        self._reading = asyncio.Lock()
        self._under_way: asyncio.Future[Credentials] | None = None
        """A read that hangs is waited for again: each would hold one of the few threads that look up names, too."""

    async def current(self) -> Credentials:
        if self._clock() >= self._next_look_at:
            async with self._reading:
                if self._clock() >= self._next_look_at:
                    await self._look()
        return self._valid()

    async def refresh(self, stale: Credentials) -> Credentials:
        before = self._looks
        async with self._reading:
            if self._held in (stale, None) and self._looks == before:  # else one look served all who waited for it
                await self._look()
        found = self._valid()
        if found == stale:
            raise CredentialsUnavailable("the credentials file still holds the keys that COS refused")
        return found

    def _valid(self) -> Credentials:
        held = self._held
        if held is None or (held.expires_at is not None and held.expires_at <= self._clock()):
            raise CredentialsUnavailable("the credentials file holds no valid keys") from self._failure
        return held

    async def _look(self) -> None:
        try:
            found = await self._file()
        except (OSError, ValueError) as exc:
            log.warning("the credentials file cannot be used: %s", type(exc).__name__)
            self._next_look_at = self._clock() + _LOOK_OFTEN_SECONDS
            self._failure = exc.with_traceback(None)
        else:
            self._failure = None
            self._hold(found)
        self._looks += 1  # only now: it also serves those who came while it ran

    def _hold(self, found: Credentials) -> None:
        now = self._clock()
        if found != self._held:
            self._held = found
            self._renew_at = float("inf")
            if found.expires_at is not None:
                self._renew_at = now + (found.expires_at - now) * _RENEW_AT_SHARE_OF_LIFE
        if now >= self._renew_at:
            self._next_look_at = now + _LOOK_OFTEN_SECONDS
        else:
            self._next_look_at = min(now + _LOOK_SECONDS, self._renew_at)

    async def _file(self) -> Credentials:
        """What the file holds. Raises OSError, ValueError; TimeoutError after ``read_seconds``."""
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(asyncio.to_thread(self._read, self._path))
        try:
            async with asyncio.timeout(self._read_seconds):
                return await asyncio.shield(self._under_way)
        finally:
            if self._under_way.done():
                self._under_way = None


def read_file(path: Path) -> Credentials:
    """The credentials in the file at *path*. Raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
    return read_credentials(content)


def read_credentials(content: bytes) -> Credentials:
    """Credentials from the JSON of :class:`FileCredentials`.

    Raises:
        ValueError: it holds none; the text never quotes the content.
    """
    try:
        found = json.loads(content)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    expires_at = found.get("ExpiredTime", found.get("expired_time"))
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float | None):
        raise ValueError("ExpiredTime is not a number")
    token = _text(found, "Token", "token", "SessionToken", "session_token")
    return Credentials(
        _required(_text(found, "TmpSecretId", "tmp_secret_id"), "TmpSecretId"),
        _required(_text(found, "TmpSecretKey", "tmp_secret_key"), "TmpSecretKey"),
        token or None,
        expires_at,
    )


def _text(found: dict[str, Any], *names: str) -> str:
    value = next((found[name] for name in names if found.get(name)), "")
    if not isinstance(value, str) or not value.isascii() or (value and not value.isprintable()):
        raise ValueError(f"{names[0]} is not printable ASCII")
    return value


def _required(value: str, name: str) -> str:
    if not value:
        raise ValueError(f"{name} is missing")
    return value
