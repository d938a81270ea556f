"""Who was revoked, as an operator writes it into Redis."""

from redis.asyncio import Redis

from gateway.store.revocations import CLOCKS_DIFFER_SECONDS, RedisRevocations


async def test_nobody_is_revoked_at_first(redis: Redis) -> None:
    assert await RedisRevocations(redis).load() == {}


async def test_a_subject_is_revoked_by_one_command_with_the_time_up_to_which_its_tokens_are_good_no_more(
    redis: Redis,
) -> None:
    await redis.execute_command("ZADD", "gw:revoked", "1800000000", "alice")  # type: ignore[no-untyped-call]
    await redis.execute_command("ZADD", "gw:revoked", "1800000001.5", "张三 \N{PILE OF POO}")  # type: ignore[no-untyped-call]

    revocations = RedisRevocations(redis)
    assert await revocations.load() == {"alice": 1.8e9, "张三 \N{PILE OF POO}": 1800000001.5}
    assert await revocations.revoked_until(["alice", "jti:1"]) == 1.8e9
    assert await revocations.revoked_until(["bob", "alice", "张三 \N{PILE OF POO}"]) == 1800000001.5
    assert await revocations.revoked_until(["bob"]) is None


async def test_s17_however_many_are_revoked_all_stay_so_as_long_as_a_token_lives(redis: Redis) -> None:
    now, life = 1_800_000_000.0, 3600
    scores = {f"subject {number}": now - number * life / 10_001 for number in range(10_001)}
    scores["to come"] = now + 60
    await redis.zadd("gw:revoked", {**scores, "ended long ago": now - life - CLOCKS_DIFFER_SECONDS - 1})

    assert await RedisRevocations(redis, life, clock=lambda: now).load() == scores
