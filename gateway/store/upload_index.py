"""Which uploads an owner's tasks have open in a bucket, by key: a hint where in COS's list to look for them.

An index is a sorted set whose members all have score 0: an upload's key and id. Tasks that leave an upload strike it
off; of tasks that expired this is not said, so what has no note any more is struck off as it is seen. A member tells
when the index was last known to be whole. Without it, as where Redis lost the index or an older version opened uploads,
the index is made whole from its owner's tasks, and where these are too many COS is asked for everything.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from gateway.domain.errors import StateStoreUnavailable
from gateway.domain.objects import Bucket, UploadId
from gateway.domain.task import FINAL_STATES, Task, TaskId, TaskState
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import owner_index, owner_key, task_keys, upload_key, uploads_index
from gateway.store.redis_pool import Command
from gateway.store.task_index import TaskIndex

UNKNOWN: Final = ""
"""No key: the index does not tell, look at all there is."""
WHOLE_SECONDS: Final = 600.0
"""How long an index counts as whole: processes of an older version may open uploads without a word to it."""
TASKS_MOST: Final = 10_000
"""An index is made whole from so many tasks and no more, which takes a tenth of a second."""
TASKS_AT_ONCE: Final = 100
LOOKED_AT: Final = 100
GROWN: Final = 32
"""Each time that an index has grown by so many, ``LOOKED_AT`` are looked at, at random: hardly a third may be stale."""
ROUNDS: Final = 10

_LEAST, _LAST = "\0", "\1"
"""Between a key and an upload's id, and behind all uploads of a key: no key holds either. The first begins the mark."""


