"""The COS client: the object store that the use cases ask for, as signed requests to Tencent COS."""

import time
from collections.abc import Callable, Mapping, Sequence

import httpx

from gateway.cos import wire_answers, wire_requests
from gateway.cos.credentials import CredentialSource
from gateway.cos.exchange import CosLimits, Exchange, Observe
from gateway.cos.sender import Sender
from gateway.cos.transport import AiohttpTransport
from gateway.cos.wire_answers import CosResponse
from gateway.domain import errors
from gateway.domain.errors import CosAnswer
from gateway.domain.objects import (
    Appended,
    Bucket,
    ETag,
    ObjectAddress,
    PartBody,
    PartsPage,
    StoredObject,
    StoredPart,
    UploadId,
    UploadsPage,
)
from gateway.telemetry import Metrics


class CosClient:
    """Tencent COS as ``transfer.ports.ObjectStore``; each call ends within its limits.

    Calls raise ``errors.Storage`` and the conflicts that COS's codes stand for, each with COS's own answer in ``cos``;
    what a body raises comes out unchanged. Failures are tried again up to twice, with back-off, if the body is
    replayable; Append and Complete never, unless not even a connection came about.

    Args:
        endpoint: where to connect instead of the bucket's own host, such as ``http://127.0.0.1:9000``; the Host header
            (and the name TLS expects) stays the bucket's.
        transport: how requests travel; an :class:`AiohttpTransport` when None. Closed with the client.
        scheme: of the bucket's own host.
        observe: told of every attempt.
        metrics: where repetitions, errors and restraint are counted; nowhere when None.
        clock: Unix seconds.
    """

    def __init__(
        self,
        credentials: CredentialSource,
        *,
        endpoint: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        scheme: str = "https",
        observe: Observe | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        limits: CosLimits | None = None,
    ) -> None:
        exchange = Exchange(
            transport or AiohttpTransport(),
            endpoint=endpoint,
            scheme=scheme,
            limits=limits or CosLimits(),
            observe=observe,
        )
        self._sender = Sender(exchange, credentials, clock, metrics or Metrics())

    def report(self) -> None:
        """Enter the gauges that are only known by looking."""
        self._sender.report()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._sender.aclose()

    async def put_object(self, at: ObjectAddress, body: PartBody, headers: Mapping[str, str]) -> StoredObject:
        """PUT Object (doc 7749); returns only when COS's CRC-64 is the body's.

        Raises:
            StorageIntegrity: it was not.
            ObjectExists: *headers* forbid to overwrite.
        """

        def read(response: CosResponse) -> StoredObject:
            stored = wire_answers.read_stored_object(response)
            _require_same_bytes(response, body, stored.crc64)
            return stored

        return await self._sender.call(wire_requests.put_object(at, headers), read, body)

    async def append_object(
        self, at: ObjectAddress, position: int, body: PartBody, headers: Mapping[str, str]
    ) -> Appended:
        """APPEND Object (doc 7741) at byte *position*.

        Raises:
            AppendPosition: the object has another length.
            ObjectNotAppendable: it was not made by appending.
        """
        request = wire_requests.append_object(at, position, headers)
        return await self._sender.call(request, wire_answers.read_appended, body)

    async def head_object(self, at: ObjectAddress) -> StoredObject:
        """HEAD Object (doc 7745). Raises ObjectNotFound."""
        return await self._sender.call(wire_requests.head_object(at), wire_answers.read_head)

    async def initiate(self, at: ObjectAddress, headers: Mapping[str, str]) -> UploadId:
        """Initiate Multipart Upload (doc 7746)."""
        return await self._sender.call(wire_requests.initiate(at, headers), wire_answers.read_upload_id)

    async def upload_part(
        self, at: ObjectAddress, upload_id: UploadId, number: int, body: PartBody, headers: Mapping[str, str]
    ) -> StoredPart:
        """Upload Part (doc 7750); returns only when COS's CRC-64 is the body's.

        Raises:
            StorageIntegrity: it was not.
            UploadLost: COS does not know the upload.
        """

        def read(response: CosResponse) -> StoredPart:
            stored = wire_answers.read_stored_part(response, number, body.size)
            _require_same_bytes(response, body, stored.crc64)
            return stored

        return await self._sender.call(wire_requests.upload_part(at, upload_id, number, headers), read, body)

    async def list_parts(
        self, at: ObjectAddress, upload_id: UploadId, *, marker: int = 0, limit: int = 1000
    ) -> PartsPage:
        """One page of List Parts (doc 7747): up to *limit* parts after number *marker*. Raises UploadLost."""

        def read(response: CosResponse) -> PartsPage:
            return wire_answers.read_parts_page(response, after=marker, limit=limit)

        return await self._sender.call(wire_requests.list_parts(at, upload_id, marker, limit), read)

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        upload_id_marker: str = "",
        limit: int = 1000,
    ) -> UploadsPage:
        """One page of List Multipart Uploads (doc 7736)."""

        def read(response: CosResponse) -> UploadsPage:
            after = (key_marker, upload_id_marker)
            return wire_answers.read_uploads_page(response, after=after, limit=limit, prefix=prefix)

        request = wire_requests.list_uploads(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            key_marker=key_marker,
            upload_id_marker=upload_id_marker,
            limit=limit,
        )
        return await self._sender.call(request, read)

    async def complete(
        self, at: ObjectAddress, upload_id: UploadId, parts: Sequence[tuple[int, ETag]], headers: Mapping[str, str]
    ) -> StoredObject:
        """Complete Multipart Upload (doc 7742), sent once; the answer may take minutes.

        Raises:
            UploadLost, PartsMissing, PartSizeMismatch: COS says no.
            StorageUnavailable: nobody knows; HEAD tells.
        """
        request = wire_requests.complete(at, upload_id, parts, headers)
        try:
            return await self._sender.call(request, wire_answers.read_completed)
        except errors.StorageBadAnswer as exc:
            raise errors.StorageUnavailable("COS's answer to Complete cannot be read", cos=exc.cos) from exc

    async def abort(self, at: ObjectAddress, upload_id: UploadId) -> None:
        """Abort Multipart Upload (doc 7740). Raises UploadLost when COS does not know the upload."""
        await self._sender.call(wire_requests.abort(at, upload_id), lambda _: None)


def _require_same_bytes(response: CosResponse, body: PartBody, stored_crc64: int | None) -> None:
    if stored_crc64 != body.crc64:
        raise errors.StorageIntegrity(
            "the CRC-64 of what COS stored is not that of what was sent",
            cos=CosAnswer(response.status, "", response.request_id),
        )
