"""``/v1/uploads``: COS's List Multipart Uploads and List Parts, of the caller's own uploads, and their end."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.cos.signing import encode
from gateway.domain.errors import BadQuery, InvalidKey, TaskNotFound, UploadLost
from gateway.domain.objects import ObjectAddress, OpenUpload, PartsPage, Person, UploadId, UploadsPage
from gateway.domain.policy import Action, Caller, Destination, Destinations
from gateway.telemetry import TASK_ID
from gateway.transfer.control import Control
from gateway.transfer.uploads import MAX_LIST, Uploads, UploadsQuery
from gateway.web.admission import Admission
from gateway.web.json_answers import JsonAnswer
from gateway.web.request_reading import NO_XML, limit_of, part_number, query_parameters
from gateway.web.task_document import TaskDocuments, part_document

_PLACE: Final = frozenset({"bucket", "region"})
LIST_PARAMETERS: Final = _PLACE | {
    *("prefix", "delimiter", "encoding_type", "limit", "max_uploads", "cursor", "key_marker", "upload_id_marker")
}
PARTS_PARAMETERS: Final = _PLACE | {"key", "encoding_type", "limit", "max_parts", "cursor", "part_number_marker"}
_MAX_TEXT: Final = 1024

Document = dict[str, Any]
Spell = Callable[[str], str]


class UploadRoutes:
    """Translates; whose an upload is, its task says."""

    def __init__(
        self,
        admission: Admission,
        uploads: Uploads,
        control: Control,
        documents: TaskDocuments,
        destinations: Destinations,
    ) -> None:
        self._admission = admission
        self._uploads = uploads
        self._control = control
        self._documents = documents
        self._destinations = destinations

    def routes(self) -> list[Route]:
        """The three routes of uploads."""
        return [
            Route("/v1/uploads", self.list, methods=["GET"]),
            Route("/v1/uploads/{upload_id}/parts", self.list_parts, methods=["GET"]),
            Route("/v1/uploads/{upload_id}", self.abort, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, LIST_PARAMETERS)
        spell = _spelling(query)
        place = self._destinations.find(caller.policy, query.get("bucket"), query.get("region"))
        wanted = _uploads_query(query)
        page = await self._uploads.list(caller, place, wanted)
        return JsonAnswer(uploads_document(place.bucket.name, wanted, page, spell))

    async def list_parts(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, PARTS_PARAMETERS)
        spell = _spelling(query)
        place, key, upload_id = self._named(request, caller, query)
        after = query.get("cursor", query.get("part_number_marker", "0"))
        try:
            page = await self._uploads.parts(
                caller,
                place,
                key,
                upload_id,
                marker=0 if after == "0" else part_number(after),
                limit=_limit(query, "max_parts"),
            )
        except UploadLost as lost:
            raise _not_found(lost) from None
        return JsonAnswer(upload_parts_document(ObjectAddress(place.bucket, key), upload_id, page, spell))

    async def abort(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, _PLACE | {"key"})
        place, key, upload_id = self._named(request, caller, query)
        try:
            task = await self._uploads.find(caller, place, key, upload_id, Action.CONTROL)
        except UploadLost as lost:
            raise _not_found(lost) from None
        TASK_ID.set(task.id)
        task = await self._control.cancel(caller, task.id, None)
        return JsonAnswer(self._documents.of(task), headers={"ETag": f'"{task.version}"'})

    def _named(self, request: Request, caller: Caller, query: dict[str, str]) -> tuple[Destination, str, UploadId]:
        """The upload that a request is about: COS knows one by its bucket, key and id together."""
        if "key" not in query:
            raise InvalidKey("An upload is named by its id and, in the query, its key.")
        place = self._destinations.find(caller.policy, query.get("bucket"), query.get("region"))
        caller.check_key(place, query["key"])
        return place, query["key"], UploadId(request.path_params["upload_id"])


def uploads_document(bucket: str, asked: UploadsQuery, page: UploadsPage, spell: Spell) -> Document:
    """A page of open uploads."""
    key_marker, upload_id_marker = page.next_key_marker, page.next_upload_id_marker
    return {
        "bucket": bucket,
        "prefix": spell(asked.prefix),
        "delimiter": spell(asked.delimiter),
        "uploads": [_upload(upload, spell) for upload in page.uploads],
        "common_prefixes": [spell(prefix) for prefix in page.common_prefixes],
        "next_key_marker": None if key_marker is None else spell(key_marker),
        "next_upload_id_marker": upload_id_marker,
        "next_cursor": None if key_marker is None else _cursor(key_marker, upload_id_marker or ""),
    }


def upload_parts_document(at: ObjectAddress, upload_id: UploadId, page: PartsPage, spell: Spell) -> Document:
    """A page of an upload's parts as COS lists them."""
    return {
        "bucket": at.bucket.name,
        "key": spell(at.key),
        "upload_id": upload_id,
        "storage_class": page.storage_class,
        "initiator": _person(page.initiator),
        "owner": _person(page.owner),
        "parts": [
            {**part_document(part), "last_modified": changed}
            for part, changed in zip(page.parts, page.last_modified, strict=True)
        ],
        "next_cursor": None if page.next_marker is None else str(page.next_marker),
    }


