"""Idempotency-Keys in Redis: what the first request under each of them made, for a day.

A note is the id of what was made, when (Unix seconds) and the request's digest, with spaces between. Where an owner's
share of Redis is full the oldest are forgotten earlier: see ``ended_things``.
"""

from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import IdempotencyConflict
from gateway.store.ended_things import ONCE, EndedThings
from gateway.store.ledgers import NOTE_BYTES, Ledgers
from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import idempotency_key, idempotency_name, owner_key
from gateway.transfer.ports import Idempotency

IDEMPOTENCY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Made:
    """A task or batch that was made under an Idempotency-Key."""

    id: str
    created_at: float


class IdempotencyNotes:
    """The notes in Redis."""

    def __init__(self, calls: RedisCalls, ledgers: Ledgers) -> None:
        self._calls = calls
        self._ledgers = ledgers
        self._ended = EndedThings(calls, ledgers)

    async def first(self, owner: str, idempotency: Idempotency, made: Made) -> Made:
        """What *owner* made first under the key: *made* itself, which is noted, if nothing was.

        Raises:
            IdempotencyConflict: the key was used for another request.
        """
        name = idempotency_key(owner, idempotency.key)
        note = f"{made.id} {made.created_at!r} {idempotency.request_digest}"
        left = self._ledgers.leaving(owner_key(owner), ONCE + idempotency_name(idempotency.key), NOTE_BYTES)
        _, noted, ledger = await self._calls.in_turn(
            "idempotency", [("SET", name, note, "NX", "EX", IDEMPOTENCY_SECONDS), ("GET", name), left]
        )
        await self._ended.make_room(owner_key(owner), ledger)
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
