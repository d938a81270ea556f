"""Appends whose answers are lost, and bodies that end early: the object's length decides, and nothing is sent twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.domain.errors import (
    AppendPosition,
    BodyIncomplete,
    DigestMismatch,
    FileTooLarge,
    StorageUnavailable,
    TypeNotAllowed,
)
from gateway.domain.objects import Appended
from gateway.domain.parts import MAX_PUT_BYTES, MIB
from gateway.domain.policy import Caller, Policy
from gateway.transfer.digests import Digests
from gateway.transfer.object_calls import NewAppend, ObjectCalls, ObjectName
from tests.fakes.local_cos import BUCKET
from tests.transfer.kit import ALICE, PLACES, Client, World, random_bytes, running_world, sent

HELLO = b"hello"


async def append(
    world: World,
    key: str,
    position: int,
    body: bytes | AsyncIterator[bytes],
    length: int | None = None,
    caller: Caller = ALICE,
    **said: Any,
) -> Appended:
    calls = ObjectCalls(world.engine, PLACES)
    size = len(body) if isinstance(body, bytes) else 0
    new = NewAppend(position, size if length is None else length, "text/plain")
    source = sent(body) if isinstance(body, bytes) else body
    return await calls.append(caller, ObjectName(key), new, source, Digests(**said))


@pytest.mark.parametrize("action", ["lost_answer", "reset", "error"])
@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_after_a_doubt_the_length_decides_and_cos_hears_of_it_once(
    redis_url: str, cos: Any, action: str, budget_bytes: int
) -> None:
    key = f"append/{action}/{budget_bytes}"
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        await append(world, key, 0, HELLO)
        cos.fault(action, operation="AppendObject", key=key)
        if action == "lost_answer":
            done = await append(world, key, 5, b" world")
            assert (done.next_position, cos.read(BUCKET, key)) == (11, b"hello world")
        else:
            with pytest.raises(StorageUnavailable) as failed:
                await append(world, key, 5, b" world")
            assert failed.value.retryable
            assert cos.read(BUCKET, key) == HELLO

        assert len(cos.journal("AppendObject", key=key)) == 2


async def test_a_doubt_about_the_first_append_of_an_object_that_does_not_exist(world: World) -> None:
    world.cos.fault("reset", operation="AppendObject")
    with pytest.raises(StorageUnavailable):
        await append(world, "append/first", 0, HELLO)

    assert (await append(world, "append/first", 0, HELLO)).next_position == 5


async def test_a_doubt_where_somebody_else_appended_is_a_wrong_position(world: World) -> None:
    key = "append/somebody"
    await append(world, key, 0, HELLO)
    world.cos.fault("reset", operation="AppendObject", key=key)
    gate = world.objects.hold("head_object")
    mine = asyncio.create_task(append(world, key, 5, b" world"))
    await gate.reached_by(1)
    theirs = await append(world, key, 5, b"!")
    gate.open()

    with pytest.raises(AppendPosition) as refused:
        await mine
    assert refused.value.facts["expected"] == theirs.next_position == 6


async def test_other_bytes_of_the_same_length_at_position_0_are_not_taken_for_ours(world: World) -> None:
    key = "append/same-length"
    world.cos.fault("reset", operation="AppendObject", key=key)
    gate = world.objects.hold("head_object")
    mine = asyncio.create_task(append(world, key, 0, HELLO))
    await gate.reached_by(1)
    await append(world, key, 0, b"HELLO")
    gate.open()

    with pytest.raises(AppendPosition):
        await mine


async def test_a_body_that_breaks_off_appends_nothing(world: World) -> None:
    client = Client(random_bytes(1000))
    appending = asyncio.create_task(append(world, "append/broken", 0, client, 2000))
    await client.taken()
    client.end()

    with pytest.raises(BodyIncomplete):
        await appending
    assert "append/broken" not in world.cos.keys(BUCKET)


async def test_a_body_with_another_crc_appends_nothing(world: World) -> None:
    with pytest.raises(DigestMismatch):
        await append(world, "append/crc", 0, HELLO, crc64=1)

    assert "append/crc" not in world.cos.keys(BUCKET)


async def test_a_body_with_another_md5_appends_nothing(world: World) -> None:
    with pytest.raises(DigestMismatch):
        await append(world, "append/md5", 0, HELLO, md5_base64="AAAAAAAAAAAAAAAAAAAAAA==")

    assert "append/md5" not in world.cos.keys(BUCKET)


async def test_cos_may_refuse_before_the_client_has_sent_everything(world: World) -> None:
    await append(world, "append/early", 0, HELLO)
    world.cos.fault("early_error", operation="AppendObject", status=409, code="AppendPositionErr")
    client = Client(random_bytes(1000))

    with pytest.raises(AppendPosition):
        await append(world, "append/early", 3, client, MIB)


async def test_what_the_policy_forbids_never_reaches_cos(world: World) -> None:
    small = Caller("alice", Policy(max_size=10, types=("image/*",)), 2e9)
    with pytest.raises(TypeNotAllowed):
        await append(world, "append/policy", 0, HELLO, caller=small)
    with pytest.raises(FileTooLarge):
        await append(world, "append/policy", 8, HELLO, caller=Caller("alice", Policy(max_size=10), 2e9))
    with pytest.raises(FileTooLarge):
        await append(world, "append/policy", MAX_PUT_BYTES, HELLO)

    assert world.cos.journal("AppendObject", key="append/policy") == []
