"""How Redis is called: scripts by their hash, a deadline for every call, one repeat, one error of ours.

A script may be repeated because it knows its own op id; every other command here may be by its nature.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.domain.errors import StateStoreUnavailable
from gateway.fair_timeout import FairTimeout
from gateway.store.redis_breaker import TRY_SECONDS, RedisDown
from gateway.store.redis_pool import Command, LendingPool

BUDGET_SECONDS: Final = 2.0
"""How long a call may take in all, waiting for a connection included."""

_SCRIPTS: Final = Path(__file__).parent / "scripts"
_ALONE: Final = frozenset({"read_hash", "replicas", "ledger", "forget_note"})
"""Scripts that need nothing of what the others share."""
_REPEATABLE: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, MasterDownError, OSError)

Observe = Callable[[str, float, bool], None]
"""Told of every call: its name, how many seconds it took, and whether Redis carried it out."""


class Script:
    """One file of ``scripts/``, with what is shared put before it."""

    def __init__(self, name: str) -> None:
        shared = (_SCRIPTS / "_shared.lua").read_text(encoding="utf-8") if name not in _ALONE else ""
        self.name: Final = name
        self.source: Final = shared + (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")
        self.sha: Final = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def by_hash(self, keys: Sequence[str], args: Sequence[str | bytes]) -> Command:
        """The command that runs it where it is loaded."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def by_source(self, keys: Sequence[str], args: Sequence[str | bytes]) -> Command:
        """The command that loads and runs it."""
        return ("EVAL", self.source, len(keys), *keys, *args)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script with its keys and arguments, to be run among other commands."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes]

    def by_hash(self) -> Command:
        """The command that runs it where it is loaded."""
        return self.script.by_hash(self.keys, self.args)


class RedisCalls:
    """Runs scripts and commands. Every method raises StateStoreUnavailable when Redis fails or 2 s have passed.

    *redis* comes from ``redis_address.connect``.
    """

    def __init__(self, redis: Redis, observe: Observe | None = None) -> None:
        assert isinstance(redis.connection_pool, LendingPool)
        self._pool = redis.connection_pool
        self._observe = observe

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes], *, patient: bool = False
    ) -> Any:
        """What *script* answers; repeated once when no answer came, so it must tolerate that.

        A *patient* call waits for a Redis that is known not to answer, instead of failing unsent.
        """
        return (await self.run_each(script, [(keys, args)], patient=patient))[0]

    async def run_each(
        self, script: Script, each: Sequence[tuple[Sequence[str], Sequence[str | bytes]]], *, patient: bool = False
    ) -> list[Any]:
        """What *script* answers for each pair of keys and arguments, in one round trip."""
        by_hash = [script.by_hash(*one) for one in each]
        answers = await self._carry_out(script.name, by_hash, in_turn=False, patient=patient)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            by_source = [script.by_source(*one) for one in each]
            answers = await self._carry_out(script.name, by_source, in_turn=False, patient=patient)
        return answers

    async def command(self, *words: str | bytes | int | float) -> Any:
        """One command that may be repeated."""
        return (await self.together(str(words[0]).lower(), [words]))[0]

    async def together(self, name: str, commands: Sequence[Command]) -> list[Any]:
        """The answers to *commands*, carried out in turn, in one round trip to each server; not atomic.

        Each may be repeated. A NoScriptError is an answer here; any other error is raised.
        """
        return await self._carry_out(name, commands, in_turn=True)

    async def in_turn(self, name: str, steps: Sequence[Command | ScriptCall], *, hints: int = 0) -> list[Any]:
        """The answers to *steps*, carried out in turn as by ``together``.

        The first *hints* of them may be left out by a Redis that is full: they are then answered with None.
        """
        commands = [step.by_hash() if isinstance(step, ScriptCall) else step for step in steps]
        answers = await self._carry_out(name, commands, in_turn=True, hints=hints)
        for index, step in enumerate(steps):
            if isinstance(answers[index], NoScriptError) and isinstance(step, ScriptCall):
                answers[index] = await self.run(step.script, step.keys, step.args)
        return answers

    async def each(self, name: str, commands: Sequence[Command]) -> list[Any]:
        """The answers to *commands*, in one round trip to each server, carried out in any order."""
        return await self._carry_out(name, commands, in_turn=False)

    async def _carry_out(
        self, name: str, commands: Sequence[Command], *, in_turn: bool, hints: int = 0, patient: bool = False
    ) -> list[Any]:
        started, was_done = time.perf_counter(), False
        try:
            async with self._deadline(patient):
                answers = await self._ask(commands, in_turn=in_turn, patient=patient)
            for index, answer in enumerate(answers):
                if index < hints and isinstance(answer, OutOfMemoryError):
                    answers[index] = None
                elif isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError):
                    raise answer
            was_done = True
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            raise StateStoreUnavailable(f"Redis did not carry out {name}.") from exc
        finally:
            if self._observe is not None:
                self._observe(name, time.perf_counter() - started, was_done)
        return answers

    def _deadline(self, patient: bool) -> AbstractAsyncContextManager[object]:
        """``BUDGET_SECONDS``; none of its own where all the time goes to two attempts, which have half of it each."""
        waits = patient or self._pool.turn.locked() or not self._pool.keeps_time
        return FairTimeout(BUDGET_SECONDS) if waits else nullcontext()

    async def _ask(self, commands: Sequence[Command], *, in_turn: bool, patient: bool) -> list[Any]:
        while True:
            try:
                self._pool.admit()
                async with self._pool.turn:
                    return await self._ask_twice(commands, in_turn=in_turn)
            except RedisDown:
                if not patient:
                    raise
            await asyncio.sleep(TRY_SECONDS)

    async def _ask_twice(self, commands: Sequence[Command], *, in_turn: bool) -> list[Any]:
        """Ask, and when no answer came ask again, over a connection made anew: idle ones may be dead."""
        try:
            return await self._pool.ask(commands, in_turn=in_turn)
        except _REPEATABLE:
            return await self._pool.ask(commands, in_turn=in_turn)
