"""``doctor`` says how full Redis is and who fills it."""

import pytest

from gateway.commands.findings import Level
from gateway.commands.owner_survey import look_at_owners
from gateway.commands.redis_survey import look_at_redis
from gateway.domain.task import CancelRequested
from gateway.store.redis_address import connect
from gateway.store.redis_keys import owner_key
from gateway.store.redis_pool import LendingPool
from gateway.store.task_store import RedisTaskStore
from tests.fakes.redis_server import running_redis, send_command
from tests.store.conftest import TTL_SECONDS, new_task


@pytest.mark.parametrize(("maxmemory", "level"), [("0", Level.OK), ("100mb", Level.OK), ("1", Level.WARNING)])
async def test_s5_the_largest_owners_are_named_the_largest_first(maxmemory: str, level: Level) -> None:
    with running_redis() as url:
        client = connect(url)
        store = RedisTaskStore(client, ttl_seconds=TTL_SECONDS)
        for count, owner in enumerate(("bob", "carol", "dora", "alice"), 1):
            for number in range(count * 5):
                task = await store.restore(new_task(100 * count + number, owner=owner), ())
                await store.apply(task, CancelRequested())
        send_command(url, "CONFIG", "SET", "maxmemory", maxmemory)

        pool = client.connection_pool
        assert isinstance(pool, LendingPool)
        finding = await look_at_owners(pool)
        told = await look_at_redis(url, name_owners=True)
        await client.aclose()

    places = [finding.text.find(owner_key(owner)[:16]) for owner in ("alice", "dora", "carol")]
    assert places == sorted(places)
    assert -1 not in places
    assert owner_key("bob")[:16] not in finding.text
    assert finding.level is level
    assert told[-1].about == finding.about


async def test_an_empty_redis_has_no_owners(redis_url: str) -> None:
    client = connect(redis_url)
    pool = client.connection_pool
    assert isinstance(pool, LendingPool)

    finding = await look_at_owners(pool)
    await client.aclose()

    assert finding.text.endswith("no subject has anything there")
