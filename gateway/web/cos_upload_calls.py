"""Multipart uploads at the COS door: each operation is a move of the task that its UploadId names."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Final

from gateway.domain.errors import TaskInError, TaskNotFound, UploadLost
from gateway.domain.object_headers import acts_on_cos, headers_as_sent
from gateway.domain.objects import StoredPart, UploadId
from gateway.domain.parts import MAX_PART_COUNT
from gateway.domain.policy import Action
from gateway.domain.task import Task, TaskId, TaskState
from gateway.telemetry import TASK_ID
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.control import Control
from gateway.transfer.relay import PartConditions, PartRelay
from gateway.transfer.uploads import Uploads
from gateway.web.admission import Admission
from gateway.web.cos_answers import CosAnswer, tag, text, xml_answer
from gateway.web.cos_backoff import Backoff
from gateway.web.cos_call import Admitted, Handler, Operation
from gateway.web.cos_complete import LateVerdict, completed_element, read_list
from gateway.web.cos_objects import checksum_headers, new_object, stored_headers, traffic_headers
from gateway.web.cos_problems import CosRefusal
from gateway.web.request_reading import body_chunks, digests

_COMPLETION: Final = 0
"""The completion's place among the parts that the back-off knows."""
_FOUND_SECONDS: Final = 60.0
_FOUND_COUNT: Final = 4096


class KnownUploads:
    """Which task opened which of the uploads found of late: it never changes, and asking costs two calls a part."""

    def __init__(self) -> None:
        self._found: OrderedDict[UploadId, tuple[TaskId, float]] = OrderedDict()

    def get(self, upload_id: UploadId) -> TaskId | None:
        """The task, if it was added within the last minute. Who may use it is still to be checked."""
        task_id, until = self._found.get(upload_id, (None, 0.0))
        return task_id if time.monotonic() < until else None

    def add(self, upload_id: UploadId, task_id: TaskId) -> None:
        """Remember *task_id*; of more than 4,096 the oldest are forgotten."""
        self._found[upload_id] = task_id, time.monotonic() + _FOUND_SECONDS
        self._found.move_to_end(upload_id)
        if len(self._found) > _FOUND_COUNT:
            self._found.popitem(last=False)


class UploadCalls:
    """Initiate, Upload Part, Complete and Abort."""

    def __init__(
        self, admission: Admission, control: Control, uploads: Uploads, parts: PartRelay, backoff: Backoff
    ) -> None:
        self._admission = admission
        self._control = control
        self._uploads = uploads
        self._parts = parts
        self._backoff = backoff
        self._known = KnownUploads()

    def handlers(self) -> Mapping[Operation, Handler]:
        """Who answers which operation."""
        return {
            Operation.INITIATE_UPLOAD: self.initiate,
            Operation.UPLOAD_PART: self.put_part,
            Operation.COMPLETE_UPLOAD: self.complete,
            Operation.ABORT_UPLOAD: self.abort,
        }

    async def initiate(self, asked: Admitted) -> CosAnswer:
        """Initiate Multipart Upload, doc 7746: a task whose size shows at its end."""
        task = await self._control.create(asked.caller, new_object(asked, asked.call.headers))
        TASK_ID.set(task.id)
        assert task.upload_id is not None
        names = (text("Bucket", asked.place.bucket.name), text("Key", asked.key), text("UploadId", task.upload_id))
        return xml_answer(tag("InitiateMultipartUploadResult", *names))

    async def put_part(self, asked: Admitted) -> CosAnswer:
        """Upload Part, doc 7750."""
        number = _part_number(asked.call.query)
        headers = traffic_headers(asked, asked.call.headers)
        length = asked.call.content_length
        if length is None:
            raise CosRefusal("MissingContentLength", "A part is sent with a Content-Length.")
        body = _Body(body_chunks(asked.call.request))
        if (known := self._known.get(_upload_id(asked))) is not None:
            try:
                return _stored(await self._receive(asked, known, number, length, headers, body))
            except (TaskInError, TaskNotFound, UploadLost):
                if body.begun:
                    raise
        task = await self._found(asked, Action.UPLOAD)
        self._known.add(_upload_id(asked), task.id)
        return _stored(await self._receive(asked, task.id, number, length, headers, body))

    async def _receive(
        self, asked: Admitted, task_id: TaskId, number: int, length: int, headers: Mapping[str, str], body: "_Body"
    ) -> StoredPart:
        TASK_ID.set(task_id)
        async with self._backoff.turn(task_id, number):
            return await self._parts.receive_part(
                asked.caller,
                task_id,
                number,
                length,
                body,
                digests=digests(asked.call.request),
                conditions=PartConditions(),
                headers=headers,
                upload=(asked.at, _upload_id(asked)),
            )

    async def complete(self, asked: Admitted) -> CosAnswer:
        """Complete Multipart Upload, doc 7742.

        A verdict within the waiting time has a status of its own; a later one is the end of a body that began with 200,
        as COS's own always is.
        """
        with ExitStack() as held:
            kept = held.enter_context(self._admission.keeping(asked.caller, asked.call.request))
            task = await self._found(asked, Action.COMPLETE)  # no list is read for an upload that is not theirs
            acting = {name: value for name, value in asked.call.headers.items() if acts_on_cos(name)}
            wanted = CompleteWanted(parts=await read_list(asked.call, kept), headers=headers_as_sent(acting))
            async with self._backoff.turn(task.id, _COMPLETION):
                task = await self._control.complete(asked.caller, task.id, wanted)
            if task.state is TaskState.SUCCESS:
                _, *others = stored_headers(task)  # the ETag stands in the body alone
                return xml_answer(completed_element(asked, task), headers=others)
            return LateVerdict(self._control, asked, task.id, wanted).answer(held.pop_all().close)

    async def abort(self, asked: Admitted) -> CosAnswer:
        """Abort Multipart Upload, doc 7740: a cancel of the task, which leaves no part behind."""
        task = await self._uploads.find(asked.caller, asked.place, asked.key, _upload_id(asked), Action.CONTROL)
        TASK_ID.set(task.id)
        if task.is_final:
            raise UploadLost("No upload of this id is open here.")
        await self._control.cancel(asked.caller, task.id, None)
        return CosAnswer(204)

    async def _found(self, asked: Admitted, action: Action) -> Task:
        task = await self._uploads.find_open(asked.caller, asked.place, asked.key, _upload_id(asked), action)
        TASK_ID.set(task.id)
        return task


class _Body:
    """A request's body, which can be asked for again as long as it has not ``begun``."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.begun = True
        return await anext(self._chunks)


def _stored(part: StoredPart) -> CosAnswer:
    return CosAnswer(200, checksum_headers(part.etag, part.crc64))


def _upload_id(asked: Admitted) -> UploadId:
    return UploadId(asked.call.query.get("uploadId", ""))


def _part_number(query: Mapping[str, str]) -> int:
    number = query.get("partNumber", "")
    in_range = number.isascii() and number.isdecimal() and len(number) < 7 and 1 <= int(number) <= MAX_PART_COUNT
    if not in_range or not query.get("uploadId"):
        raise CosRefusal("InvalidArgument", f"partNumber is 1 to {MAX_PART_COUNT}, with an uploadId.")
    return int(number)
