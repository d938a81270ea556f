"""Which tasks there are: an index per owner, and one of everybody.

An index is a sorted set whose members all have score 0 and begin with the time of creation: pages follow from the
last member seen, so they are stable while tasks come and go. An index only ever lists too much: whoever finds a
member without its task removes it.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.domain.errors import BadQuery
from gateway.domain.task import Task, TaskId
from gateway.store.redis_calls import RedisCalls, Script, ScriptCall
from gateway.store.redis_keys import (
    EVERY_OWNER,
    content_key,
    owner_index,
    owner_key,
)
from gateway.store.redis_pool import Command

YOUNG_SECONDS: Final = 60.0
"""A member this young may belong to a task that is just being created."""

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
        return await self.page_of(None if owner is None else owner_key(owner), cursor, limit)

    async def page_of(self, owner: str | None, cursor: str | None, limit: int) -> list[Member]:
        """As ``page``, of *owner* given as ``owner_key``."""
        index = EVERY_OWNER if owner is None else owner_index(owner)
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


def _member(text: str) -> Member:
    return Member(text, TaskId(text[14:].rpartition(":")[0]), int(text[:14], 16) / 1e6)
