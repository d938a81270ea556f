"""How Redis is called: scripts by their hash, a deadline for every call, one repeat, one error of ours.

redis-py's own repeats are off: it repeats any write after a late reply (one INCR ran twice). A script may be repeated
here because it knows its own op id. redis-py's own timeouts are off too: with them it sends through
``asyncio.wait_for``, which costs a task per call and, in Python 3.11, may swallow a cancellation. hiredis is not
needed: scripts answer one JSON text, which takes the same CPU with and without it.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.domain.errors import StateStoreUnavailable

CALL_SECONDS: Final = 1.0
"""How long each of a call's two attempts may take, waiting for a connection included."""

CONNECTIONS: Final = 20
"""Calls take well under a millisecond, so 500 bodies share them; a call waits for a free one."""

_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_SCRIPTS: Final = Path(__file__).parent / "scripts"
_REPEATABLE: Final = (RedisConnectionError, RedisTimeoutError, OSError)

Observe = Callable[[str, float], None]
"""Told of every call: its name and how many seconds it took."""

Command = tuple[str | bytes | int | float, ...]
_T = TypeVar("_T")


def connect(url: str) -> Redis:
    """A client for *url* (``redis:// rediss:// unix://``) that connects when first used.

    It repeats nothing and times nothing out: ``RedisCalls`` does.

    Raises:
        ValueError: another scheme.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        raise ValueError("the Redis address must begin with redis://, rediss:// or unix://")
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Redis.from_pool(pool)


class Script:
    """One file of ``scripts/``, with what is shared put before it."""

    def __init__(self, name: str) -> None:
        shared = (_SCRIPTS / "_shared.lua").read_text(encoding="utf-8") if name != "read_hash" else ""
        self.name: Final = name
        self.source: Final = shared + (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")
        self.sha: Final = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def by_hash(self, keys: Sequence[str], args: Sequence[str | bytes]) -> Command:
        """The command that runs it where it is loaded."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def by_source(self, keys: Sequence[str], args: Sequence[str | bytes]) -> Command:
        """The command that loads and runs it."""
        return ("EVAL", self.source, len(keys), *keys, *args)


class RedisCalls:
    """Runs scripts and commands. Every method raises StateStoreUnavailable when Redis fails or 2 s have passed."""

    def __init__(self, redis: Redis, observe: Observe | None = None) -> None:
        self._redis: Any = redis  # execute_command has no types
        self._observe = observe

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        """What *script* answers; repeated once when no answer came, so it must tolerate that."""

        async def send() -> Any:
            try:
                return await self._redis.execute_command(*script.by_hash(keys, args))
            except NoScriptError:
                return await self._redis.execute_command(*script.by_source(keys, args))

        return await self._call(script.name, send)

    async def command(self, *words: str | bytes | int | float) -> Any:
        """One command that may be repeated."""
        return await self._call(str(words[0]).lower(), lambda: self._redis.execute_command(*words))

    async def together(self, name: str, commands: Sequence[Command]) -> list[Any]:
        """The answers to *commands* in one round trip; not atomic. Each may be repeated.

        A NoScriptError is an answer here; any other error is raised.
        """

        async def send() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for words in commands:
                    pipeline.execute_command(*words)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
                    raise answer
            return answers

        return await self._call(name, send)

    async def run_each(self, script: Script, each: Sequence[tuple[Sequence[str], Sequence[str | bytes]]]) -> list[Any]:
        """What *script* answers for each pair of keys and arguments, in one round trip."""
        answers = await self.together(script.name, [script.by_hash(keys, args) for keys, args in each])
        if any(isinstance(answer, NoScriptError) for answer in answers):
            answers = await self.together(script.name, [script.by_source(keys, args) for keys, args in each])
        return answers

    async def _call(self, name: str, send: Callable[[], Awaitable[_T]]) -> _T:
        started = time.perf_counter()
        try:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    return await send()
            except _REPEATABLE:
                async with asyncio.timeout(CALL_SECONDS):
                    return await send()
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            raise StateStoreUnavailable(f"Redis did not carry out {name}.") from exc
        finally:
            if self._observe is not None:
                self._observe(name, time.perf_counter() - started)
