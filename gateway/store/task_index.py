"""Which tasks there are: an index per owner, one of everybody, and the uploads.

An index is a sorted set whose members all have score 0 and begin with the time of creation: pages follow from the
last member seen, so they are stable while tasks come and go. An index only ever lists too much: whoever finds a
member without its task removes it.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.domain.errors import BadQuery
from gateway.domain.objects import Bucket, UploadId
from gateway.domain.task import Task, TaskId
from gateway.store.redis_calls import RedisCalls, Script, ScriptCall
from gateway.store.redis_keys import (
    EVERY_OWNER,
    content_key,
    owner_index,
    owner_key,
    upload_key,
    uploads_index,
)
from gateway.store.redis_pool import Command

YOUNG_SECONDS: Final = 60.0
"""A member this young may belong to a task that is just being created."""

_LEAST, _LAST = "\0", "\1"
"""Between a key and an upload's id, and behind all uploads of a key: no key holds either."""
_FORGET_NOTE: Final = Script("forget_note")
_CURSOR: Final = re.compile(r"[0-9a-f]{14}[!-~]{1,200}")


class Member(NamedTuple):
    """One entry of an index."""

    text: str
    task_id: TaskId
    created_at: float

    @property
    def owner_key(self) -> str:
        return self.text.rpartition(":")[2]


def member_of(task: Task) -> str:
    """Creation time in microseconds, id and owner: sorts by age, and names the owner's index when the task is gone."""
    return member_text(task.created_at, task.id, owner_key(task.owner))


def member_text(created_at: float, task_id: TaskId, owner: str) -> str:
    """The entry of a task of *owner*, given as ``owner_key``; see ``member_of``."""
    return f"{int(created_at * 1e6):014x}{task_id}:{owner}"


def require_cursor(cursor: str) -> None:
    """Raise BadQuery unless *cursor* looks like a member."""
    if not _CURSOR.fullmatch(cursor):
        raise BadQuery("The cursor is not one of ours.")


class TaskIndex:
    """The indexes in Redis."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    def adding(self, task: Task, ttl_seconds: int) -> list[Command]:
        """The commands that list *task*, and note its content if that is known; repeating them changes nothing."""
        member = member_of(task)
        commands: list[Command] = [
            ("ZADD", owner_index(owner_key(task.owner)), "0", member),
            ("ZADD", EVERY_OWNER, "0", member),
        ]
        if task.content is not None:
            commands.append(("SET", content_key(task.owner, task.content), task.id, "EX", ttl_seconds))
        return commands

    def leaving(self, task: Task, after: Task) -> list[Command | ScriptCall]:
        """The commands that take back the notes which *task* no longer needs when it becomes *after*."""
        steps: list[Command | ScriptCall] = []
        if after.is_final or after.upload_id != task.upload_id:
            steps += self.dropping_upload(task)
        if task.upload_id is not None and after.upload_id is None:
            steps.append(("DEL", upload_key(task.upload_id)))
        if task.content is not None and after.content is None:
            steps.append(ScriptCall(_FORGET_NOTE, (content_key(task.owner, task.content),), (task.id,)))
        return steps

    def listing(self, member: Member) -> Command:
        """The command that lists *member* with its owner, where that index may have lost it."""
        return "ZADD", owner_index(member.owner_key), "NX", "0", member.text

    async def find_content(self, owner: str, content: str, ttl_seconds: int) -> TaskId | None:
        """The newest task of *owner* with this *content*, which may be gone since. Finding lengthens."""
        found = await self._calls.command("GETEX", content_key(owner, content), "EX", ttl_seconds)
        return None if found is None else TaskId(found.decode())

    async def page(self, owner: str | None, cursor: str | None, limit: int) -> list[Member]:
        """Up to *limit* members after *cursor*, newest first; *owner* None means everybody's."""
        index = EVERY_OWNER if owner is None else owner_index(owner_key(owner))
        start = "+" if cursor is None else f"({cursor}"
        texts: list[bytes] = await self._calls.command("ZREVRANGEBYLEX", index, start, "-", "LIMIT", 0, limit)
        return [_member(text.decode()) for text in texts]

    async def forget(self, members: Sequence[Member], now: float) -> None:
        """Remove members whose task is gone, from their owner's index and everybody's."""
        commands: list[Command] = []
        for member in members:
            if now - member.created_at > YOUNG_SECONDS:
                mine = owner_index(member.owner_key)
                commands += [("ZREM", mine, member.text), ("ZREM", EVERY_OWNER, member.text)]
        if commands:
            await self._calls.together("forget", commands)

    async def note_upload(self, task: Task, upload_id: UploadId, ttl_seconds: int) -> None:
        """Note that *task* opened *upload_id*; a task that never comes to have it does no harm."""
        mine = owner_key(task.owner)
        index = uploads_index(mine, task.at.bucket.name)
        await self._calls.together(
            "note_upload",
            [
                ("SET", upload_key(upload_id), f"{mine} {task.id}", "EX", ttl_seconds),
                ("ZADD", index, "0", _upload_member(task.at.key, upload_id)),
                ("EXPIRE", index, ttl_seconds),
            ],
        )

    def dropping_upload(self, task: Task) -> list[Command]:
        """The commands that note that *task* has left its upload."""
        if task.upload_id is None:
            return []
        index = uploads_index(owner_key(task.owner), task.at.bucket.name)
        return [("ZREM", index, _upload_member(task.at.key, task.upload_id))]

    async def next_upload(self, owner: str, bucket: Bucket, prefix: str, after: str, *, with_it: bool) -> str | None:
        """The key of *owner*'s first upload in *bucket*; see ``transfer.ports.TaskStore``."""
        start = f"[{max(prefix, after + (_LEAST if with_it else _LAST))}"
        index = uploads_index(owner_key(owner), bucket.name)
        found: list[bytes] = await self._calls.command("ZRANGEBYLEX", index, start, "+", "LIMIT", 0, 1)
        first = found[0].decode().partition(_LEAST)[0] if found else None
        return first if first is not None and first.startswith(prefix) else None

    async def find_uploads(
        self, upload_ids: Sequence[UploadId], owner: str | None, ttl_seconds: int
    ) -> list[TaskId | None]:
        """Who opened *upload_ids*, in one round trip; only tasks of *owner* unless that is None. Finding lengthens."""
        if not upload_ids:
            return []
        commands: list[Command] = [("GETEX", upload_key(upload_id), "EX", ttl_seconds) for upload_id in upload_ids]
        wanted = None if owner is None else owner_key(owner)
        return [_opener(note, wanted) for note in await self._calls.together("find_uploads", commands)]


def _opener(note: bytes | None, wanted: str | None) -> TaskId | None:
    owner, _, task_id = (note or b"").decode().partition(" ")
    return TaskId(task_id) if task_id and wanted in (None, owner) else None


def _upload_member(key: str, upload_id: str) -> str:
    return f"{key}{_LEAST}{upload_id}"


def _member(text: str) -> Member:
    return Member(text, TaskId(text[14:].rpartition(":")[0]), int(text[:14], 16) / 1e6)
