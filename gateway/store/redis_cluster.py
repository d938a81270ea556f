"""Redis Cluster: each command goes to the master that holds its key's slot, as the cluster tells.

Every script of ours takes the keys of one hash tag, so of one slot. Messages that a script publishes reach the whole
cluster, so a subscriber may sit at any node.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.store.redis_pool import Command, LendingPool, Place

LEARN_SECONDS: Final = 0.3
"""How long one node may take to tell who holds what, and how soon it is asked again: two may be dead at once."""

ROUNDS: Final = 8
"""How often a command follows a redirection, or comes again while its slot moves."""

SETTLE_SECONDS: Final = 0.1
"""Waited before a command comes again to a slot that is moving, or to a cluster that is counting its nodes.

A script that names a key that does not exist is refused by both sides, -TRYAGAIN, until its slot has moved.
"""

_EVALS: Final = frozenset({"EVALSHA", "EVAL"})
_KEYLESS: Final = frozenset({"PING", "INFO"})
_WAIT: Final = "WAIT"
"""Is about the command before it, so that it goes to the same node."""
_REDIRECTED: Final = (AskError, TryAgainError, ClusterDownError)


class ClusterPool(LendingPool):
    """Connections to the masters of a cluster, which one of *seeds* tells. *options* are for each connection."""

    keeps_time = False  # it may ask several nodes, and again where slots move

    def __init__(self, seeds: Sequence[Place], options: dict[str, Any]) -> None:
        super().__init__(**options)
        self._seeds = list(seeds)
        self._options = options
        self._pools: dict[Place, LendingPool] = {}
        self._holders: list[LendingPool] = []
        """By slot; empty until some node told."""
        self._is_stale = True
        self._learned_at = 0.0
        self._learning = asyncio.Lock()

    def nodes(self) -> list[LendingPool]:
        """The masters that hold slots."""
        return list(dict.fromkeys(self._holders))

    def make_connection(self) -> Any:
        """For a subscriber: a connection to any node that seems to be well."""
        well = [place for place, pool in self._pools.items() if not pool.breaker.is_open]
        host, port = random.choice(well or self._seeds)  # noqa: S311 -- spreads load
        return self.connection_class(**self.connection_kwargs | {"host": host, "port": port})

    def serves(self, connection: Any) -> bool:
        """Whether *connection* leads to a node that holds slots and answers."""
        pool = self._pools.get((connection.host, connection.port))
        return not self._holders or (pool is not None and not pool.breaker.is_open)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections to every node."""
        for pool in self._pools.values():
            await pool.disconnect(inuse_connections)
        await super().disconnect(inuse_connections)

    async def ask(self, commands: Sequence[Command], *, in_turn: bool = True) -> list[Any]:
        """The answers to *commands*, as ``LendingPool.ask``; nodes work at the same time unless it is *in_turn*.

        Raises:
            RedisDown: a node did not answer a moment ago; nothing was sent to it.
            RedisError, OSError: a node did not answer; the commands may have been carried out.
        """
        await self._learn()
        answers: list[Any] = [None] * len(commands)
        due = list(range(len(commands)))
        for _ in range(ROUNDS):
            await self._ask_nodes(commands, due, answers, in_turn=in_turn)
            due = [index for index in due if isinstance(answers[index], _REDIRECTED)]
            if not due:
                break
            if not any(isinstance(answers[index], AskError) for index in due):
                await asyncio.sleep(SETTLE_SECONDS)
        return answers

    async def _ask_nodes(
        self, commands: Sequence[Command], due: Sequence[int], answers: list[Any], *, in_turn: bool
    ) -> None:
        """Ask for the answers that are *due*, each of its node, and write them down."""
        nodes: list[tuple[LendingPool, int]] = []
        for index in due:
            follows = nodes and commands[index][0] == _WAIT
            nodes.append((nodes[-1][0] if follows else self._next_node(commands[index], answers[index]), index))
        if in_turn:
            for pool, run in groupby(nodes, key=itemgetter(0)):
                await self._ask_node(pool, [index for _, index in run], commands, answers)
            return
        groups: dict[LendingPool, list[int]] = {}
        for pool, index in nodes:
            groups.setdefault(pool, []).append(index)
        asking = (self._ask_node(pool, indexes, commands, answers) for pool, indexes in groups.items())
        for failed in await asyncio.gather(*asking, return_exceptions=True):
            if failed is not None:
                raise failed

    async def _ask_node(
        self, pool: LendingPool, indexes: Sequence[int], commands: Sequence[Command], answers: list[Any]
    ) -> None:
        words: list[Command] = []
        for index in indexes:
            if _is_ask(answers[index]):
                words.append(("ASKING",))
            words.append(commands[index])
        try:
            pool.admit()
            told = iter(await pool.ask(words))
        except (RedisError, OSError):
            self._is_stale = True
            raise
        for index in indexes:
            if _is_ask(answers[index]):
                next(told)
            answers[index] = next(told)

    def _next_node(self, command: Command, answer: Any) -> LendingPool:
        """Whom to ask *command*, which was answered with *answer* before if that is a redirection."""
        if not isinstance(answer, AskError):
            return self._holder(command)
        pool = self._pool((answer.host, answer.port))
        if isinstance(answer, MovedError):
            self._holders[answer.slot_id] = pool
            self._is_stale = True
        return pool

    def _holder(self, command: Command) -> LendingPool:
        key = _key_of(command)
        slot = random.randrange(REDIS_CLUSTER_HASH_SLOTS) if key is None else key_slot(key)  # noqa: S311 -- any will do
        return self._holders[slot]

    def _pool(self, place: Place) -> LendingPool:
        if place not in self._pools:
            self._pools[place] = LendingPool(**self._options | {"host": place[0], "port": place[1]})
        return self._pools[place]

    async def _learn(self) -> None:
        """Learn who holds what, if that may have changed. Raises ConnectionError when no node tells."""
        began_at = time.monotonic()
        if not self._is_stale or began_at - self._learned_at < LEARN_SECONDS:
            return
        async with self._learning:
            if self._learned_at > began_at:  # by somebody else meanwhile
                return
            known = sorted(self._pools, key=lambda place: self._pools[place].breaker.is_open)
            for place in dict.fromkeys([*known, *self._seeds]):
                ranges = await self._ask_for_slots(place)
                if ranges is not None:
                    await self._take_in(place, ranges)
                    return
            self.breaker.failed(began_at)
            raise RedisConnectionError("no node of the cluster tells who holds what")

    async def _take_in(self, teller: Place, ranges: Any) -> None:
        self._holders = self._by_slot(teller, ranges)
        self._is_stale, self._learned_at = False, time.monotonic()
        self.breaker.answered()
        holding = set(self._holders)
        for place, pool in list(self._pools.items()):
            if pool not in holding:
                await self._pools.pop(place).disconnect()

    async def _probe(self) -> None:
        self._is_stale = True
        await self._learn()

    async def _ask_for_slots(self, place: Place) -> Any:
        try:
            async with asyncio.timeout(LEARN_SECONDS):
                (ranges,) = await self._pool(place).ask([("CLUSTER", "SLOTS")])
        except (RedisError, OSError):
            return None
        return ranges if isinstance(ranges, list) and ranges else None

    def _by_slot(self, teller: Place, ranges: Any) -> list[LendingPool]:
        """The holder of each slot; a slot that nobody holds stands with the teller, who answers -CLUSTERDOWN."""
        holders = [self._pool(teller)] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            pool = self._pool((host.decode() if host else teller[0], port))  # no host: the one that was asked
            holders[first : last + 1] = [pool] * (last - first + 1)
        return holders


def _is_ask(answer: Any) -> bool:
    return isinstance(answer, AskError) and not isinstance(answer, MovedError)


def _key_of(command: Command) -> bytes | None:
    """The key that decides where *command* goes; None when any node will do."""
    if command[0] in _KEYLESS:
        return None
    key = command[3] if command[0] in _EVALS else command[1]
    return key if isinstance(key, bytes) else str(key).encode()
