"""Sends a notice to its receiver: one signed POST, of whose answer only the status counts."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.resolver import ThreadedResolver

from gateway.domain.notices import Notice, NoticeRefused
from gateway.domain.objects import Bucket
from gateway.domain.task import Task
from gateway.hooks.resolving import PublicResolver
from gateway.hooks.signing import signed_headers

ANSWER_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
CONNECTIONS: Final = 32
CONNECTIONS_PER_HOST: Final = 8


class WebhookSender:
    """The ``NoticeSender`` of ``transfer.notices``.

    No redirect is followed, no proxy of the environment is used, and nothing of the answer's body is read: what does
    not fit into a socket's buffers stays with the receiver.

    Args:
        receivers: the address for each bucket.
        secret: signs every request.
        render: turns a task into the document that receivers get.
        allow_private: whether receivers may have private addresses.
        answer_seconds: how long one request may take in all.
        clock: Unix seconds.
    """

    def __init__(
        self,
        receivers: Mapping[Bucket, str],
        secret: str,
        render: Callable[[Task], Mapping[str, Any]],
        *,
        allow_private: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._receivers = receivers
        self._secret = secret
        self._render = render
        self._allow_private = allow_private
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def send(self, notice: Notice) -> None:
        """Tell the receiver of the task's bucket.

        Raises:
            NoticeRefused: it did not answer 2xx in time, or the bucket has no receiver any more.
        """
        url = self._receivers.get(notice.task.at.bucket)
        if url is None:
            raise NoticeRefused("the bucket has no webhook")
        body = json.dumps(event_document(notice, self._render(notice.task)), ensure_ascii=False).encode()
        headers = signed_headers(notice.id, int(self._clock()), body, self._secret)
        if notice.traceparent is not None:
            headers["traceparent"] = notice.traceparent
        try:
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise NoticeRefused(f"no answer: {type(error).__name__}") from error
        if not 200 <= status < 300:
            raise NoticeRefused(f"status {status}")

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """The session, which can only be made where an event loop runs."""
        if self._session is None:
            resolver = ThreadedResolver() if self._allow_private else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver, limit=CONNECTIONS, limit_per_host=CONNECTIONS_PER_HOST, use_dns_cache=False
                ),
                timeout=aiohttp.ClientTimeout(total=self._answer_seconds, sock_connect=CONNECT_SECONDS),
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": "upload-gateway",
                    "Accept-Encoding": "identity",
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def event_document(notice: Notice, task: Mapping[str, Any]) -> dict[str, Any]:
    """What a receiver reads. The ticket stays with the client: it is worth a token."""
    told = {name: value for name, value in task.items() if name != "ticket"}
    return {"id": notice.id, "type": notice.kind.value, "created_at": round(notice.at, 3), "task": told}
