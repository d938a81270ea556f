"""``/v1/tasks``: create, look, list, parts, content, complete, pause, restart, cancel."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.errors import BadQuery, InvalidField, StateStoreUnavailable, TaskNotFound
from gateway.domain.objects import StoredPart
from gateway.domain.policy import Action, Caller
from gateway.domain.task import Task, TaskId, TaskState
from gateway.telemetry import TASK_ID
from gateway.transfer.control import Control
from gateway.transfer.ports import Idempotency
from gateway.transfer.relay import PartRelay
from gateway.transfer.sequential import SequentialRelay
from gateway.web.admission import Admission
from gateway.web.json_answers import JsonAnswer, list_answer
from gateway.web.json_bodies import parse, read_json
from gateway.web.kept_body import LISTED_PART_BYTES
from gateway.web.request_reading import (
    body_chunks,
    content_range,
    digests,
    expected_version,
    limit_of,
    part_conditions,
    part_number,
    query_parameters,
    refuse_object_headers,
    required_length,
)
from gateway.web.sealing import SealBroken, Sealer
from gateway.web.task_document import TaskDocuments, listed_document, part_document
from gateway.web.task_requests import CompleteTask, CreateTask
from gateway.web.tickets import Tickets, upload_ticket

CREATE_LIMIT_BYTES: Final = 1 << 20
PARTS_PAGE_MOST: Final = 1000
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)
_TASK_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
T = TypeVar("T")
_LIST_PARAMETERS: Final = frozenset({"state", "batch", "limit", "cursor"})
_PARTS_PARAMETERS: Final = frozenset({"limit", "cursor"})


class TaskDefaults(Protocol):
    """The sizes, in bytes, of tasks whose callers name none."""

    @property
    def slice_size_bytes(self) -> int: ...

    @property
    def part_size_bytes(self) -> int: ...


class TaskRoutes:
    """Translates requests into calls of the use cases; decides nothing."""

    def __init__(
        self,
        admission: Admission,
        control: Control,
        parts: PartRelay,
        sequential: SequentialRelay,
        documents: TaskDocuments,
        sealer: Sealer,
        defaults: TaskDefaults,
    ) -> None:
        self._admission = admission
        self._control = control
        self._parts = parts
        self._sequential = sequential
        self._documents = documents
        self._sealer = sealer
        self._tickets = Tickets(sealer)
        self._defaults = defaults

    def routes(self) -> list[Route]:
        """Every route under ``/v1/tasks``."""
        one = "/v1/tasks/{task_id}"
        return [
            Route(one + "/parts/{number}", self.put_part, methods=["PUT"]),
            Route("/v1/tasks", self.create_or_list, methods=["GET", "POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one + "/parts", self.list_parts, methods=["GET"]),
            Route(one + "/content", self.put_content, methods=["PUT"]),
            Route(one + "/complete", self.complete, methods=["POST"]),
            Route(one + "/pause", self.pause, methods=["POST"]),
            Route(one + "/restart", self.restart, methods=["POST"]),
            Route(one + "/cancel", self.cancel, methods=["POST"]),
        ]

    async def create_or_list(self, request: Request) -> Response:
        """One route for both, so that a wrong method hears of both."""
        return await (self.create(request) if request.method == "POST" else self.list(request))

    async def create(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        refuse_object_headers(request)
        caller.require(Action.CREATE)
        self._admission.creating(caller)
        with self._admission.keeping(caller, request) as body:
            wanted = parse(CreateTask, await read_json(body, CREATE_LIMIT_BYTES))
            new = wanted.new_task(slice_size=self._defaults.slice_size_bytes, part_size=self._defaults.part_size_bytes)
            once = idempotency(request, wanted)
            earlier = await self._control.resume(caller, new)
            task = earlier or await self._control.create(caller, new, once)
        TASK_ID.set(task.id)
        return self._answer(task, 201 if earlier is None else 200, {"Location": f"/v1/tasks/{task.id}"})

    async def list(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, _LIST_PARAMETERS)
        states, limit = _states(query.get("state")), limit_of(query.get("limit"))
        cursor = self._open_cursor(caller.owner, query.get("cursor"))
        async with self._admission.spending.turn(caller.owner):
            page = await self._control.list(
                caller, states=states, batch_id=query.get("batch"), limit=limit, cursor=cursor
            )
        following = page.next_cursor
        sealed = None if following is None else self._sealer.seal("cursor", {"o": caller.owner, "c": following})
        return await list_answer("tasks", page.tasks, listed_document, {"next_cursor": sealed})

    async def get(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        return self._answer(await self._with_task(request, caller, lambda task_id: self._control.get(caller, task_id)))

    async def list_parts(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        query = query_parameters(request, _PARTS_PARAMETERS)
        limit = limit_of(query.get("limit"), PARTS_PAGE_MOST, PARTS_PAGE_MOST)
        after = part_number(query["cursor"]) if "cursor" in query else 0
        stored = await self._with_task(request, caller, lambda task_id: self._control.parts(caller, task_id))
        parts = [part for part in stored if part.number > after]
        cursor = str(parts[limit - 1].number) if len(parts) > limit else None
        return await list_answer("parts", parts[:limit], part_document, {"next_cursor": cursor})

    async def put_part(self, request: Request) -> Response:
        caller, opened = self._admission.caller(request), list[Task]()
        refuse_object_headers(request)

        async def receive(task_id: TaskId) -> StoredPart:
            return await self._parts.receive_part(
                caller,
                task_id,
                part_number(request.path_params["number"]),
                required_length(request),
                body_chunks(request),
                digests=digests(request),
                conditions=part_conditions(request),
                on_open=opened.append,
            )

        with self._admission.receiving(caller, request.scope):
            part = await self._with_task(request, caller, receive)
        return JsonAnswer(part_document(part), headers={"ETag": part.etag, **self._late_ticket(opened)})

    def _late_ticket(self, opened: Sequence[Task]) -> dict[str, str]:
        """The ticket of a task that was created without an upload: only this one brings back its parts."""
        late = opened and opened[-1].size is not None and opened[-1].size <= opened[-1].slice_size
        return {"Upload-Ticket": self._documents.ticket(opened[-1])} if late else {}

    async def put_content(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        refuse_object_headers(request)

        async def receive(task_id: TaskId) -> Task:
            return await self._sequential.receive_content(
                caller, task_id, content_range(request), body_chunks(request), digests(request)
            )

        with self._admission.receiving(caller, request.scope):
            task = await self._with_task(request, caller, receive)
        return self._answer(task, _status_of(task))

    async def complete(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        refuse_object_headers(request)
        with self._admission.keeping(caller, request) as body:
            if body.is_announced:  # no list is read for a task that is not theirs
                await self._with_task(request, caller, lambda named: self._control.get(caller, named, Action.COMPLETE))
            data = await read_json(body, CREATE_LIMIT_BYTES, allow_empty=True)
            async with self._admission.spending.turn(caller.owner):
                wanted = await CompleteTask.read(data)
            await body.hold(LISTED_PART_BYTES * len(wanted.parts))
            task = await self._with_task(request, caller, lambda named: self._control.complete(caller, named, wanted))
        return self._answer(task, _status_of(task))

    async def pause(self, request: Request) -> Response:
        return self._answer(await self._moved(request, self._control.pause))

    async def restart(self, request: Request) -> Response:
        return self._answer(await self._moved(request, self._control.restart))

    async def cancel(self, request: Request) -> Response:
        return self._answer(await self._moved(request, self._control.cancel))

    async def _moved(self, request: Request, move: Callable[[Caller, TaskId, int | None], Awaitable[Task]]) -> Task:
        caller = self._admission.caller(request)
        version = expected_version(request)
        return await self._with_task(request, caller, lambda task_id: move(caller, task_id, version))

    async def _with_task(self, request: Request, caller: Caller, act: Callable[[TaskId], Awaitable[T]]) -> T:
        """What *act* gives, which raises TaskNotFound before it reads a body or not at all.

        A task that Redis lost is then made again from the request's ticket, and *act* asked once more.
        """
        task_id = _task_id(request)
        if task_id is None:
            with self._admission.looking_up(caller):
                raise TaskNotFound("No such task.")
        TASK_ID.set(task_id)
        ticket = upload_ticket(request)
        if ticket is None:
            with self._admission.looking_up(caller):
                return await act(task_id)
        try:
            return await act(task_id)
        except TaskNotFound:
            with self._admission.looking_up(caller):
                await self._control.rebuild(caller, self._tickets.open(ticket, task_id))
        try:
            return await act(task_id)
        except TaskNotFound:
            raise StateStoreUnavailable("Redis keeps losing the task.") from None

    def _answer(self, task: Task, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return JsonAnswer(self._documents.of(task), status, {**(headers or {}), "ETag": f'"{task.version}"'})

    def _open_cursor(self, owner: str, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            opened = self._sealer.open("cursor", text)
        except SealBroken:
            raise BadQuery("cursor is none that a list answered.") from None
        if opened.get("o") != owner:
            raise BadQuery("cursor is none that a list answered.")
        return str(opened["c"])


def _task_id(request: Request) -> TaskId | None:
    """The task that the path names; None for what is no id of ours, which goes neither to Redis nor into a log."""
    text = request.path_params["task_id"]
    return TaskId(text) if _TASK_ID.fullmatch(text) else None


def _status_of(task: Task) -> int:
    """202 while COS still merges: the websocket, or the next look, tells the end."""
    return 202 if task.state is TaskState.COMPLETING else 200


def _states(text: str | None) -> frozenset[TaskState] | None:
    if text is None:
        return None
    try:
        return frozenset(TaskState(name) for name in text.split(","))
    except ValueError:
        raise BadQuery("state is not a list of task states.") from None


def idempotency(request: Request, wanted: BaseModel) -> Idempotency | None:
    """The caller's Idempotency-Key with a digest of what is *wanted*, None without one. Raises InvalidField."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidField("Idempotency-Key is not 1 to 255 visible ASCII characters.")
    return Idempotency(key, hashlib.sha256(wanted.model_dump_json().encode()).hexdigest())
