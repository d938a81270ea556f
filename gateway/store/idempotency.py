"""Idempotency-Keys in Redis: what the first request under each of them made, for a day.

A note is the id of what was made, when (Unix seconds) and the request's digest, with spaces between.
"""

from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import IdempotencyConflict
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import idempotency_key
from gateway.transfer.ports import Idempotency

IDEMPOTENCY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Made:
    """A task or batch that was made under an Idempotency-Key."""

    id: str
    created_at: float


class IdempotencyNotes:
    """The notes in Redis."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def first(self, owner: str, idempotency: Idempotency, made: Made) -> Made:
        """What *owner* made first under the key: *made* itself, which is noted, if nothing was.

        Raises:
            IdempotencyConflict: the key was used for another request.
        """
        name = idempotency_key(owner, idempotency.key)
        note = f"{made.id} {made.created_at!r} {idempotency.request_digest}"
        _, noted = await self._calls.together(
            "idempotency", [("SET", name, note, "NX", "EX", IDEMPOTENCY_SECONDS), ("GET", name)]
        )
        # Redis may lose the key between the two; ours is as good as noted then.
        first, digest = _read(note if noted is None else noted.decode())
        if digest != idempotency.request_digest:
            raise IdempotencyConflict("The Idempotency-Key was used for another request within the last 24 hours.")
        return first

    async def find(self, owner: str, key: str) -> Made | None:
        """What *owner* made first under *key*; it may be gone since."""
        noted = await self._calls.command("GET", idempotency_key(owner, key))
        return None if noted is None else _read(noted.decode())[0]


def _read(note: str) -> tuple[Made, str]:
    made_id, created_at, digest = note.split(" ", 2)
    return Made(made_id, float(created_at)), digest
