"""``POST /v1/files``: one request carries a whole file, as form data or as a raw body."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.errors import BadDigest, InvalidKey, UnsupportedMediaType
from gateway.domain.object_headers import FIELD_OF_HEADER, acts_on_cos
from gateway.domain.policy import Caller
from gateway.domain.task import Task, TaskState
from gateway.transfer.control import Control
from gateway.transfer.digests import Digests
from gateway.transfer.drafts import NewTask
from gateway.transfer.process_memory import WAIT_SECONDS
from gateway.transfer.whole_files import WholeFiles
from gateway.web.admission import Admission
from gateway.web.form_reader import FormReader, fields_bytes, holding
from gateway.web.json_answers import JsonAnswer
from gateway.web.json_bodies import parse, require_identity_encoding
from gateway.web.request_reading import (
    body_chunks,
    content_length,
    digests,
    query_parameters,
    ranged_size,
    refuse_object_headers,
)
from gateway.web.task_document import TaskDocuments
from gateway.web.task_requests import FORM_FIELDS, CreateTask, typed_fields
from gateway.web.task_routes import TaskDefaults

_NO_FILE_TYPE: Final = "application/x-www-form-urlencoded"
_COS: Final = "x-cos-"
_META: Final = "x-cos-meta-"
_CRC64: Final = "x-cos-hash-crc64ecma"


class FileRoutes:
    """Translates a form post, or a raw body with its options in the query, into a task and its bytes."""

    def __init__(
        self,
        admission: Admission,
        control: Control,
        files: WholeFiles,
        documents: TaskDocuments,
        defaults: TaskDefaults,
    ) -> None:
        self._admission = admission
        self._control = control
        self._files = files
        self._documents = documents
        self._defaults = defaults

    def routes(self) -> list[Route]:
        """The one route."""
        return [Route("/v1/files", self.post, methods=["POST"])]

    async def post(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        with self._admission.receiving(caller, request.scope):
            if media_type == "multipart/form-data":
                task = await self._post_form(request, caller)
            else:
                task = await self._post_raw(request, caller, media_type)
        return file_answer(task, self._documents)

    async def _post_form(self, request: Request, caller: Caller) -> Task:
        require_identity_encoding(request)
        refuse_object_headers(request)
        with self._admission.memory.callers.open(caller.owner) as lease:
            sent, size = request.headers["content-type"], ranged_size(request)
            form = FormReader(sent, body_chunks(request), hold=holding(lease), size=size)
            sent_fields = await form.fields()
            fields = {name: value for name, value in sent_fields.items() if value}  # browsers send every input
            await lease.resize(fields_bytes(fields), WAIT_SECONDS)
            return await self._receive_form(request, caller, form, fields)

    async def _receive_form(
        self, request: Request, caller: Caller, form: FormReader, fields: Mapping[str, str]
    ) -> Task:
        file = form.file
        options = typed_fields(fields)
        if "key" not in options:
            bucket, region = fields.get("bucket"), fields.get("region")
            options["key"] = self._control.key_for(caller, bucket, region, file.name.for_key())
        if file.content_type:
            options.setdefault("content_type", file.content_type)
        new = self._new_task(options)
        said = with_file_md5(Digests(), options)  # what the headers say is of the whole form, not of the file in it
        return await self._files.receive(caller, new, form.file_chunks(), said, content_length(request))

    async def _post_raw(self, request: Request, caller: Caller, media_type: str) -> Task:
        query = query_parameters(request, FORM_FIELDS | meta_names(request.query_params))
        if media_type == _NO_FILE_TYPE or ("key" not in query and media_type != "application/octet-stream"):
            raise UnsupportedMediaType("A file comes as multipart/form-data, or raw with its key in the query.")
        if "key" not in query:
            raise InvalidKey("A raw body needs its key in the query.")
        options = raw_options(request, query)
        new = self._new_task(options)
        said = with_file_md5(digests(request), options)
        return await self._files.receive(caller, new, body_chunks(request), said, content_length(request))

    def _new_task(self, options: Mapping[str, object]) -> NewTask:
        return new_file(dict(options), self._defaults)


def new_file(options: dict[str, object], defaults: TaskDefaults) -> NewTask:
    """The file that *options* describe. Raises InvalidField, UnknownField, InvalidSize, InvalidMetadata."""
    wanted = parse(CreateTask, options)
    return wanted.new_task(slice_size=defaults.slice_size_bytes, part_size=defaults.part_size_bytes)


def raw_options(request: Request, query: Mapping[str, str]) -> dict[str, object]:
    """What *query* and the headers of a raw body say of the file: the query wins."""
    said, headers = _said_by_headers(request)
    options: dict[str, object] = {**typed_fields({**said, **query}), "headers": headers}
    length = content_length(request)
    if length is not None:
        options.setdefault("size", length)
    return options


def _said_by_headers(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """The options in a raw body's headers, spelled as COS's, and COS's headers that have no option of their own."""
    said: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        if not value or name == _CRC64:  # COS takes an empty header for none
            continue
        if name.startswith(_META):
            said[name.removeprefix(_COS)] = value
        elif name in FIELD_OF_HEADER:
            said[FIELD_OF_HEADER[name]] = value
        elif acts_on_cos(name):  # what may not be passed on is refused with the options
            headers[name] = value
    return said, headers


def with_file_md5(said: Digests, options: Mapping[str, object]) -> Digests:
    """*said* of a whole file's bytes, and the MD5 in its checked *options*: what is written down has to be true.

    Raises:
        BadDigest: they disagree.
    """
    md5 = options.get("md5")
    if not isinstance(md5, str):
        return said
    md5_base64 = b64encode(bytes.fromhex(md5)).decode()
    if said.md5_base64 not in (None, md5_base64):
        raise BadDigest("Content-MD5 and md5 disagree.")
    return replace(said, md5_base64=md5_base64)


def file_answer(task: Task, documents: TaskDocuments) -> Response:
    """201 for a file that stands in COS, 202 while COS still merges."""
    status = 202 if task.state is TaskState.COMPLETING else 201
    headers = {"Location": f"/v1/tasks/{task.id}", "ETag": f'"{task.version}"'}
    return JsonAnswer(documents.of(task), status, headers)


def meta_names(names: Mapping[str, str]) -> frozenset[str]:
    """Those of *names* that are metadata."""
    return frozenset(name for name in names if name.startswith("meta-"))
