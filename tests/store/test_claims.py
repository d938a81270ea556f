from redis.asyncio import Redis

from gateway.store.claims import Claims
from gateway.store.redis_calls import RedisCalls


async def test_one_claim_holds_for_its_time(redis: Redis) -> None:
    here, there = Claims(RedisCalls(redis)), Claims(RedisCalls(redis))

    assert await here.take("sweep:a", 60)
    assert not await there.take("sweep:a", 60)
    assert not await here.take("sweep:a", 60)
    assert await there.take("sweep:b", 60)
    assert 50_000 < await redis.pttl("gw:claim:sweep:a") <= 60_000
