"""One request to COS and its answer, whole: nothing is repeated here, and every wait ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from gateway.cos.request_body import BodyTooLong, BodyTooShort
from gateway.cos.transport import AddressRefused, CertificateRefused
from gateway.cos.wire_answers import CosResponse
from gateway.cos.wire_requests import CosRequest
from gateway.cos.xml_tree import MAX_BYTES
from gateway.domain import errors
from gateway.domain.errors import GatewayError
from gateway.domain.objects import Bucket, PartBody
from gateway.telemetry import COS_REQUEST_ID
from gateway.tracing import traceparent

_MAX_COMPLETE_BYTES: Final = 64 * 1024

Observe = Callable[[str, int, float, int], None]
"""Told of every attempt: operation, status (0: no answer), seconds, body bytes taken from the caller."""


@dataclass(frozen=True, slots=True)
class CosLimits:
    """How long COS may take, in seconds.

    Args:
        connect_seconds: to get a connection.
        stall_seconds: without taking a byte of a body.
        answer_seconds: to begin its answer once it has the request, and again to end it.
        complete_seconds: for all of Complete, which pads its answer with spaces until the parts are merged.
    """

    connect_seconds: float = 3.0
    stall_seconds: float = 20.0
    answer_seconds: float = 30.0
    complete_seconds: float = 600.0


class AttemptFailed(Exception):
    """No answer that could be read. ``nothing_sent``: no connection came about, and the body was not touched."""

    def __init__(self, error: GatewayError, *, nothing_sent: bool) -> None:
        super().__init__(error)
        self.error = error
        self.nothing_sent = nothing_sent


class Exchange:
    """Sends requests over *transport*, to *endpoint* if given and else to each bucket's own host."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        endpoint: str | None,
        scheme: str,
        limits: CosLimits,
        observe: Observe | None,
    ) -> None:
        self._transport = transport
        self._endpoint = httpx.URL(endpoint) if endpoint else None
        self._scheme = scheme
        self._limits = limits
        self._observe = observe
        self._origins: dict[Bucket, httpx.URL] = {}

    async def once(
        self, request: CosRequest, headers: Mapping[str, str], body: PartBody | None, *, alone: bool = False
    ) -> CosResponse:
        """COS's answer, whatever its status; *alone*: over a connection that serves nothing else.

        A body that could not be sent again never goes over an old connection, which COS may have closed meanwhile, or
        on which the rest of another request may lie. A new one takes 0.2 ms of CPU.

        Raises:
            AttemptFailed: there was none.
            Exception: whatever *body* raised, unchanged.
        """
        reading = _Reading(body) if body is not None else None
        started = time.perf_counter()
        status = 0
        try:
            response = await self._exchange(request, headers, reading, alone=alone)
            status = response.status
            COS_REQUEST_ID.set(response.headers.get("x-cos-request-id"))
            return response
        except httpx.TransportError as exc:
            if reading is not None and reading.failure is exc:
                raise
            connecting = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
            nothing_sent = connecting and (reading is None or not reading.begun)
            raise AttemptFailed(_gateway_error(exc), nothing_sent=nothing_sent) from exc
        finally:
            if self._observe is not None:
                taken = reading.bytes_taken if reading is not None else 0
                self._observe(request.operation, status, time.perf_counter() - started, taken)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _exchange(
        self, request: CosRequest, headers: Mapping[str, str], reading: "_Reading | None", *, alone: bool
    ) -> CosResponse:
        is_complete = request.operation == "complete"
        seconds = self._limits.complete_seconds if is_complete else self._limits.answer_seconds
        began = time.monotonic()
        message = self._http_request(request, headers, reading, seconds)
        message.extensions["alone"] = alone
        message.extensions["fresh"] = reading is not None and not (reading.replayable and request.repeatable)
        answer = await self._transport.handle_async_request(message)
        if is_complete:  # its head comes at once and its end after minutes: both together have the time
            seconds = max(0.0, seconds - (time.monotonic() - began))
        try:
            async with asyncio.timeout(seconds):
                content = await _read(answer, _MAX_COMPLETE_BYTES if is_complete else MAX_BYTES)
        except TimeoutError as exc:
            raise httpx.ReadTimeout("the answer did not end in time") from exc
        finally:
            await answer.aclose()
        return CosResponse(answer.status_code, dict(answer.headers.items()), content)

    def _http_request(
        self, request: CosRequest, headers: Mapping[str, str], reading: "_Reading | None", answer_seconds: float
    ) -> httpx.Request:
        extensions: dict[str, Any] = {
            "target": request.target.encode("ascii"),
            "timeout": {
                "connect": self._limits.connect_seconds,
                "write": self._limits.stall_seconds,
                "read": answer_seconds,
            },
        }
        if self._endpoint is not None and self._endpoint.scheme == "https":
            extensions["sni_hostname"] = request.bucket.host
        sent = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers.items()]
        if (trace := traceparent()) is not None:
            sent.append((b"traceparent", trace.encode("ascii")))  # not signed; COS takes no notice of it
        return httpx.Request(
            request.method,
            self._endpoint or self._origin(request.bucket),
            headers=sent,
            stream=reading if reading is not None else httpx.ByteStream(request.content),
            extensions=extensions,
        )

    def _origin(self, bucket: Bucket) -> httpx.URL:
        if bucket not in self._origins:
            self._origins[bucket] = httpx.URL(f"{self._scheme}://{bucket.host}/")
        return self._origins[bucket]


class _Reading(httpx.AsyncByteStream):
    """A body while it is read: begun only when the first chunk is wanted, and its own errors told from others."""

    def __init__(self, body: PartBody) -> None:
        self._body = body
        self._chunks: AsyncIterator[bytes] | None = None
        self.bytes_taken = 0
        self.failure: Exception | None = None

    @property
    def begun(self) -> bool:
        return self._chunks is not None

    @property
    def replayable(self) -> bool:
        return self._body.replayable

    def __aiter__(self) -> "_Reading":
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._body.chunks()
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self.failure = exc
            raise
        self.bytes_taken += len(chunk)
        return chunk

    async def aclose(self) -> None:
        aclose: Any = getattr(self._chunks, "aclose", None)
        if aclose is not None:
            await aclose()


async def _read(answer: httpx.Response, limit_bytes: int) -> bytes:
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.stream:
        size += len(piece)
        if size > limit_bytes:
            raise httpx.RemoteProtocolError(f"the answer has more than {limit_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _gateway_error(exc: httpx.TransportError) -> GatewayError:
    match exc:
        case BodyTooShort():
            return errors.BodyIncomplete(str(exc))
        case BodyTooLong():
            return errors.BodyTooLarge(str(exc))
        case AddressRefused():
            return errors.StorageAddressRefused("COS's name leads to addresses outside GATEWAY_COS_ADDRESS_RANGES")
        case CertificateRefused():
            return errors.StorageUntrusted("the certificate that was shown is not the bucket's, or has run out")
        case httpx.RemoteProtocolError():
            return errors.StorageBadAnswer("COS did not answer as HTTP/1.1 asks")
        case _:
            return errors.StorageUnavailable(f"COS could not be reached: {type(exc).__name__}")
