"""Single objects at the COS door: PUT, APPEND and HEAD."""

from collections.abc import Mapping
from typing import Final

from gateway.transfer.object_calls import NewAppend, ObjectCalls, ObjectName
from gateway.transfer.streamed_put import StreamedPut
from gateway.web.cos_answers import CosAnswer, Header, xml_answer
from gateway.web.cos_call import Admitted, Handler, Operation
from gateway.web.cos_objects import new_object, stored_headers
from gateway.web.cos_pictures import upload_result
from gateway.web.cos_problems import CosRefusal
from gateway.web.request_reading import body_chunks, digests

_NOT_ECHOED: Final = frozenset({"x-cos-request-id", "x-cos-trace-id", "etag"})
_APPEND_HEADERS: Final = ("ETag", "x-cos-content-sha1", "x-cos-hash-crc64ecma", "x-cos-version-id")
_POSITION_DIGITS_MOST: Final = 16


class SingleCalls:
    """PUT Object, APPEND Object and HEAD Object."""

    def __init__(self, puts: StreamedPut, objects: ObjectCalls) -> None:
        self._puts = puts
        self._objects = objects

    def handlers(self) -> Mapping[Operation, Handler]:
        """Who answers which operation."""
        return {
            Operation.PUT_OBJECT: self.put,
            Operation.APPEND_OBJECT: self.append,
            Operation.HEAD_OBJECT: self.head,
        }

    async def put(self, asked: Admitted) -> CosAnswer:
        """PUT Object, doc 7749, with its length or chunked."""
        call = asked.call
        new = new_object(asked, call.headers)
        source, said, length = body_chunks(call.request), digests(call.request), call.content_length
        if length is not None:
            task = await self._puts.receive(asked.caller, new, length, source, said)
        elif "transfer-encoding" in call.headers:
            task = await self._puts.receive_unknown(asked.caller, new, source, said, None)
        else:
            raise CosRefusal("MissingContentLength", "The body has no Content-Length.")
        assert task.result is not None
        if task.result.processed is not None:
            return xml_answer(upload_result(task.result.processed), headers=stored_headers(task))
        return CosAnswer(200, stored_headers(task))

    async def append(self, asked: Admitted) -> CosAnswer:
        """APPEND Object, doc 7741."""
        call = asked.call
        position, length = call.query.get("position", ""), call.content_length
        if not (position.isascii() and position.isdecimal() and len(position) <= _POSITION_DIGITS_MOST):
            raise CosRefusal("InvalidArgument", "The position is not a number.")
        if length is None:
            raise CosRefusal("MissingContentLength", "What is appended has a Content-Length.")
        new = new_object(asked, call.headers)
        appended = await self._objects.append(
            asked.caller,
            ObjectName(asked.key, asked.place.alias),
            NewAppend(int(position), length, new.content_type, {**new.object_headers, **new.part_headers}),
            body_chunks(call.request),
            digests(call.request),
        )
        told = appended.headers
        as_cos_says = tuple((name, told[name.lower()]) for name in _APPEND_HEADERS if name.lower() in told)
        return CosAnswer(200, (*as_cos_says, ("x-cos-next-append-position", str(appended.next_position))))

    async def head(self, asked: Admitted) -> CosAnswer:
        """HEAD Object, doc 7745."""
        stored = await self._objects.head(asked.caller, ObjectName(asked.key, asked.place.alias))
        return CosAnswer(200, (("ETag", stored.etag), *_spelled(stored.headers)))


def _spelled(headers: Mapping[str, str]) -> tuple[Header, ...]:
    """Lower-case *headers* as COS spells them, without its own ids of the request."""
    return tuple(
        (name if name.startswith("x-cos-") else name.title(), value)
        for name, value in headers.items()
        if name not in _NOT_ECHOED
    )
