"""Calls a running gateway over REST, and calls again where its answer says that this may help."""

import asyncio
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

T = TypeVar("T")

_CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 75.0
"""A completion is answered within `GATEWAY_COMPLETE_WAIT_SECONDS`, whose default is 50."""
_MOST_ATTEMPTS: Final = 8
_FIRST_DELAY_SECONDS: Final = 1.0
_LONGEST_DELAY_SECONDS: Final = 30.0
_HALTS: Final = frozenset({"task_paused", "task_error"})
"""Retryable by the gateway's book, but not before a restart, which is a person's to ask for."""


@dataclass(eq=False)
class Refused(Exception):
    """The gateway said no: its problem document, as far as it could be read."""

    status: int
    code: str
    title: str = ""
    detail: str = ""
    retryable: bool = False
    retry_after_seconds: float = 0.0
    members: Mapping[str, Any] = field(default_factory=dict)


class Unreachable(Exception):
    """No answer came. The text says why, in two or three words."""


class RestClient:
    """One gateway at *url*, called with the bearer *token*.

    Args:
        on_wait: told in words why a call waits before it is tried again.
    """

    def __init__(self, url: str, token: str, on_wait: Callable[[str], None] = lambda _: None) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
        )
        self._on_wait = on_wait
        self._was_reached = False

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def once(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON of a success. Raises Refused, Unreachable."""
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise Unreachable(_cause(error)) from error
        except httpx.InvalidURL as error:
            raise Unreachable("no http(s) address") from error
        self._was_reached = True
        if not answer.is_success:
            raise _refused(answer)
        try:
            document: dict[str, Any] = answer.json()
        except ValueError as error:
            raise Refused(answer.status_code, "no_gateway", "This is no upload gateway") from error
        return document

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], AsyncIterable[bytes]] | None = None,
        **request: Any,
    ) -> dict[str, Any]:
        """The JSON of a success, tried up to 8 times with back-off; *body* is asked for anew each time.

        A gateway that never answered is not tried again: its address is likely wrong.

        Raises:
            Refused, Unreachable: the last failure.
        """

        async def attempt() -> dict[str, Any]:
            return await self.once(method, path, **request, **({} if body is None else {"content": body()}))

        return await self._persist(attempt)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for attempts in range(1, _MOST_ATTEMPTS):
            least_seconds = 0.0
            try:
                return await attempt()
            except Refused as refusal:
                if not refusal.retryable or refusal.code in _HALTS:
                    raise
                least_seconds, why = refusal.retry_after_seconds, refusal.code
            except Unreachable as error:
                if not self._was_reached:
                    raise
                why = str(error)
            seconds = max(least_seconds, delay_seconds(attempts, random.random()))  # noqa: S311 -- spreads calls only
            self._on_wait(f"{why}: again in {seconds:.0f} s")
            await asyncio.sleep(seconds)
        return await attempt()


def delay_seconds(attempts: int, dice: float) -> float:
    """The wait after so many failed attempts: 1, 2, 4, … up to 30 s, less up to half; *dice* is from 0 to 1."""
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** (attempts - 1)) * (1 - dice / 2)


def _refused(answer: httpx.Response) -> Refused:
    """The problem document of *answer*; what is none comes from something in between, such as a proxy."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("code"), str):
        passing = answer.status_code in (408, 429) or answer.status_code >= 500
        return Refused(answer.status_code, f"status_{answer.status_code}", "No answer of a gateway", retryable=passing)
    after = answer.headers.get("retry-after", "")
    return Refused(
        answer.status_code,
        said["code"],
        str(said.get("title") or ""),
        str(said.get("detail") or ""),
        bool(said.get("retryable")),
        float(after) if after.isascii() and after.isdigit() else 0.0,
        said,
    )


def _cause(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.UnsupportedProtocol):
        return "no http(s) address"
    return "the connection broke"
