"""Short claims on periodic work, so that not every process does it: they save work, nothing relies on them."""

from gateway.store.redis_calls import RedisCalls
from gateway.store.redis_keys import claim_key


class Claims:
    """Claims in Redis."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def take(self, name: str, seconds: float) -> bool:
        """Whether nobody did *name* for *seconds*; then it is ours. Raises StateStoreUnavailable.

        An answer that was lost leaves it undone until *seconds* have passed.
        """
        taken = await self._calls.command("SET", claim_key(name), "1", "NX", "PX", max(1, int(seconds * 1000)))
        return taken is not None
