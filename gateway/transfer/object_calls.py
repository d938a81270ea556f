"""Calls on whole objects that are no tasks: HEAD and APPEND."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.audit import AuditEvent, audit
from gateway.domain.errors import (
    AppendPosition,
    FileTooLarge,
    GatewayError,
    InvalidField,
    InvalidSize,
    ObjectNotFound,
    StorageBadAnswer,
    StorageSlowDown,
    StorageUnavailable,
)
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import Appended, ETag, ObjectAddress, StoredObject
from gateway.domain.parts import MAX_PUT_BYTES
from gateway.domain.picture_operations import PIC_OPERATIONS
from gateway.domain.policy import Action, Caller, Destination, Destinations
from gateway.domain.signatures import PEEK_BYTES
from gateway.domain.write_headers import headers_of_write
from gateway.transfer.digests import Digests
from gateway.transfer.engine import Engine
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.relay import pass_on_failure, release_after
from gateway.transfer.replay import IncomingBody
from gateway.transfer.typed_source import TypeLook, peek

log = logging.getLogger(__name__)

_NOT_APPENDED: Final = frozenset({FORBID_OVERWRITE, PIC_OPERATIONS})
_IN_DOUBT: Final = (StorageUnavailable, StorageBadAnswer, StorageSlowDown)
"""After these nobody knows whether COS has appended."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """The object that a caller means; ``bucket`` may be an alias, None is the first that the caller may use."""

    key: str
    bucket: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class NewAppend:
    """What a caller appends: ``length`` bytes at byte ``position``, which is the object's length so far."""

    position: int
    length: int
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ObjectCalls:
    """Looks at objects, and appends to them."""

    def __init__(self, engine: Engine, destinations: Destinations) -> None:
        self._engine = engine
        self._destinations = destinations

    async def head(self, caller: Caller, name: ObjectName) -> StoredObject:
        """HEAD Object (doc 7745). Raises ObjectNotFound, KeyNotAllowed, Forbidden, RateLimited."""
        place = self._place(caller, name, Action.HEAD)
        self._engine.costs.look(caller.owner)
        return await self._engine.objects.head_object(ObjectAddress(place.bucket, name.key))

    async def append(
        self, caller: Caller, name: ObjectName, new: NewAppend, source: AsyncIterator[bytes], said: Digests
    ) -> Appended:
        """APPEND Object (doc 7741), sent once: after a failure that leaves doubt, the object's length decides.

        Raises:
            AppendPosition: the object has another length; ``expected`` tells it.
            ObjectNotAppendable: it was not made by appending.
            StorageUnavailable: nothing was appended.
        """
        place = self._place(caller, name, Action.APPEND)
        caller.check_type(place, new.content_type)
        at = ObjectAddress(place.bucket, name.key)
        caller.check_size(new.position + new.length)
        if new.position + new.length > MAX_PUT_BYTES:
            raise FileTooLarge(f"An appended object has at most {MAX_PUT_BYTES} bytes.", expected=MAX_PUT_BYTES)
        if not new.headers.keys().isdisjoint(_NOT_APPENDED):
            raise InvalidField("An append replaces nothing and makes nothing of a picture: it takes neither option.")
        headers = headers_of_write(caller, place, name.key, new.headers)
        headers.pop(FORBID_OVERWRITE, None)  # whoever may not overwrite may append: nothing that stands is lost
        if place.types is not None and new.position < PEEK_BYTES:
            source, shown = await self._looked_at(TypeLook(caller, place, new.content_type), new, source)
            headers.update(shown)
        return await self._relay(at, caller.owner, replace(new, headers=headers), source, said)

    async def _looked_at(
        self, look: TypeLook, new: NewAppend, source: AsyncIterator[bytes]
    ) -> tuple[AsyncIterator[bytes], Mapping[str, str]]:
        """*source*, whose first bytes are the object's, and the header that puts its type right.

        What is appended later cannot be judged together with what COS has already: the first append brings all.
        """
        if new.position or new.length < PEEK_BYTES:
            raise InvalidSize(
                f"The bucket looks at its files: the first append has at least {PEEK_BYTES} bytes.", expected=PEEK_BYTES
            )
        head, source = await peek(source)
        look.judge(head)
        return source, look.headers

    def _place(self, caller: Caller, name: ObjectName, action: Action) -> Destination:
        caller.require(action)
        place = self._destinations.find(caller.policy, name.bucket, name.region)
        caller.check_key(place, name.key)
        return place

    async def _relay(
        self, at: ObjectAddress, owner: str, new: NewAppend, source: AsyncIterator[bytes], said: Digests
    ) -> Appended:
        """Send the body as it comes; with budget it is kept, so that a corrected signature needs no second request."""
        lease = self._engine.budget.try_take(new.length, owner)
        body = IncomingBody(new.length, replayable=lease is not None, expected_crc64=said.crc64)
        headers = dict(new.headers) if said.md5_base64 is None else {**new.headers, "content-md5": said.md5_base64}
        appending = self._engine.owned.start(self._append(at, new.position, body, headers), "append")
        release_after(appending, body, lease)
        try:
            async with Interrupt() as interrupt:
                appending.add_done_callback(lambda done: pass_on_failure(done, interrupt))
                await body.pump(source)
            return await asyncio.shield(appending)
        except BaseException as error:
            body.fail(error)
            raise

    async def _append(
        self, at: ObjectAddress, position: int, body: IncomingBody, headers: Mapping[str, str]
    ) -> Appended:
        done = await self._appended(at, position, body, headers)
        audit(AuditEvent.APPEND, bucket=at.bucket.name, position=position, size=body.size)
        return done

    async def _appended(
        self, at: ObjectAddress, position: int, body: IncomingBody, headers: Mapping[str, str]
    ) -> Appended:
        try:
            done = await self._engine.objects.append_object(at, position, body, headers)
        except AppendPosition as refused:
            size = (await self._found(at)).size
            raise AppendPosition(f"The object has {size} bytes.", cos=refused.cos, expected=size) from refused
        except _IN_DOUBT as error:
            log.warning("an append is in doubt: %s", error.code)
            return await self._settled(at, position, body, error)
        return replace(done, etag=_quoted(done.etag))

    async def _settled(self, at: ObjectAddress, position: int, body: IncomingBody, doubt: GatewayError) -> Appended:
        """What became of an append whose answer was lost. Raises StorageUnavailable when nothing did."""
        found = await self._found(at)
        size = found.size or 0
        whole = position or found.crc64 in (None, body.crc64)
        if body.whole and body.size and size == position + body.size and whole:
            return Appended(size, found.etag, found.crc64, found.headers)
        if size == position:
            raise StorageUnavailable(
                "COS did not append; send the body again.",
                cos=doubt.cos,
                retry_after_seconds=doubt.retry_after_seconds,
            ) from doubt
        raise AppendPosition(f"The object has {size} bytes.", cos=doubt.cos, expected=size) from doubt

    async def _found(self, at: ObjectAddress) -> StoredObject:
        """The object as it stands; one that does not exist has no bytes."""
        try:
            return await self._engine.objects.head_object(at)
        except ObjectNotFound:
            return StoredObject(ETag(""), None, None, size=0)


def _quoted(etag: ETag | None) -> ETag | None:
    """COS's ETag as everywhere else: after an append it may come without quotes."""
    return etag if etag is None or etag.startswith('"') else ETag(f'"{etag}"')
