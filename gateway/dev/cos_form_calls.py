"""POST Object: a browser's form, or wx.uploadFile's, as one object (doc 436/14690)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from gateway.dev.cos_answers import Answer, Header, Refusal, tag, text, xml_answer
from gateway.dev.cos_auth import KeyRing
from gateway.dev.cos_calls import Call, check_key
from gateway.dev.cos_form_reader import FormReader
from gateway.dev.cos_metadata import (
    MAX_PUT_BYTES,
    check_traffic_limit,
    checksum_headers,
    content_md5,
    forbids_overwrite,
    quoted,
    read_metadata,
)
from gateway.dev.cos_object_calls import refuse_overwrite
from gateway.dev.cos_objects import LocalObject, ObjectDisk
from gateway.dev.cos_policy import check_policy, read_policy
from gateway.dev.cos_said import check_fields

_STATUSES: Final = {"200": 200, "201": 201}


@dataclass(frozen=True, slots=True)
class SizeRange:
    """How many bytes the file may have, both ends included."""

    smallest: int = 0
    largest: int = MAX_PUT_BYTES


class FormCalls:
    """Answers POST Object: the fields decide who may store what, before a byte of the file is kept."""

    def __init__(self, disk: ObjectDisk, key_ring: KeyRing) -> None:
        self._disk = disk
        self._key_ring = key_ring

    async def post(self, form_call: Call) -> Answer:
        form = FormReader(form_call.headers.get("content-type", ""), form_call.body)
        filename = await form.read_fields()
        fields = {**form.fields, "key": form.fields.get("key", "").replace("${filename}", filename)}
        sizes = self._check(form_call, fields)
        check_key(fields["key"])
        call = replace(form_call, key=fields["key"])
        headers = {**fields, "x-cos-acl": fields["acl"]} if "acl" in fields else fields
        check_fields(name for name, value in fields.items() if value)
        metadata = read_metadata({name: value for name, value in headers.items() if value})
        check_traffic_limit(fields)
        expected = content_md5({name: value for name, value in fields.items() if value})
        if forbids_overwrite(fields):
            refuse_overwrite(self._disk, call)
        with self._disk.receive() as body:
            async for chunk in form.file():
                body.write(chunk)
                if body.size > sizes.largest:
                    raise Refusal("EntityTooLarge", f"The file has more than {sizes.largest} bytes.")
            if body.size < sizes.smallest:
                raise Refusal("EntityTooSmall", f"The file has {body.size} of at least {sizes.smallest} bytes.")
            if expected not in (None, body.md5):
                raise Refusal("BadDigest", "The Content-MD5 you specified did not match what was received.")
            etag = body.md5.hex()
            self._disk.put(
                call.bucket.name, body, LocalObject(call.key, "", body.size, etag, body.crc64, call.now, metadata)
            )
        return _answer(call, fields, etag, checksum_headers(etag, body.crc64))

    def _check(self, call: Call, fields: Mapping[str, str]) -> SizeRange:
        """Who sent the form, and whether its policy, if that is how it is signed, lets it in."""
        if "policy" in fields:
            policy = read_policy(fields["policy"])
            self._key_ring.check_policy_signature(fields, policy.text, call.now)
            check_policy(policy, fields, call.bucket.name, call.now)
            largest = MAX_PUT_BYTES if policy.max_size is None else policy.max_size
            return SizeRange(policy.min_size, min(largest, MAX_PUT_BYTES))
        if "signature" in fields:
            self._key_ring.check_form_signature(call, fields)
            return SizeRange()
        raise Refusal("AccessDenied", "Access Denied.")


def _answer(call: Call, fields: Mapping[str, str], etag: str, checksums: tuple[Header, ...]) -> Answer:
    headers = (*checksums, ("Location", call.location))
    if target := fields.get("success_action_redirect"):
        place = urlencode({"bucket": call.bucket.name, "key": call.key, "etag": quoted(etag)})
        joined = f"{target}{'&' if '?' in target else '?'}{place}"
        return Answer(303, (*checksums, ("Location", joined)))
    status = _STATUSES.get(fields.get("success_action_status", ""), 204)
    if status != 201:
        return Answer(status, headers)
    rows = (("Location", call.location), ("Bucket", call.bucket.name), ("Key", call.key), ("ETag", quoted(etag)))
    return xml_answer(tag("PostResponse", *(text(*row) for row in rows)), status=201, headers=headers)
