"""``/v1/objects/{key}``: put, head and append, with COS's own answer headers."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.errors import BadQuery, InvalidKey
from gateway.domain.object_headers import FORBID_OVERWRITE, OPTION_NAMES
from gateway.domain.objects import Appended
from gateway.transfer.object_calls import NewAppend, ObjectCalls, ObjectName
from gateway.transfer.whole_files import WholeFiles
from gateway.web.admission import Admission
from gateway.web.file_routes import file_answer, meta_names, new_file, raw_options, with_file_md5
from gateway.web.json_answers import JsonAnswer
from gateway.web.request_reading import body_chunks, content_length, digests, query_parameters, required_length
from gateway.web.task_document import TaskDocuments
from gateway.web.task_requests import FORM_FIELDS
from gateway.web.task_routes import TaskDefaults

_PREFIX: Final = b"/v1/objects/"
_PLACE: Final = frozenset({"bucket", "region"})
APPEND_OPTIONS: Final = _PLACE | OPTION_NAMES | {"traffic_limit"}
_POSITION: Final = re.compile(r"[0-9]{1,16}", re.ASCII)


class ObjectRoutes:
    """Translates; a put is a task as any file is, head and append are not."""

    def __init__(
        self,
        admission: Admission,
        files: WholeFiles,
        objects: ObjectCalls,
        documents: TaskDocuments,
        defaults: TaskDefaults,
    ) -> None:
        self._admission = admission
        self._files = files
        self._objects = objects
        self._documents = documents
        self._defaults = defaults

    def routes(self) -> list[Route]:
        """One route for all three, so that a wrong method hears of all."""
        route = Route("/v1/objects/{key:path}", self.call, methods=["PUT", "HEAD", "POST"])
        route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)  # a key with a line break is refused as one
        return [route]

    async def call(self, request: Request) -> Response:
        """Put, head or append, as the method says."""
        calls = {"PUT": self.put, "HEAD": self.head, "POST": self.append}
        return await calls[request.method](request)

    async def put(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, (FORM_FIELDS - {"key"}) | meta_names(request.query_params))
        options = {**raw_options(request, query), "key": _key(request)}
        new = new_file(options, self._defaults)
        with self._admission.receiving(caller, request.scope):
            said, length = with_file_md5(digests(request), options), content_length(request)
            task = await self._files.receive(caller, new, body_chunks(request), said, length)
        return file_answer(task, self._documents)

    async def head(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, _PLACE)
        found = await self._objects.head(caller, ObjectName(_key(request), query.get("bucket"), query.get("region")))
        return Response(headers={**found.headers, "content-length": str(found.size)})

    async def append(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, APPEND_OPTIONS | {"append", "position"} | meta_names(request.query_params))
        if query.pop("append", None) != "":
            raise BadQuery("A POST to an object appends: its query is append&position=<bytes>.")
        position = query.pop("position", "")
        if not _POSITION.fullmatch(position):
            raise BadQuery("position is not a number of bytes.")
        length = required_length(request)
        options = {**raw_options(request, query), "key": _key(request)}
        wanted = new_file(options, self._defaults)
        overwrite = {FORBID_OVERWRITE: "true"} if wanted.forbid_overwrite else {}
        headers = {**wanted.object_headers, **wanted.part_headers, **overwrite}
        new = NewAppend(int(position), length, wanted.content_type, headers)
        name = ObjectName(wanted.key, wanted.bucket, wanted.region)
        with self._admission.receiving(caller, request.scope):
            done = await self._objects.append(caller, name, new, body_chunks(request), digests(request))
        return _append_answer(done)


def appended_document(done: Appended) -> dict[str, object]:
    """What COS says of an append; the CRC-64 is a string, since it does not fit a JavaScript number."""
    crc64 = None if done.crc64 is None else str(done.crc64)
    return {"next_position": done.next_position, "etag": done.etag, "crc64": crc64}


def _append_answer(done: Appended) -> Response:
    told = {name: value for name, value in done.headers.items() if name.startswith("x-cos-")}
    headers = {**told, "x-cos-next-append-position": str(done.next_position)}
    return JsonAnswer(appended_document(done), headers=headers)


def _key(request: Request) -> str:
    """The key exactly as it was sent, decoded once. Raises InvalidKey when that is not UTF-8."""
    raw: bytes = request.scope["raw_path"]
    try:
        return unquote_to_bytes(raw.removeprefix(_PREFIX)).decode()
    except UnicodeDecodeError:
        raise InvalidKey("The key is not UTF-8.") from None
