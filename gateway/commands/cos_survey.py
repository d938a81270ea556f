"""Looks at COS: does each bucket answer, are the keys good, is the clock right, is every right there?"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.commands.cos_visit import CosVisit
from gateway.commands.findings import LOOK_SECONDS, Finding, problem, warning
from gateway.config_values import BucketSetting
from gateway.cos import wire_answers, wire_requests
from gateway.cos.exchange import AttemptFailed
from gateway.cos.wire_answers import CosResponse
from gateway.cos.wire_errors import CosRefusal
from gateway.cos.wire_requests import CosRequest
from gateway.domain.errors import CredentialsUnavailable, GatewayError
from gateway.domain.objects import Bucket, ETag, ObjectAddress, UploadId

_CLOCK: Final = "clock"
_WRONG_SECONDS: Final = 300.0
"""Beyond this the gateway does not start: bearer tokens are judged by this clock, with 30 s of grace."""
_OFF_SECONDS: Final = 30.0
_CONTENT: Final = b"The upload gateway's doctor wrote this.\n"
_KEY: Final = ".upload-gateway-doctor"

_Look = Callable[[CosVisit, BucketSetting], Awaitable[Finding]]


async def look_at_cos(visit: CosVisit, places: Sequence[BucketSetting]) -> list[Finding]:
    """List the open uploads of each bucket, which changes nothing, and compare the clocks."""
    each = [await _bounded(_looked, visit, place) for place in places]
    return [*each, *clock(visit.offset_seconds)]


async def try_rights(visit: CosVisit, places: Sequence[BucketSetting]) -> list[Finding]:
    """Do in each bucket what the gateway does for its callers, with a small object that is deleted in the end."""
    return [await _bounded(_tried, visit, place) for place in places]


def clock(offset_seconds: float | None) -> list[Finding]:
    """What a difference of *offset_seconds* to COS's clock means; nothing is known where COS did not answer."""
    if offset_seconds is None:
        return []
    ours = "behind" if offset_seconds > 0 else "ahead of"
    said = f"this machine is {abs(offset_seconds):.0f} s {ours} COS"
    if abs(offset_seconds) > _WRONG_SECONDS:
        return [problem(_CLOCK, f"{said}: set it by NTP; tokens and signatures depend on it.")]
    if abs(offset_seconds) > _OFF_SECONDS:
        return [warning(_CLOCK, f"{said}: set it by NTP.")]
    return [Finding(_CLOCK, f"within {_OFF_SECONDS:.0f} s of COS")]


class _Refused(Exception):
    """COS said no to what needs *right*."""

    def __init__(self, refusal: CosRefusal, right: str) -> None:
        super().__init__(right)
        self.refusal = refusal
        self.right = right


async def _bounded(look: _Look, visit: CosVisit, place: BucketSetting) -> Finding:
    """What *look* finds, or why it found nothing; within 10 s."""
    about, bucket = f"cos {place.alias}", _bucket(place)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await look(visit, place)
    except AttemptFailed as failed:
        text, passing = visit.no_answer(bucket, failed)
        return problem(about, text, passing=passing)
    except TimeoutError:
        return problem(about, f"{visit.where(bucket)} takes too long: look at the network.", passing=True)
    except CredentialsUnavailable as error:
        return problem(about, visit.no_keys(error.__cause__))
    except GatewayError as error:
        return warning(about, f"{visit.where(bucket)} gives an answer that is not COS's ({error.code}): is it COS?")
    except _Refused as refused:
        return _denied(visit, place, refused)


def _denied(visit: CosVisit, place: BucketSetting, refused: _Refused) -> Finding:
    about, said = f"cos {place.alias}", refused.refusal.code or str(refused.refusal.status)
    found = visit.meaning(_bucket(place), refused.refusal)
    if found is not None:
        text, passing = found
        return problem(about, f"{text}.", passing=passing)
    if refused.right == "ListMultipartUploads" and not refused.refusal.code:  # where COS always says why
        return problem(about, f"{visit.where(_bucket(place))} answers {said} as COS does not: mend the address.")
    grant = f"grant name/cos:{refused.right} on {place.name}/{place.prefix}*"
    if refused.right == "ListMultipartUploads":
        return warning(about, f"the COS keys may not list uploads ({said}), so none is swept: {grant}.")
    return problem(about, f"the COS keys may not do {refused.right} ({said}): {grant}.")


async def _looked(visit: CosVisit, place: BucketSetting) -> Finding:
    await _listed(visit, place)
    return Finding(f"cos {place.alias}", f"{place.name} in {place.region} takes the keys")


async def _tried(visit: CosVisit, place: BucketSetting) -> Finding:
    """Every right in turn: one PUT, an upload that is completed, one that is aborted, then away with the object."""
    about, at = f"cos {place.alias}", ObjectAddress(_bucket(place), place.prefix + _KEY)
    await _listed(visit, place)
    await _done(visit, "PutObject", _with(wire_requests.put_object(at, {}), _CONTENT))
    try:
        await _done(visit, "HeadObject", wire_requests.head_object(at))
        await _uploaded(visit, at)
        upload_id = await _opened(visit, at)
        await _done(visit, "AbortMultipartUpload", wire_requests.abort(at, upload_id))
        read = await _optional(visit, CosRequest("get_object", "GET", at.bucket, "/" + at.key))
    finally:
        deleted = await _optional(visit, CosRequest("delete_object", "DELETE", at.bucket, "/" + at.key))
    if read is not None and read.body != _CONTENT:
        return problem(about, f"{at.key} holds other bytes than were written: suspect the network.")
    if deleted is None:
        kept = f"{at.key} stays, since the keys may not delete, which the gateway does not need"
        return Finding(about, f"{place.name} writes, completes and aborts; {kept}")
    return Finding(about, f"{place.name} writes, reads, completes, aborts and deletes")


async def _listed(visit: CosVisit, place: BucketSetting) -> None:
    request = wire_requests.list_uploads(
        _bucket(place), prefix=place.prefix, delimiter="", key_marker="", upload_id_marker="", limit=1
    )
    answer = await _done(visit, "ListMultipartUploads", request)
    wire_answers.read_uploads_page(answer, after=("", ""), limit=1, prefix=place.prefix)


async def _opened(visit: CosVisit, at: ObjectAddress) -> UploadId:
    return wire_answers.read_upload_id(await _done(visit, "InitiateMultipartUpload", wire_requests.initiate(at, {})))


async def _uploaded(visit: CosVisit, at: ObjectAddress) -> None:
    upload_id = await _opened(visit, at)
    part = await _done(visit, "UploadPart", _with(wire_requests.upload_part(at, upload_id, 1, {}), _CONTENT))
    await _done(visit, "ListParts", wire_requests.list_parts(at, upload_id, 0, 1))
    parts = [(1, ETag(part.headers.get("etag", "")))]
    answer = await _done(visit, "CompleteMultipartUpload", wire_requests.complete(at, upload_id, parts, {}))
    wire_answers.read_completed(answer)


async def _done(visit: CosVisit, right: str, request: CosRequest) -> CosResponse:
    answer = await visit.ask(request)
    refusal = answer.refusal()
    if refusal is not None:
        raise _Refused(refusal, right)
    return answer


async def _optional(visit: CosVisit, request: CosRequest) -> CosResponse | None:
    """The answer to what the gateway itself never asks for; None when it was refused."""
    answer = await visit.ask(request)
    return None if answer.refusal() is not None else answer


def _with(request: CosRequest, content: bytes) -> CosRequest:
    return replace(request, content=content)


def _bucket(place: BucketSetting) -> Bucket:
    return Bucket(place.name, place.region)