def _upload(upload: OpenUpload, spell: Spell) -> Document:
    return {
        "key": spell(upload.key),
        "upload_id": upload.upload_id,
        "task_id": upload.task_id,
        "storage_class": upload.storage_class,
        "initiator": _person(upload.initiator),
        "owner": _person(upload.owner),
        "initiated": upload.initiated,
    }


def _person(person: Person) -> Document:
    return {"id": person.id, "display_name": person.display_name}


def _not_found(lost: UploadLost) -> TaskNotFound | UploadLost:
    """What COS lost is told as such; what is not the caller's is not there."""
    return TaskNotFound("No upload of this id is open here.") if lost.cos is None else lost


def _spelling(query: dict[str, str]) -> Spell:
    """How keys are written: percent-encoded as COS does it, where the query says ``encoding_type=url``."""
    kind = query.get("encoding_type", "")
    if kind not in ("", "url"):
        raise BadQuery("encoding_type can only be url.")
    return encode if kind else str


def _uploads_query(query: dict[str, str]) -> UploadsQuery:
    markers = (query.get("key_marker", ""), query.get("upload_id_marker", ""))
    if "cursor" in query:
        if any(markers):
            raise BadQuery("A page begins at a cursor or at markers, not at both.")
        markers = _opened(query["cursor"])
    told = (query.get("prefix", ""), query.get("delimiter", ""), *markers)
    if any(len(text) > _MAX_TEXT or NO_XML.search(text) for text in told):
        raise BadQuery(f"A prefix, delimiter or marker has control characters, or more than {_MAX_TEXT} characters.")
    limit = _limit(query, "max_uploads")
    return UploadsQuery(query.get("prefix", ""), query.get("delimiter", ""), *markers, limit)


def _limit(query: dict[str, str], sdk_name: str) -> int:
    """Rows per page, by the name that all our lists have for it or by the SDK's; the least of both."""
    return min(limit_of(query.get(name), MAX_LIST, MAX_LIST) for name in ("limit", sdk_name))


def _cursor(key_marker: str, upload_id_marker: str) -> str:
    """Both markers as one word; they are no secret, so it is not sealed."""
    return base64.urlsafe_b64encode(f"{key_marker}\0{upload_id_marker}".encode()).decode()


def _opened(cursor: str) -> tuple[str, str]:
    try:
        key_marker, _, upload_id_marker = base64.b64decode(cursor, b"-_", validate=True).decode().partition("\0")
    except (binascii.Error, ValueError):
        raise BadQuery("cursor is none that a list answered.") from None
    return key_marker, upload_id_marker
