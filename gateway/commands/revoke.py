"""``revoke``: ends the tokens of a subject, or one token, by what is known of it or by what a log line shows."""

import argparse
import asyncio
import time
from typing import TYPE_CHECKING

from gateway.commands.ending import FAILED, OK, CommandFailed, say

if TYPE_CHECKING:
    from gateway.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom."""
    parser.add_argument(
        "name", metavar="NAME", help="a token's sub, jti: and its jti, or the subject or token of a log line"
    )
    parser.add_argument("--undo", action="store_true", help="let them in again")


def run(given: argparse.Namespace) -> int:
    """Write it into Redis, where every process finds it."""
    from gateway.commands.given_settings import readable_settings

    return asyncio.run(_written(readable_settings(), given.name, undo=given.undo))


async def _written(settings: "Settings", name: str, *, undo: bool) -> int:
    from gateway.domain.errors import StateStoreUnavailable
    from gateway.store.redis_address import connect
    from gateway.store.revocations import RedisRevocations

    redis = connect(settings.redis_url.get_secret_value())
    revocations = RedisRevocations(redis)
    try:
        if undo:
            return OK if await revocations.undo(name) else FAILED
        await revocations.revoke(name, time.time())
    except StateStoreUnavailable:
        raise CommandFailed("GATEWAY_REDIS_URL: Redis does not answer; `doctor` says why.") from None
    finally:
        await redis.aclose()
    say(f"Revoked within {settings.token_recheck_seconds:g} s: tokens issued until now, and keys issued for them.")
    return OK