class UploadIndex:
    """The notes of uploads, and the indexes of them.

    Args:
        tasks: lists an owner's tasks.
        ttl_seconds: how long a note lives after it was last found.
        clock: gives Unix seconds.
    """

    def __init__(self, calls: RedisCalls, tasks: TaskIndex, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._tasks = tasks
        self._ttl_seconds = ttl_seconds
        self._clock = clock

    async def note(self, task: Task, upload_id: UploadId) -> None:
        """Note that *task* opened *upload_id*; a task that never comes to have it does no harm."""
        mine = owner_key(task.owner)
        index = uploads_index(mine, task.at.bucket.name)
        commands: list[Command] = [
            ("SET", upload_key(upload_id), f"{mine} {task.id}", "EX", self._ttl_seconds),
            ("ZADD", index, "0", _member(task.at.key, upload_id)),
            ("EXPIRE", index, self._ttl_seconds),
            ("ZCARD", index),
        ]
        count: int = (await self._calls.together("note_upload", commands))[-1]
        if count % GROWN == 0:
            with contextlib.suppress(StateStoreUnavailable):  # it is noted; the next ones come
                await self._living(index, await self._calls.command("ZRANDMEMBER", index, LOOKED_AT))

    def leaving(self, task: Task, after: Task) -> list[Command]:
        """The commands that take back what is noted of *task*'s upload when it becomes *after*."""
        if task.upload_id is None or not (after.is_final or after.upload_id != task.upload_id):
            return []
        index = uploads_index(owner_key(task.owner), task.at.bucket.name)
        commands: list[Command] = [("ZREM", index, _member(task.at.key, task.upload_id))]
        if after.upload_id is None:
            commands.append(("DEL", upload_key(task.upload_id)))
        return commands

    async def find(self, upload_ids: Sequence[UploadId], owner: str | None) -> list[TaskId | None]:
        """Who opened *upload_ids*, in one round trip; only tasks of *owner* unless that is None. Finding lengthens."""
        if not upload_ids:
            return []
        commands: list[Command] = [
            ("GETEX", upload_key(upload_id), "EX", self._ttl_seconds) for upload_id in upload_ids
        ]
        wanted = None if owner is None else owner_key(owner)
        return [_opener(note, wanted) for note in await self._calls.together("find_uploads", commands)]

    async def next(self, owner: str, bucket: Bucket, prefix: str, after: str, *, with_it: bool) -> str | None:
        """The key of *owner*'s first upload in *bucket*, or ``UNKNOWN``; see ``transfer.ports.TaskStore``."""
        mine = owner_key(owner)
        index = uploads_index(mine, bucket.name)
        if not await self._is_whole(mine, bucket.name):
            return UNKNOWN
        start = f"[{max(prefix or _LAST, after + (_LEAST if with_it else _LAST))}"
        for _ in range(ROUNDS):
            found: list[bytes] = await self._calls.command("ZRANGEBYLEX", index, start, "+", "LIMIT", 0, LOOKED_AT)
            inside = [member for member in found if member.startswith(prefix.encode())]
            living = await self._living(index, inside)
            if living:
                return living[0].partition(_LEAST)[0]
            if len(inside) < LOOKED_AT:
                return None
        return UNKNOWN

    async def _is_whole(self, owner: str, bucket: str) -> bool:
        """Whether every upload of *owner*, given as ``owner_key``, is listed; if not, what the tasks tell is listed."""
        index, now = uploads_index(owner, bucket), self._clock()
        marks, tasks = await self._calls.together(
            "uploads", [("ZRANGEBYLEX", index, "-", f"({_LAST}", "LIMIT", 0, 1), ("ZCARD", owner_index(owner))]
        )
        if marks and 0 <= now - float(marks[0].decode().removeprefix(_LEAST)) < WHOLE_SECONDS:
            return True
        if tasks > TASKS_MOST:
            return False
        members, cursor = [], None
        for _ in range(1 + TASKS_MOST // TASKS_AT_ONCE):
            page = await self._tasks.page_of(owner, cursor, TASKS_AT_ONCE)
            members += await self._open_uploads(bucket, [member.task_id for member in page])
            if len(page) < TASKS_AT_ONCE:
                break
            cursor = page[-1].text
        else:
            return False
        await self._calls.together("uploads", _marking(index, members, now, self._ttl_seconds))
        return True

    async def _open_uploads(self, bucket: str, task_ids: Sequence[TaskId]) -> list[str]:
        fields = ("state", "bucket", "key", "upload_id")
        glances: list[Command] = [("HMGET", task_keys(task_id)[0], *fields) for task_id in task_ids]
        members = []
        for told in await self._calls.each("glance", glances) if glances else []:
            state, at, key, upload_id = (text.decode() if text is not None else None for text in told)
            if state and key and upload_id and at == bucket and TaskState(state) not in FINAL_STATES:
                members.append(_member(key, upload_id))
        return members

    async def _living(self, index: str, members: Sequence[bytes]) -> list[str]:
        """Those of *members* whose upload has a note; the others are struck off. The mark is none of either."""
        texts = [text for text in (member.decode() for member in members) if not text.startswith(_LEAST)]
        notes: list[Command] = [("EXISTS", upload_key(UploadId(text.partition(_LEAST)[2]))) for text in texts]
        there = await self._calls.each("uploads", notes) if notes else []
        stale = [text for text, known in zip(texts, there, strict=True) if not known]
        if stale:
            await self._calls.command("ZREM", index, *stale)
        return [text for text, known in zip(texts, there, strict=True) if known]


def _marking(index: str, members: Sequence[str], now: float, ttl_seconds: int) -> list[Command]:
    """The commands that list *members* in *index* and mark it whole as of *now*."""
    return [
        *(("ZADD", index, "0", member) for member in members),
        ("ZREMRANGEBYLEX", index, "-", f"({_LAST}"),
        ("ZADD", index, "0", f"{_LEAST}{now!r}"),
        ("EXPIRE", index, ttl_seconds),
    ]


def _opener(note: bytes | None, wanted: str | None) -> TaskId | None:
    owner, _, task_id = (note or b"").decode().partition(" ")
    return TaskId(task_id) if task_id and wanted in (None, owner) else None


def _member(key: str, upload_id: str) -> str:
    return f"{key}{_LEAST}{upload_id}"
