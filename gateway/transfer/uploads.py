"""COS's uploads as their ids name them: whose they are, what they hold, and which are open.

Only what a task of ours opened is shown, to its owner. A task's state is told in COS's words: an upload that can take
nothing more is lost.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.domain.errors import KeyNotAllowed, TaskNotFound, UploadLost
from gateway.domain.objects import ObjectAddress, OpenUpload, PartsPage, UploadId, UploadsPage
from gateway.domain.parts import MIB, plan_part_size
from gateway.domain.policy import Action, Caller, Destination
from gateway.domain.task import NEW_UPLOAD_AFTER, BodyMode, RestartRequested, Task, TaskId, TaskState, task_id_of
from gateway.transfer.access import require_visible
from gateway.transfer.control import Control
from gateway.transfer.costs import ROWS_LIKE_A_TASK
from gateway.transfer.engine import Engine
from gateway.transfer.recent import Recent

MAX_LIST: Final = 1000
SCAN_PAGES: Final = 10
"""How many of COS's pages one of ours may take where most uploads are other people's; it then ends short."""

_LATE: Final = "\U0010fffd"
"""Later in COS's order than what keys are made of."""
UNKNOWN_SECONDS: Final = 10.0
"""How long COS is not asked again for an upload that it does not know."""


@dataclass(frozen=True, slots=True)
class UploadsQuery:
    """What List Multipart Uploads is asked (doc 7736). ``upload_id_marker`` says nothing without ``key_marker``."""

    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    upload_id_marker: str = ""
    limit: int = MAX_LIST


