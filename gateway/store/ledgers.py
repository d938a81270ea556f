"""What an owner has in Redis, by weight in bytes: one ledger of unfinished tasks, one of tails, one of what has ended.

A ledger is kept apart from what it lists, in the slot of the owner's index. It errs on the safe side: a name is noted
before, or together with, what it stands for, and struck off behind it. What it lists too much is found when it is full;
what it lacks, because Redis lost it, is noted again by ``ledger_repair``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.task import Task
from gateway.store.redis_calls import Script, ScriptCall
from gateway.store.redis_keys import ALL_TAILS, ledger_keys, owner_key
from gateway.store.task_codec import encode_task

UNIT_BYTES: Final = 256
TASK_BYTES: Final = 1024
"""An unfinished task: what one counts in the quota; up to five times as much is there, with an upload and few parts."""
ENDED_BYTES: Final = 2176
"""An ended task without its long fields, of which a result is one, its entries in indexes and its notes."""
PART_BYTES: Final = 176
"""A stored part."""
NOTE_BYTES: Final = 512
"""A note of an Idempotency-Key."""
_TAIL_BYTES: Final = 256
_SHORT_CHARACTERS: Final = 64
"""Redis keeps a hash whose values are all this short in a third of the memory."""
_FREE_BYTES: Final = 1024

DEFAULT_SHARE_BYTES: Final = 256 * 1024 * 1024
DEFAULT_TASKS: Final = 100_000
OWNERS_PER_REDIS: Final = 16
"""No ledger of an owner may list more than this part of what Redis may take."""
LEAST_SHARE_BYTES: Final = 256 * 1024
"""However little Redis may take."""

_LEDGER: Final = Script("ledger")
_SCORES_PER_SECOND: Final = 128 * 2**14
_NO_BOUND_BYTES: Final = 2**52


class Shares:
    """How much one owner may have in Redis, in bytes.

    Args:
        owner_bytes: for what has ended, and as much again for tails.
        tasks: unfinished tasks with short fields.
    """

    def __init__(self, owner_bytes: int = DEFAULT_SHARE_BYTES, tasks: int = DEFAULT_TASKS) -> None:
        self._owner_bytes = owner_bytes
        self._tasks = tasks
        self._redis_bytes = 0

    def learn(self, redis_bytes: int) -> None:
        """The smallest server may take *redis_bytes*; 0: as much as there is."""
        self._redis_bytes = redis_bytes

    @property
    def ended(self) -> int:
        """For what has ended: tasks, batches, Idempotency-Keys."""
        return min(self._owner_bytes, self._of_redis(OWNERS_PER_REDIS))

    @property
    def tails(self) -> int:
        """For tails."""
        return min(self._owner_bytes, self._of_redis(OWNERS_PER_REDIS))

    @property
    def open(self) -> int:
        """For unfinished tasks, as they count: beyond it no new one begins."""
        return min(self._tasks * TASK_BYTES, self._of_redis(2 * OWNERS_PER_REDIS))

    @property
    def open_with_parts(self) -> int:
        """For unfinished tasks, as they count: beyond it none of them gets more parts.

        Large files that have begun may so end: a hundred and fifty of 10,000 parts each, with the defaults.
        """
        return min(self._tasks * TASK_BYTES + self._owner_bytes, self._of_redis(OWNERS_PER_REDIS // 2))

    @property
    def all_tails(self) -> int:
        """For the tails of all owners together."""
        return self._of_redis(4)

    def _of_redis(self, parts: int) -> int:
        return max(LEAST_SHARE_BYTES, self._redis_bytes // parts) if self._redis_bytes else _NO_BOUND_BYTES


@dataclass(frozen=True, slots=True)
class Noted:
    """A ledger's answer: whether the name is noted, the bytes of all, those that the name had before, and the names
    that are too many, the oldest first."""

    fits: bool
    total_bytes: int
    before_bytes: int
    oldest: tuple[str, ...]


class Ledgers:
    """The ledgers of all owners: makes the calls that write them. Owners are given as ``owner_key``.

    Args:
        life_seconds: a name noted longer ago stands for something that has expired.
        clock: gives Unix seconds.
    """

    def __init__(self, shares: Shares, life_seconds: float, clock: Callable[[], float]) -> None:
        self.shares: Final = shares
        self._life_seconds = life_seconds
        self._clock = clock

    def opening(
        self, task: Task, *, must_fit: bool, at: float | None = None, besides: int = 0, most_bytes: int | None = None
    ) -> ScriptCall:
        """Note an unfinished *task* and *besides* bytes more, if they fit or need not, as of Unix time *at* or now.

        All may be *most_bytes*, or what new tasks may fill.
        """
        most = self.shares.open if most_bytes is None else most_bytes
        ledger, entry = ledger_keys(owner_key(task.owner)).open, (task.id, open_bytes(encode_task(task)) + besides)
        return self._call((ledger,), most, entry, at=at, must_fit=must_fit)

    def ending(
        self, task: Task, fields: Mapping[str, str], *, was_open: bool = True, had_tail: bool = True
    ) -> ScriptCall:
        """Note a *task* that has ended and is stored as *fields*, and strike it off the others if it *was_open*.

        Off that of tails only if it *had_tail*: what else that one lists is found when it is full.
        """
        keys = ledger_keys(owner_key(task.owner))
        ledgers = (keys.ended, *((keys.open,) if was_open else ()), *((keys.tails,) if had_tail else ()))
        return self._call(ledgers, self.shares.ended, (task.id, ended_bytes(fields)), at=task.updated_at)

    def leaving(self, owner: str, name: str, size: int) -> ScriptCall:
        """Note that *name*, which is no task, was left behind with *size* bytes."""
        return self._call((ledger_keys(owner).ended,), self.shares.ended, (name, size))

    def keeping_tail(self, ledger: str, task_id: str, size: int, *, must_fit: bool = True) -> ScriptCall:
        """Note a tail that counts *size* bytes in *ledger*, its owner's or everybody's."""
        most = self.shares.all_tails if ledger == ALL_TAILS else self.shares.tails
        return self._call((ledger,), most, (task_id, size), must_fit=must_fit)

    def striking(self, ledger: str, *names: str, most_bytes: int = _NO_BOUND_BYTES) -> ScriptCall:
        """Strike *names*, at least one, off; the answer tells what is more than *most_bytes* then."""
        return self._call((ledger,), most_bytes, *((name, 0) for name in names))

    def _call(
        self,
        ledgers: tuple[str, ...],
        most_bytes: int,
        *entries: tuple[str, int],
        at: float | None = None,
        must_fit: bool = False,
    ) -> ScriptCall:
        now = self._clock() if at is None else at
        args = [repr(now), str(self._life_seconds), str(most_bytes // UNIT_BYTES), "1" if must_fit else ""]
        for name, size in entries:
            args += (name, str(-(-size // UNIT_BYTES)))
        return ScriptCall(_LEDGER, ledgers, args)


def noted(answer: bytes) -> Noted:
    """What ``ledger.lua`` answers."""
    fits, total, before, *names = answer.decode().split(" ")
    return Noted(fits == "1", int(total) * UNIT_BYTES, int(before) * UNIT_BYTES, tuple(names))


def noted_at(score: bytes) -> float:
    """The Unix time in a ledger's score."""
    return float(score) // _SCORES_PER_SECOND


def open_bytes(fields: Mapping[str, str]) -> int:
    """What an unfinished task counts that is stored as *fields*: ``TASK_BYTES``, and what parts and long fields add.

    The first KiB of these is free: a long key or sub makes no task count twice.
    """
    long = _long_bytes(fields, "upload_id") * 5 // 4
    return TASK_BYTES + max(0, long - _FREE_BYTES) + _parts_bytes(fields)


def ended_bytes(fields: Mapping[str, str]) -> int:
    """What a task counts that has ended and is stored as *fields*."""
    return ENDED_BYTES + _long_bytes(fields) * 5 // 4 + _parts_bytes(fields)


def tail_bytes(size: int) -> int:
    """What a tail of *size* bytes counts: Redis allocates up to a quarter more."""
    return size * 5 // 4 + _TAIL_BYTES if size else 0


def _parts_bytes(fields: Mapping[str, str]) -> int:
    return int(fields.get("stored_count", 0)) * PART_BYTES


def _long_bytes(fields: Mapping[str, str], besides: str = "") -> int:
    return sum(len(text.encode()) for name, text in fields.items() if len(text) > _SHORT_CHARACTERS and name != besides)
