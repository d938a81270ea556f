"""POST Object at the COS door: a browser's form with a policy, or the wx SDK's with a ``Signature`` (doc 436/14690)."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from gateway.domain.errors import BodyTimeout
from gateway.domain.parts import MAX_PUT_BYTES
from gateway.domain.task import Task
from gateway.transfer.digests import Digests
from gateway.transfer.ports import Clock
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.transfer.streamed_put import StreamedPut
from gateway.web.admission import Admission
from gateway.web.cos_answers import CosAnswer, tag, text, xml_answer
from gateway.web.cos_auth import CosAuth, policy_text
from gateway.web.cos_call import Admitted, CosCall, Operation
from gateway.web.cos_form_policy import read_form_policy
from gateway.web.cos_objects import location_of, new_object, stored_headers
from gateway.web.cos_problems import CosRefusal
from gateway.web.cos_said import check_headers, check_said
from gateway.web.cos_signed import require_fields_covered, require_in_fields
from gateway.web.form_reader import FormReader, fields_bytes, holding
from gateway.web.formdata import FormLimits
from gateway.web.request_reading import body_chunks, md5_of, ranged_size

_STATUSES: Final = {"200": 200, "201": 201}
_FILENAME: Final = "${filename}"
_LARGE_FIELD_BYTES: Final = 16 * 1024
_LARGE_FIELDS: Final = ("policy", "Policy", "Signature", "signature", "x-cos-security-token", "X-Cos-Security-Token")
_LIMITS: Final = FormLimits(
    total_bytes=64 * 1024,  # nobody knows yet who sends them
    bytes_by_field=dict.fromkeys(_LARGE_FIELDS, _LARGE_FIELD_BYTES),
)


@dataclass(frozen=True, slots=True)
class _SizeRange:
    """How many bytes the file may have, both ends included."""

    smallest: int = 0
    largest: int = MAX_PUT_BYTES

    async def watched(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """*chunks*, as long as they keep to it. Raises CosRefusal EntityTooLarge, EntityTooSmall."""
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self.largest:
                raise CosRefusal("EntityTooLarge", f"The file has more than {self.largest} bytes.")
            yield chunk
            del chunk
        if size < self.smallest:
            raise CosRefusal("EntityTooSmall", f"The file has {size} bytes, expected at least {self.smallest}.")


class FormCalls:
    """Answers POST Object: the fields decide who may store what, before a byte of the file is kept.

    Args:
        fields_seconds: how long the fields may take to come; nobody is known before.
    """

    def __init__(
        self,
        auth: CosAuth,
        admission: Admission,
        puts: StreamedPut,
        *,
        fields_seconds: float = 10.0,
        clock: Clock = time.time,
    ) -> None:
        self._auth = auth
        self._admission = admission
        self._puts = puts
        self._fields_seconds = fields_seconds
        self._clock = clock

    async def post(self, call: CosCall) -> CosAnswer:
        """POST Object."""
        check_said(Operation.POST_OBJECT, call)
        with self._admission.unproved(call.request.scope) as lease:
            content_type = call.headers.get("content-type")
            chunks, size = body_chunks(call.request), ranged_size(call.request)
            form = FormReader(content_type, chunks, _LIMITS, holding(lease), size)
            sent = await self._fields(form)
            fields = {name.lower(): value for name, value in sent.items() if value}
            fields["key"] = fields.get("key", "")
            if _FILENAME in fields["key"]:
                fields["key"] = fields["key"].replace(_FILENAME, form.file.name.for_key())
            asked = self._auth.admit_form(call, fields)
        with self._admission.memory.callers.open(asked.caller.owner) as lease:
            await lease.resize(fields_bytes(fields), WAIT_SECONDS)
            return await self._store(call, form, asked, fields)

    async def _fields(self, form: FormReader) -> dict[str, str]:
        try:
            async with asyncio.timeout(self._fields_seconds):
                return await form.fields()
        except TimeoutError:
            detail = f"The form's fields did not come within {self._fields_seconds:g} seconds."
            raise BodyTimeout(detail) from None

    async def _store(self, call: CosCall, form: FormReader, asked: Admitted, fields: dict[str, str]) -> CosAnswer:
        caller = self._admission.admit(asked.caller, call.method)
        asked.require(Operation.POST_OBJECT)
        sizes = self._sizes(asked, fields)
        _check_redirect(fields)
        require_in_fields(call.headers, fields)
        check_headers(Operation.POST_OBJECT, fields)
        headers = {**fields, "x-cos-acl": fields["acl"]} if "acl" in fields else fields
        new = new_object(asked, headers)
        self._require_covered(fields)
        said = Digests(md5_of(fields["content-md5"])) if "content-md5" in fields else Digests()
        source = sizes.watched(form.file_chunks())
        with self._admission.receiving(caller, call.request.scope):
            task = await self._puts.receive_unknown(caller, new, source, said, call.content_length)
        return _answer(asked, fields, task)

    def _require_covered(self, fields: Mapping[str, str]) -> None:
        if "policy" in fields:
            policy = read_form_policy(policy_text(fields))
            require_fields_covered(fields, (condition.name for condition in policy.conditions))

    def _sizes(self, asked: Admitted, fields: Mapping[str, str]) -> _SizeRange:
        """What the policy, if that is how the form is signed, allows; it must allow the form."""
        if "policy" not in fields:
            return _SizeRange()
        policy = read_form_policy(policy_text(fields))
        policy.check(fields, asked.place.bucket.name, self._clock())
        largest = MAX_PUT_BYTES if policy.max_size is None else policy.max_size
        return _SizeRange(policy.min_size, min(largest, MAX_PUT_BYTES))


def _answer(asked: Admitted, fields: Mapping[str, str], task: Task) -> CosAnswer:
    assert task.result is not None
    bucket, checksums = asked.place.bucket, stored_headers(task)
    location = location_of(asked)
    if target := fields.get("success_action_redirect"):
        place = urlencode({"bucket": bucket.name, "key": asked.key, "etag": task.result.etag})
        joined = f"{target}{'&' if '?' in target else '?'}{place}"
        return CosAnswer(303, (*checksums, ("Location", joined)))
    headers = (*checksums, ("Location", location))
    status = _STATUSES.get(fields.get("success_action_status", ""), 204)
    if status != 201:
        return CosAnswer(status, headers)
    rows = (("Location", location), ("Bucket", bucket.name), ("Key", asked.key), ("ETag", task.result.etag))
    return xml_answer(tag("PostResponse", *(text(*row) for row in rows)), status=201, headers=headers)


def _check_redirect(fields: Mapping[str, str]) -> None:
    """Refuse, before the file is stored, to send a browser to what is no web page."""
    target = fields.get("success_action_redirect", "https://")
    if not target.startswith(("http://", "https://")) or not (target.isascii() and target.isprintable()):
        raise CosRefusal("InvalidArgument", "success_action_redirect is not an http address.")