class Uploads:
    """Finds and lists uploads."""

    def __init__(self, engine: Engine, control: Control) -> None:
        self._engine = engine
        self._control = control
        self._unknown: Recent[tuple[ObjectAddress, UploadId]] = Recent(UNKNOWN_SECONDS)

    async def find(self, caller: Caller, place: Destination, key: str, upload_id: UploadId, action: Action) -> Task:
        """The task whose upload at *key* of *place* is *upload_id*.

        Raises:
            UploadLost: there is none for this caller.
            RateLimited: the caller has named too many that are none.
            Forbidden: the token lacks the action.
            KeyNotAllowed: the key lies outside of what the token and the destination allow.
            QuotaExceeded: Redis has forgotten it, and the caller has as many unfinished tasks as there may be.
        """
        caller.require(action)
        caller.check_key(place, key)
        tasks, at = self._engine.tasks, ObjectAddress(place.bucket, key)
        (task_id,) = await tasks.find_uploads([upload_id], None)
        task = None if task_id is None else await tasks.load(task_id)
        if task is None:
            task = await self._made_again(caller, at, upload_id, task_id)
        try:
            task = require_visible(caller, task, action)
        except TaskNotFound:
            task = None
        if task is None or task.at != at or task.upload_id != upload_id:
            self._engine.costs.missed(caller.owner)
            raise UploadLost("No upload of this id is open here.")
        return task

    async def _made_again(
        self, caller: Caller, at: ObjectAddress, upload_id: UploadId, task_id: TaskId | None
    ) -> Task | None:
        """A task of *caller*'s for an upload that COS holds at a key of theirs and Redis has forgotten; else None.

        Nothing at COS says whose an upload was. Its id is long, random and told to its opener alone, so whoever names
        it, and may write the key, may go on; a note that is left in Redis still rules. The caller has checked the key.
        """
        engine = self._engine
        if not caller.policy.allows(Action.UPLOAD):  # whoever may only look makes nothing
            return None
        if task_id is not None and await engine.tasks.find_uploads([upload_id], caller.owner) == [None]:
            return None
        if (at, upload_id) in self._unknown:
            return None
        engine.costs.guess(caller.owner)
        engine.costs.look(caller.owner)
        try:
            await engine.objects.list_parts(at, upload_id, limit=1)
        except UploadLost:
            self._unknown.add((at, upload_id))
            return None
        now = time.time()
        lost = Task(
            id=task_id or _task_id(upload_id),
            owner=caller.owner,
            at=at,
            size=None,
            part_size=plan_part_size(None, None),
            slice_size=MIB,
            async_limit=1,
            mode=BodyMode.PARTS,
            upload_id=upload_id,
            created_at=now,
            updated_at=now,
            expires_at=now,
        )
        return await self._control.take_up(lost)

    async def find_open(
        self, caller: Caller, place: Destination, key: str, upload_id: UploadId, action: Action
    ) -> Task:
        """As ``find``, for a caller about to go on: COS has no failed uploads, so a task in ``error`` is restarted.

        Raises:
            UploadLost: also when the task's error has made its upload worthless.
        """
        task = await self.find(caller, place, key, upload_id, action)
        if task.state is not TaskState.ERROR:
            return task
        if task.error is not None and task.error.code in NEW_UPLOAD_AFTER:
            raise UploadLost("The upload failed for good.")
        return await self._engine.tasks.apply(task, RestartRequested())

    async def parts(
        self,
        caller: Caller,
        place: Destination,
        key: str,
        upload_id: UploadId,
        *,
        marker: int = 0,
        limit: int = MAX_LIST,
    ) -> PartsPage:
        """One page of what COS holds of *upload_id* (List Parts, doc 7747). Raises UploadLost."""
        task = await self.find(caller, place, key, upload_id, Action.READ)
        self._engine.costs.look(caller.owner)
        page = await self._engine.objects.list_parts(task.at, upload_id, marker=marker, limit=limit)
        self._engine.costs.loaded(caller.owner, len(page.parts) // ROWS_LIKE_A_TASK)
        return page

    async def list(self, caller: Caller, place: Destination, query: UploadsQuery) -> UploadsPage:
        """One page of the caller's open uploads in *place*.

        Groups by the delimiter are formed of the caller's own uploads, so that nobody else's show in them.

        Raises:
            KeyNotAllowed: the prefix asked for holds no key that the caller may name.
        """
        caller.require(Action.LIST)
        scope = max(caller.policy.prefix, place.prefix, key=len)
        prefix = query.prefix if query.prefix.startswith(scope) else scope
        if not prefix.startswith(query.prefix):
            raise KeyNotAllowed("The prefix lies outside of what the token and the destination allow.")
        cut = _PageCut(query)
        at, limit = (query.key_marker, query.upload_id_marker), MAX_LIST if query.delimiter else query.limit
        costs = self._engine.costs
        costs.may_look(caller.owner)
        for _ in range(SCAN_PAGES):
            skipped = await self._skipped(caller, place, prefix, at)
            if skipped is None:
                return cut.page(None, None)
            at = skipped
            costs.looked(caller.owner)
            page = await self._engine.objects.list_uploads(
                place.bucket, prefix=prefix, key_marker=at[0], upload_id_marker=at[1], limit=limit
            )
            costs.loaded(caller.owner, len(page.uploads) // ROWS_LIKE_A_TASK)
            for upload in await self._own(caller, place, page.uploads):
                if not cut.take(upload):
                    return cut.page(*cut.last)
            if page.next_key_marker is None:
                return cut.page(None, None)
            if cut.is_full:
                return cut.page(*cut.last)
            at, limit = (page.next_key_marker, page.next_upload_id_marker or ""), MAX_LIST
        return cut.page(*at)

    async def _skipped(
        self, caller: Caller, place: Destination, prefix: str, at: tuple[str, str]
    ) -> tuple[str, str] | None:
        """The markers *at*, or later ones before the caller's next upload where that is known; None: there is none."""
        owner = _owner(caller)
        if owner is None:
            return at
        key, upload_id = at
        own = await self._engine.tasks.next_upload(owner, place.bucket, prefix, key, with_it=bool(upload_id))
        if own is None:
            return None
        return max(at, (_before(own), "")) if own else at

    async def _own(self, caller: Caller, place: Destination, uploads: Sequence[OpenUpload]) -> Sequence[OpenUpload]:
        found = await self._engine.tasks.find_uploads([upload.upload_id for upload in uploads], _owner(caller))
        prefixes = (caller.policy.prefix, place.prefix)
        return [
            replace(upload, task_id=task_id)
            for upload, task_id in zip(uploads, found, strict=True)
            if task_id is not None and all(map(upload.key.startswith, prefixes))
        ]


@dataclass(slots=True)
class _PageCut:
    """Cuts one page from uploads in COS's order. ``last`` names its last row, as the next page's markers."""

    query: UploadsQuery
    uploads: "list[OpenUpload]" = field(default_factory=list)
    prefixes: "list[str]" = field(default_factory=list)
    last: tuple[str, str] = ("", "")

    @property
    def is_full(self) -> bool:
        return len(self.uploads) + len(self.prefixes) >= self.query.limit

    def take(self, upload: OpenUpload) -> bool:
        """Put *upload*, or the group it belongs to, on the page; False: there is no room for it."""
        group = self._group(upload.key)
        if group and (group in self.prefixes[-1:] or group <= self.query.key_marker):
            return True
        if self.is_full:
            return False
        self.last = (group, "") if group else (upload.key, upload.upload_id)
        if group:
            self.prefixes.append(group)
        else:
            self.uploads.append(upload)
        return True

    def _group(self, key: str) -> str:
        """What *key* begins with up to the first delimiter after the prefix; empty without one."""
        prefix, delimiter = self.query.prefix, self.query.delimiter
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        return key[: end + len(delimiter)] if end >= 0 else ""

    def page(self, next_key_marker: str | None, next_upload_id_marker: str | None) -> UploadsPage:
        return UploadsPage(tuple(self.uploads), tuple(self.prefixes), next_key_marker, next_upload_id_marker)


def _before(key: str) -> str:
    """A marker before *key* behind which, of all keys that there may be, hardly any other than *key* comes next."""
    code = ord(key[-1]) - 1
    return key[:-1] + (chr(code if not 0xD800 <= code < 0xE000 else 0xD7FF) + _LATE if code >= ord(" ") else "")


def _task_id(upload_id: UploadId) -> TaskId:
    """One id for whichever process makes the task again."""
    return task_id_of(hashlib.sha256(upload_id.encode()).digest()[:16])


def _owner(caller: Caller) -> str | None:
    return None if caller.policy.allows(Action.ALL_TASKS) else caller.owner
