"""``/v1/batches``: many files created, looked at, paused, restarted and canceled together."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.batch import DEFAULT_FILE_PARALLEL_LIMIT, MAX_BATCH_FILES, BatchFile, BatchId
from gateway.domain.errors import BadQuery, GatewayError, TaskNotFound
from gateway.domain.policy import Action
from gateway.domain.task import TaskError
from gateway.transfer.batches import Batches, BatchView
from gateway.transfer.drafts import NewTask
from gateway.web.admission import Admission
from gateway.web.json_answers import list_answer
from gateway.web.json_bodies import LARGE_BODY_BYTES, parse, read_json
from gateway.web.problems import error_document
from gateway.web.progress_messages import totals_document
from gateway.web.progress_watch import Render
from gateway.web.request_reading import limit_of, query_parameters, refuse_object_headers
from gateway.web.slices import in_slices
from gateway.web.task_document import TaskDocuments, listed_document
from gateway.web.task_requests import CreateTask
from gateway.web.task_routes import TaskDefaults, idempotency

MAX_FILE_PARALLEL_LIMIT: Final = 256
PAGE_FILES: Final = 100
FILES_AT_ONCE: Final = 50
"""Of a new batch's files, checked between two turns of other requests."""
_PAGE_PARAMETERS: Final = frozenset({"limit", "cursor"})
_GONE: Final = TaskError.of(TaskNotFound("Redis does not know this task any more."))


class CreateBatch(BaseModel):
    """The body of ``POST /v1/batches``: each file is as in ``CreateTask``, and judged by itself."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    files: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH_FILES, fail_fast=True)
    file_parallel_limit: int = Field(default=DEFAULT_FILE_PARALLEL_LIMIT, ge=1, le=MAX_FILE_PARALLEL_LIMIT)


class BatchRoutes:
    """Translates."""

    def __init__(
        self, admission: Admission, batches: Batches, documents: TaskDocuments, defaults: TaskDefaults
    ) -> None:
        self._admission = admission
        self._batches = batches
        self._documents = documents
        self._defaults = defaults

    def routes(self) -> list[Route]:
        """Every route under ``/v1/batches``."""
        one = "/v1/batches/{batch_id}"
        return [
            Route("/v1/batches", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one + "/pause", self.pause, methods=["POST"]),
            Route(one + "/restart", self.restart, methods=["POST"]),
            Route(one + "/cancel", self.cancel, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        refuse_object_headers(request)
        caller.require(Action.CREATE)
        self._admission.creating(caller, 0)
        with self._admission.keeping(caller, request) as body:
            wanted = parse(CreateBatch, await read_json(body, LARGE_BODY_BYTES))
            self._admission.creating(caller, len(wanted.files))
            files = [self._file(options) async for some in in_slices(wanted.files, FILES_AT_ONCE) for options in some]
            view = await self._batches.create(caller, files, wanted.file_parallel_limit, idempotency(request, wanted))
        headers = {"Location": f"/v1/batches/{view.batch.id}"}
        return await batch_answer(view, self._documents.of, MAX_BATCH_FILES, status=201, headers=headers)

    async def get(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, _PAGE_PARAMETERS)
        limit, after = limit_of(query.get("limit"), PAGE_FILES), _index(query.get("cursor"))
        with self._admission.looking_up(caller):
            async with self._admission.spending.turn(caller.owner):
                view = await self._batches.get(caller, _batch_id(request))
        return await batch_answer(view, listed_document, limit, after=after)

    async def pause(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        with self._admission.looking_up(caller):
            view = await self._batches.pause(caller, _batch_id(request))
        return await batch_answer(view, listed_document, PAGE_FILES)

    async def restart(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        with self._admission.looking_up(caller):
            view = await self._batches.restart(caller, _batch_id(request))
        return await batch_answer(view, listed_document, PAGE_FILES)

    async def cancel(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        with self._admission.looking_up(caller):
            view = await self._batches.cancel(caller, _batch_id(request))
        return await batch_answer(view, listed_document, PAGE_FILES)

    def _file(self, options: dict[str, Any]) -> NewTask | GatewayError:
        try:
            return parse(CreateTask, options).new_task(
                slice_size=self._defaults.slice_size_bytes, part_size=self._defaults.part_size_bytes
            )
        except GatewayError as error:
            return error


async def batch_answer(
    view: BatchView,
    render: Render,
    limit: int,
    *,
    after: int = -1,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The batch with up to *limit* of its files behind the index *after*; *render* makes a task's document.

    It is written some files at a time: a thousand with their tickets would hold up the loop.
    """
    files = [numbered for numbered in view.files if numbered[0] > after]
    page = files[:limit]
    facts = batch_facts(view, str(page[-1][0]) if len(files) > limit else None)
    return await list_answer("files", page, lambda one: file_document(*one, view, render), facts, status, headers)


def batch_facts(view: BatchView, next_cursor: str | None) -> dict[str, Any]:
    """The batch as a JSON object, without its files."""
    return {
        **totals_document(view.batch.id, view.totals),
        "file_parallel_limit": view.batch.file_parallel_limit,
        "count": len(view.files),
        "next_cursor": next_cursor,
    }


def file_document(index: int, file: BatchFile, view: BatchView, render: Render) -> dict[str, Any]:
    """One file: its task and, once it has ended, the task's result or error."""
    task = view.tasks.get(file.task_id) if file.task_id else None
    document = None if task is None else render(task)
    error = file.error if task is None else task.error
    if task is None and error is None:
        error = _GONE
    return {
        "index": index,
        "task": document,
        "result": None if document is None else document["result"],
        "error": None if error is None else error_document(error),
    }


def _index(cursor: str | None) -> int:
    """The index that a page begins behind. Raises BadQuery."""
    if cursor is None:
        return -1
    if not re.fullmatch(r"[0-9]{1,4}", cursor, re.ASCII):
        raise BadQuery("cursor is none that a batch answered.")
    return int(cursor)


def _batch_id(request: Request) -> BatchId:
    return BatchId(request.path_params["batch_id"])
