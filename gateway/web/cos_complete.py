"""Complete Multipart Upload at the COS door: the list of parts that it takes, and a verdict that may come late."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from itertools import islice, pairwise
from typing import Final

from gateway.audit import note_refusal
from gateway.cos.xml_tree import Unreadable, XmlElement, XmlReader
from gateway.domain.errors import GatewayError, TaskInError
from gateway.domain.objects import ETag
from gateway.domain.parts import MAX_PART_COUNT
from gateway.domain.policy import Action
from gateway.domain.task import Task, TaskId, TaskState
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.transfer.control import Control
from gateway.web.cos_answers import DECLARATION, XML_TYPE, CosAnswer, error_element, tag, text
from gateway.web.cos_call import Admitted, CosCall
from gateway.web.cos_objects import location_of
from gateway.web.cos_pictures import complete_rows
from gateway.web.cos_problems import CosRefusal, refusal_of
from gateway.web.kept_body import LISTED_PART_BYTES, KeptBody
from gateway.web.problems import current_request_id
from gateway.web.request_reading import digests
from gateway.web.slices import in_slices

SPACE_SECONDS: Final = 2.0
"""How often a client that waits for the merge is sent a space."""
MAX_LIST_BYTES: Final = 3 << 19
"""10,000 parts as the SDKs write them are 1.2 MiB."""
_STEP_BYTES: Final = 64 << 10
"""What is parsed in a millisecond or two."""
_COPIES: Final = 2
_WIDE_COPIES: Final = 8
"""A text with one character beyond ASCII may take four bytes for each of its characters."""
_BYTES_A_TAG: Final = 112
_BYTES_AN_ATTRIBUTE: Final = 400
_MAX_ATTRIBUTES: Final = 100
"""A list needs none but its namespace."""
_NAMESPACE: Final = "http://www.qcloud.com/document/product/436/7751"


async def read_list(call: CosCall, kept: KeptBody) -> tuple[ClaimedPart, ...]:
    """The parts that a Complete lists; *kept*, the body of *call*, holds memory for them.

    Raises:
        CosRefusal: XMLSizeLimit, BadDigest, MalformedXML, InvalidPartOrder.
        Overloaded, RateLimited: there is no memory for it, or the caller has spent too much.
    """
    said = digests(call.request)
    body = await kept.read(MAX_LIST_BYTES, _too_large)
    if body.count(b"=") > MAX_PART_COUNT + _MAX_ATTRIBUTES:  # an ETag may hold one
        raise CosRefusal("MalformedXML", "The list of parts is not the XML that it must be.")
    await kept.hold(read_bytes(body))
    md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    if said.md5_base64 not in (None, md5):
        raise CosRefusal("BadDigest", "The Content-MD5 you specified did not match what was received.")
    async with kept.parsing(len(body)):
        parts = await _parts(body)
    if not 1 <= len(parts) <= MAX_PART_COUNT:
        raise CosRefusal("MalformedXML", f"The list has no parts, or more than {MAX_PART_COUNT}.")
    if any(after.number <= before.number for before, after in pairwise(parts)):
        raise CosRefusal("InvalidPartOrder", "The list of parts was not in ascending order.")
    await kept.hold(LISTED_PART_BYTES * len(parts))
    return tuple(parts)


async def _parts(content: bytes) -> list[ClaimedPart]:
    """The rows of the list *content*, 10,001 at most; other requests have turns in between."""
    try:
        reader = XmlReader(content)
        while reader.step(_STEP_BYTES):  # noqa: ASYNC110 -- others have a turn, nothing is waited for
            await asyncio.sleep(0)
        tree = reader.root()
    except Unreadable:
        raise CosRefusal("MalformedXML", "The list of parts is not the XML that it must be.") from None
    rows = list(islice(tree.all("Part"), MAX_PART_COUNT + 1))
    return [_part(row) async for some in in_slices(rows) for row in some]


def _too_large() -> CosRefusal:
    return CosRefusal("XMLSizeLimit", f"The list of parts has more than {MAX_LIST_BYTES} bytes.")


def read_bytes(body: bytes) -> int:
    """What *body* and the tree that it spells take together, at most."""
    return (
        (_COPIES if body.isascii() else _WIDE_COPIES) * len(body)
        + _BYTES_A_TAG * body.count(b"<")
        + _BYTES_AN_ATTRIBUTE * body.count(b"=")
    )


def _part(row: XmlElement) -> ClaimedPart:
    number, etag = (row.text_of("PartNumber") or "").strip(), (row.text_of("ETag") or "").strip().strip('"')
    if not (number.isascii() and number.isdecimal() and len(number) < 7 and etag):
        raise CosRefusal("MalformedXML", "A part of the list has no number or no ETag.")
    return ClaimedPart(int(number), ETag(f'"{etag}"'))


def completed_element(asked: Admitted, task: Task) -> str:
    """The result of a task in ``success``."""
    assert task.result is not None
    return tag(
        "CompleteMultipartUploadResult",
        text("Location", location_of(asked)),
        text("Bucket", asked.place.bucket.name),
        text("Key", asked.key),
        text("ETag", task.result.etag),
        *complete_rows(task.result.processed),
        namespace=_NAMESPACE,
    )


class LateVerdict:
    """The body of an answer that began before the verdict: the XML declaration, spaces, then the result or an Error.

    The declaration comes first because Tencent's Python SDK fails on spaces before it.
    """

    def __init__(self, control: Control, asked: Admitted, task_id: TaskId, wanted: CompleteWanted) -> None:
        self._control = control
        self._asked = asked
        self._task_id = task_id
        self._wanted = wanted

    def answer(self, on_end: Callable[[], None]) -> CosAnswer:
        """200, whatever comes of it; *on_end* is called when it is over."""
        return CosAnswer(200, (XML_TYPE,), self._body(), on_end=on_end)

    async def _body(self) -> AsyncIterator[bytes]:
        yield DECLARATION
        verdict = asyncio.create_task(self._verdict())
        try:
            while not (await asyncio.wait({verdict}, timeout=SPACE_SECONDS))[0]:
                yield b" "
            yield self._told(verdict.result()).encode()
        finally:
            verdict.cancel()

    async def _verdict(self) -> str | GatewayError:
        asked, task_id = self._asked, self._task_id
        try:
            while True:
                task = await self._control.complete(asked.caller, task_id, self._wanted)
                if task.state is TaskState.SUCCESS:
                    return completed_element(asked, task)
        except TaskInError as late:  # it failed between two looks: the task tells why
            failed = await self._control.get(asked.caller, task_id, Action.COMPLETE)
            return failed.error.as_exception() if failed.error is not None else late
        except GatewayError as error:
            return error

    def _told(self, verdict: str | GatewayError) -> str:
        if isinstance(verdict, str):
            return verdict
        note_refusal(verdict)
        resource = location_of(self._asked).removeprefix("http://")
        return error_element(refusal_of(verdict), resource=resource, request_id=current_request_id())
