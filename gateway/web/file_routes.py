"""``POST /v1/files``: one request carries a whole file, as form data or as a raw body."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.domain.errors import BodyIncomplete, InvalidKey, UnsupportedMediaType
from gateway.domain.policy import Caller
from gateway.domain.task import Task, TaskState
from gateway.telemetry import TASK_ID
from gateway.transfer.control import Control, NewTask
from gateway.transfer.digests import Digests
from gateway.transfer.sequential import SequentialRelay
from gateway.web.auth import Authenticator
from gateway.web.formdata import FormReader
from gateway.web.json_bodies import parse, require_identity_encoding
from gateway.web.request_reading import body_chunks, content_length, digests, query_parameters
from gateway.web.task_document import TaskDocuments
from gateway.web.task_requests import FORM_FIELDS, CreateTask, typed_fields
from gateway.web.task_routes import TaskDefaults

SMALL_FILE_BYTES: Final = 64 * 1024
_NO_FILE_TYPE: Final = "application/x-www-form-urlencoded"


class FileRoutes:
    """Translates a form post, or a raw body with its options in the query, into a task and its bytes."""

    def __init__(
        self,
        auth: Authenticator,
        control: Control,
        sequential: SequentialRelay,
        documents: TaskDocuments,
        defaults: TaskDefaults,
    ) -> None:
        self._auth = auth
        self._control = control
        self._sequential = sequential
        self._documents = documents
        self._defaults = defaults

    def routes(self) -> list[Route]:
        """The one route."""
        return [Route("/v1/files", self.post, methods=["POST"])]

    async def post(self, request: Request) -> Response:
        caller = self._auth.caller(request.headers.get("authorization"))
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            task = await self._post_form(request, caller)
        else:
            task = await self._post_raw(request, caller, media_type)
        status = 202 if task.state is TaskState.COMPLETING else 201
        headers = {"Location": f"/v1/tasks/{task.id}", "ETag": f'"{task.version}"'}
        return JSONResponse(self._documents.of(task), status, headers)

    async def _post_form(self, request: Request, caller: Caller) -> Task:
        require_identity_encoding(request)
        form = FormReader(request.headers["content-type"], body_chunks(request))
        fields = await form.fields()
        file = form.file
        options = typed_fields(fields)
        if "key" not in options:
            bucket, region = fields.get("bucket"), fields.get("region")
            options["key"] = self._control.key_for(caller, bucket, region, file.filename)
        if file.content_type:
            options.setdefault("content_type", file.content_type)
        new = self._new_task(options)
        return await self._receive(caller, new, form.file_chunks(), digests(request), content_length(request))

    async def _post_raw(self, request: Request, caller: Caller, media_type: str) -> Task:
        query = query_parameters(request, FORM_FIELDS | _meta_names(request.query_params))
        if media_type == _NO_FILE_TYPE or ("key" not in query and media_type != "application/octet-stream"):
            raise UnsupportedMediaType("A file comes as multipart/form-data, or raw with its key in the query.")
        if "key" not in query:
            raise InvalidKey("A raw body needs its key in the query.")
        options = typed_fields(query)
        if content_type := request.headers.get("content-type"):
            options.setdefault("content_type", content_type)
        if content_encoding := request.headers.get("content-encoding"):
            options.setdefault("content_encoding", content_encoding)
        length = content_length(request)
        if length is not None:
            options.setdefault("size", length)
        return await self._receive(caller, self._new_task(options), body_chunks(request), digests(request), length)

    def _new_task(self, options: Mapping[str, object]) -> NewTask:
        wanted = parse(CreateTask, dict(options))
        return wanted.new_task(slice_size=self._defaults.slice_size_bytes, part_size=self._defaults.part_size_bytes)

    async def _receive(
        self, caller: Caller, new: NewTask, source: AsyncIterator[bytes], said: Digests, at_most: int | None
    ) -> Task:
        """A small file is awaited first: its task is then written once, with its end in it."""
        head, ended = await _read_head(source)
        if ended:
            draft = await self._control.draft_for_whole(caller, new, _whole_size(new, head))
            TASK_ID.set(draft.id)
            return await self._sequential.receive_whole(draft, head, said)
        task = await self._control.create_for_body(caller, new)
        TASK_ID.set(task.id)
        return await self._sequential.receive_file(caller, task, _chained(head, source), said, at_most)


async def _read_head(source: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
    """The first chunks, and whether they are all there is, which more than ``SMALL_FILE_BYTES`` never are."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in source:
        chunks.append(chunk)
        size += len(chunk)
        if size > SMALL_FILE_BYTES:
            return chunks, False
    return chunks, True


async def _chained(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in head:
        yield chunk
    head.clear()
    async for chunk in rest:
        yield chunk


def _whole_size(new: NewTask, chunks: list[bytes]) -> int:
    size = sum(map(len, chunks))
    if new.size not in (None, size):
        raise BodyIncomplete(f"The file has {size} bytes, expected {new.size}.", expected=new.size)
    return size


def _meta_names(names: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name in names if name.startswith("meta-"))
