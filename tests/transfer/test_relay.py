"""Numbered parts: any order, in parallel, again; and every way in which a body or COS can fail."""

import asyncio
import sys
import time
from base64 import b64encode
from hashlib import md5

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import (
    BodyIncomplete,
    Conflict,
    DigestMismatch,
    FileTooLarge,
    Forbidden,
    GatewayError,
    InvalidPartNumber,
    PartInProgress,
    PartSizeMismatch,
    PartTooLarge,
    PreconditionFailed,
    StorageDenied,
    StorageUnavailable,
    TaskCanceled,
    TaskInError,
    TaskMode,
    TaskNotFound,
    TaskPaused,
    TaskSucceeded,
    UploadLost,
)
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import BodyMode, TaskId, TaskState
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.digests import Digests
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.relay import PartConditions, pass_on_failure, release_after
from gateway.transfer.replay import IncomingBody, ReplayBudget
from tests.fakes.local_cos import RunningCos
from tests.transfer.kit import (
    ALICE,
    BOB,
    CHUNK_BYTES,
    Client,
    ClientLeft,
    World,
    kinds,
    part_of,
    random_bytes,
    running_world,
    sent,
)

DATA = random_bytes(3 * MIB + 5)


async def complete(world: World, task_id: TaskId) -> None:
    await world.control.complete(ALICE, task_id, CompleteWanted())


async def test_a_task_is_uploading_from_its_first_byte_on_and_waiting_after_a_part_that_was_refused(
    world: World,
) -> None:
    task = await world.create(size=len(DATA))
    with pytest.raises(PartSizeMismatch):
        await world.put_part(task, 1, DATA[:5])
    assert (await world.load(task)).state is TaskState.WAITING

    client = Client(DATA[:1000])
    sending = asyncio.create_task(world.put_part(task, 1, client, MIB))
    begun = await world.until(task, TaskState.UPLOADING)

    assert (begun.mode, begun.loaded, begun.version) == (BodyMode.PARTS, 0, task.version + 1)
    client.send(DATA[1000:MIB])
    client.end()
    await sending
    assert (await world.load(task)).version == task.version + 2


# --- the good way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (3, 1, 4, 2)])
async def test_parts_in_any_order_make_the_file(world: World, order: tuple[int, ...]) -> None:
    task = await world.create(size=len(DATA))

    for number in order:
        part = await world.put_part(task, number, part_of(DATA, number))
        assert (part.number, part.size, part.crc64) == (
            number,
            len(part_of(DATA, number)),
            crc64(part_of(DATA, number)),
        )

    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), DATA)


async def test_parts_in_parallel_make_the_file(world: World) -> None:
    task = await world.create(size=len(DATA))

    gate = world.objects.hold("upload_part")

    posts = [asyncio.create_task(world.put_part(task, n, part_of(DATA, n))) for n in (1, 2, 3, 4)]
    await gate.reached_by(4)
    gate.open()
    await asyncio.gather(*posts)
    before = await world.load(task)

    assert (before.mode, before.loaded, before.next_offset, before.stored_count) == (
        BodyMode.PARTS,
        len(DATA),
        len(DATA),
        4,
    )
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), DATA)


async def test_a_file_small_enough_for_one_put_may_still_come_in_parts(world: World) -> None:
    task = await world.create(size=10)
    assert task.upload_id is None

    await world.put_part(task, 1, b"0123456789")

    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), b"0123456789")


async def test_parallel_first_parts_open_one_upload(world: World) -> None:
    data = random_bytes(2 * MIB)
    task = await world.create(size=len(data), slice_size=4 * MIB)

    await asyncio.gather(*(world.put_part(task, n, part_of(data, n)) for n in (1, 2)))

    assert world.cos.open_uploads(task.at.bucket).count(task.at.key) == 1
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), data)


async def test_a_traffic_limit_goes_with_every_part(world: World) -> None:
    task = await world.create(size=len(DATA), part_headers={"x-cos-traffic-limit": "838860800"})

    await world.put_part(task, 4, part_of(DATA, 4))

    assert world.journal(task, "UploadPart")[0]["headers"]["x-cos-traffic-limit"] == "838860800"


# --- the same part again ------------------------------------------------------------------------------------------


async def test_the_same_bytes_again_cost_cos_nothing_and_give_the_same_receipt(world: World) -> None:
    task = await world.create(size=len(DATA))
    first = await world.put_part(task, 1, part_of(DATA, 1))
    version = (await world.load(task)).version

    again = await world.put_part(task, 1, part_of(DATA, 1))

    assert again == first
    assert world.objects.calls["upload_part"] == 1
    assert (await world.load(task)).version == version


async def test_other_bytes_replace_the_part(world: World) -> None:
    task = await world.create(size=len(DATA))
    other = random_bytes(MIB, seed=2)
    first = await world.put_part(task, 1, other)

    second = await world.put_part(task, 1, part_of(DATA, 1))

    assert first.etag != second.etag
    assert (await world.load(task)).loaded == MIB
    for number in (2, 3, 4):
        await world.put_part(task, number, part_of(DATA, number))
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), DATA)


async def test_without_budget_the_same_bytes_are_sent_again_and_stay_the_same(redis_url: str, cos: RunningCos) -> None:
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=len(DATA))

        receipts = [await world.put_part(task, 1, part_of(DATA, 1)) for _ in range(2)]

        assert receipts[0] == receipts[1]
        assert world.objects.calls["upload_part"] == 2


async def test_the_same_bytes_with_a_wrong_md5_are_refused(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))

    with pytest.raises(DigestMismatch):
        await world.put_part(task, 1, part_of(DATA, 1), digests=Digests(md5_base64=b64encode(bytes(16)).decode()))


async def test_a_part_after_success_is_good_if_it_has_the_same_bytes(world: World) -> None:
    task = await world.create(size=len(DATA))
    receipts = {n: await world.put_part(task, n, part_of(DATA, n)) for n in (1, 2, 3, 4)}
    await complete(world, task.id)
    calls = dict(world.objects.calls)

    assert await world.put_part(task, 2, part_of(DATA, 2)) == receipts[2]
    for other in (random_bytes(MIB, seed=9), part_of(DATA, 2)[:-1]):
        with pytest.raises(TaskSucceeded) as refused:
            await world.put_part(task, 2, other)
        assert refused.value.facts == {"state": "success", "differs": True}
    assert dict(world.objects.calls) == calls


async def test_two_bodies_at_once_with_other_bytes_leave_one_whole_and_acknowledge_what_cos_kept(world: World) -> None:
    """Both are sent to COS before either is written down: List Parts decides."""
    task = await world.create(size=len(DATA))
    one, two = part_of(DATA, 1), random_bytes(MIB, seed=2)
    gate = world.objects.hold("upload_part", 1, after=True)

    posts = [asyncio.create_task(world.put_part(task, 1, body)) for body in (one, two)]
    await gate.reached_by(2)
    gate.open()
    outcomes = await asyncio.gather(*posts, return_exceptions=True)

    assert kinds(outcomes) == ["PartInProgress", "StoredPart"]
    (kept,) = await world.tasks.parts(task.id)
    assert kept in outcomes
    assert task.upload_id is not None
    page = await world.objects.list_parts(task.at, task.upload_id)
    assert [part.etag for part in page.parts] == [kept.etag]


async def test_two_bodies_at_once_with_the_same_bytes_are_both_good(world: World) -> None:
    task = await world.create(size=len(DATA))
    gate = world.objects.hold("upload_part", 1, after=True)

    posts = [asyncio.create_task(world.put_part(task, 1, part_of(DATA, 1))) for _ in range(2)]
    await gate.reached.wait()
    gate.open()
    one, two = await asyncio.gather(*posts)

    assert one == two
    assert (await world.load(task)).stored_count == 1


@pytest.mark.promise(10)
async def test_what_cos_kept_is_written_down_also_when_it_told_of_another_body_before(
    redis_url: str, cos: RunningCos
) -> None:
    """The first body asks COS, the second lands and is written down, and only then does the first hear the answer."""
    async with running_world(redis_url, cos) as here, running_world(redis_url, cos) as there:
        task = await here.create(size=len(DATA))
        late = Client(random_bytes(MIB - 1, seed=2))
        second = asyncio.create_task(there.put_part(task, 1, late, MIB))
        await late.taken()
        listed = here.objects.hold("list_parts", after=True)
        first = asyncio.create_task(here.put_part(task, 1, part_of(DATA, 1)))
        await listed.reached.wait()
        late.send(b"!")
        late.end()
        kept = await second
        listed.open()

        assert kinds(await asyncio.gather(first, return_exceptions=True)) == ["PartInProgress"]
        assert await here.tasks.parts(task.id) == [kept]


@pytest.mark.promise(10, 25)
async def test_a_stranger_s_body_makes_no_part_contested(world: World) -> None:
    task = await world.create(size=len(DATA))
    mine = Client(part_of(DATA, 1)[:-1])
    post = asyncio.create_task(world.put_part(task, 1, mine, MIB))
    await mine.taken()
    with pytest.raises(TaskNotFound):
        await world.parts.receive_part(BOB, task.id, 1, 1, sent(b"x"), digests=Digests(), conditions=PartConditions())
    mine.send(part_of(DATA, 1)[-1:])
    mine.end()
    await post

    assert world.objects.calls["list_parts"] == 0, "nobody had to decide"


async def test_a_body_that_begins_while_an_abandoned_one_is_still_at_cos_is_decided_by_cos(world: World) -> None:
    """The first client is gone, its bytes are not: they must not replace later ones that were acknowledged."""
    task = await world.create(size=len(DATA))
    held = world.objects.hold("upload_part", 1)
    abandoned = Client(random_bytes(MIB, seed=2))
    post = asyncio.create_task(world.put_part(task, 1, abandoned, MIB))
    await held.reached.wait()
    abandoned.leave()
    with pytest.raises(ClientLeft):
        await post

    second = asyncio.create_task(world.put_part(task, 1, part_of(DATA, 1)))
    await asyncio.sleep(0.05)
    held.open()
    outcome = (await asyncio.gather(second, return_exceptions=True))[0]
    assert await world.engine.owned.drain(10) == 0

    (kept,) = await world.tasks.parts(task.id)
    assert task.upload_id is not None
    page = await world.objects.list_parts(task.at, task.upload_id)
    assert kept.etag == page.parts[0].etag
    assert isinstance(outcome, PartInProgress) or outcome == kept


@pytest.mark.parametrize("stored", [False, True])
async def test_conditions_refuse_a_silent_replacement_before_a_byte_moves(world: World, *, stored: bool) -> None:
    task = await world.create(size=len(DATA))
    etag = (await world.put_part(task, 1, part_of(DATA, 1))).etag if stored else '"none"'
    calls = world.objects.calls["upload_part"]
    body = random_bytes(MIB, seed=2)

    refused = PartConditions(if_absent=True) if stored else PartConditions(if_match=etag)  # type: ignore[arg-type]
    allowed = PartConditions(if_match=etag) if stored else PartConditions(if_absent=True)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed):
        await world.put_part(task, 1, body, conditions=refused)
    assert world.objects.calls["upload_part"] == calls

    assert (await world.put_part(task, 1, body, conditions=allowed)).size == MIB


# --- wrong requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "length", "error"),
    [
        (0, MIB, InvalidPartNumber),
        (5, MIB, InvalidPartNumber),
        (10_001, MIB, InvalidPartNumber),
        (1, MIB - 1, PartSizeMismatch),
        (1, MIB + 1, PartSizeMismatch),
        (4, MIB, PartSizeMismatch),
        (4, 0, PartSizeMismatch),
    ],
)
async def test_a_part_that_the_file_does_not_have_is_refused_before_a_byte_moves(
    world: World, number: int, length: int, error: type[GatewayError]
) -> None:
    task = await world.create(size=len(DATA))
    client = Client()

    with pytest.raises(error):
        await world.put_part(task, number, client, length)

    assert world.objects.calls["upload_part"] == 0
    assert await world.stored(task) == []


async def test_another_callers_task_is_as_unknown_as_one_that_never_was(world: World) -> None:
    task = await world.create(size=len(DATA))

    for caller, task_id in ((BOB, task.id), (ALICE, TaskId("f" * 22))):
        with pytest.raises(TaskNotFound):
            await world.parts.receive_part(
                caller, task_id, 1, MIB, sent(part_of(DATA, 1)), digests=Digests(), conditions=PartConditions()
            )


async def test_a_token_without_upload_sends_no_part(world: World) -> None:
    task = await world.create(size=len(DATA))
    reader = Caller("alice", Policy(actions=frozenset({"read"})), 2e9)

    with pytest.raises(Forbidden):
        await world.parts.receive_part(
            reader, task.id, 1, MIB, sent(part_of(DATA, 1)), digests=Digests(), conditions=PartConditions()
        )


async def test_a_task_that_took_content_takes_no_part(world: World) -> None:
    task = await world.create(size=len(DATA))
    client = Client(DATA[:10])
    content = asyncio.create_task(world.put_content(task, client))
    await client.taken()

    with pytest.raises(TaskMode):
        await world.put_part(task, 1, part_of(DATA, 1))

    client.leave()
    with pytest.raises(ClientLeft):
        await content


@pytest.mark.parametrize(("event", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
async def test_a_part_for_a_task_that_rests_is_told_why(world: World, event: str, error: type[GatewayError]) -> None:
    task = await world.create(size=len(DATA))
    await getattr(world.control, event)(ALICE, task.id, None)

    with pytest.raises(error):
        await world.put_part(task, 1, part_of(DATA, 1))


# --- digests ------------------------------------------------------------------------------------------------------


async def test_a_wrong_crc_is_refused_before_the_last_chunk_goes_out(world: World) -> None:
    task = await world.create(size=len(DATA))
    client = Client(DATA[: MIB - CHUNK_BYTES])
    wrong = Digests(crc64=crc64(part_of(DATA, 1)) ^ 1)
    post = asyncio.create_task(world.put_part(task, 1, client, MIB, digests=wrong))
    await world.cos.until(lambda entries: any(entry["received_bytes"] for entry in entries))

    client.send(DATA[MIB - CHUNK_BYTES : MIB])
    with pytest.raises(DigestMismatch):
        await post

    assert await world.engine.owned.drain(5) == 0, "the request to COS must end with the body"
    (entry,) = world.journal(task, "UploadPart")
    assert entry["received_bytes"] <= MIB - CHUNK_BYTES
    assert await world.stored(task) == []


async def test_a_right_crc_is_accepted(world: World) -> None:
    task = await world.create(size=len(DATA))

    await world.put_part(task, 1, part_of(DATA, 1), digests=Digests(crc64=crc64(part_of(DATA, 1))))

    assert await world.stored(task) == [(1, MIB)]


async def test_an_md5_is_passed_on_to_cos(world: World) -> None:
    task = await world.create(size=len(DATA))
    right = b64encode(md5(part_of(DATA, 1), usedforsecurity=False).digest()).decode()

    await world.put_part(task, 1, part_of(DATA, 1), digests=Digests(md5_base64=right))

    assert world.journal(task, "UploadPart")[0]["headers"]["content-md5"] == right


async def test_a_wrong_md5_stores_nothing_and_leaves_the_task_as_it_is(world: World) -> None:
    task = await world.create(size=len(DATA))

    with pytest.raises(DigestMismatch):
        await world.put_part(task, 1, part_of(DATA, 1), digests=Digests(md5_base64=b64encode(bytes(16)).decode()))

    assert await world.stored(task) == []
    await world.put_part(task, 1, part_of(DATA, 1))


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_a_byte_that_flipped_on_the_way_to_cos_is_never_acknowledged(
    redis_url: str, cos: RunningCos, budget_bytes: int
) -> None:
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        task = await world.create(size=len(DATA))
        cos.fault("flip", operation="UploadPart", key=task.at.key, after_bytes=1000)

        if budget_bytes:
            await world.put_part(task, 1, part_of(DATA, 1))
        else:
            with pytest.raises(GatewayError) as caught:
                await world.put_part(task, 1, part_of(DATA, 1))
            assert (caught.value.code, caught.value.retryable) == ("storage_integrity", True)
            assert await world.stored(task) == []
            await world.put_part(task, 1, part_of(DATA, 1))

        (part,) = await world.tasks.parts(task.id)
        assert part.crc64 == crc64(part_of(DATA, 1))
        assert len(world.journal(task, "UploadPart")) == 2


@pytest.mark.promise(26)
async def test_the_parts_of_a_file_of_unknown_size_are_together_no_larger_than_the_token_allows(world: World) -> None:
    small = Caller("alice", Policy(max_size=2 * MIB), 2e9)
    task = await world.create()

    async def put(number: int) -> None:
        body = part_of(DATA, number)
        await world.parts.receive_part(
            small, task.id, number, len(body), sent(body), digests=Digests(), conditions=PartConditions()
        )

    for number in (1, 2, 2):
        await put(number)
    with pytest.raises(FileTooLarge):
        await put(3)
    assert (await world.load(task)).loaded == 2 * MIB


# --- bodies that end badly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
@pytest.mark.parametrize("came", [0, 1, MIB - 1])
async def test_a_short_body_stores_nothing(redis_url: str, cos: RunningCos, budget_bytes: int, came: int) -> None:
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        task = await world.create(size=len(DATA))

        with pytest.raises(BodyIncomplete) as caught:
            await world.put_part(task, 1, sent(DATA[:came]), MIB)

        assert caught.value.facts == {"expected": MIB}
        assert await world.engine.owned.drain(5) == 0
        assert await world.stored(task) == []
        assert (await world.load(task)).state is TaskState.UPLOADING
        await world.put_part(task, 1, part_of(DATA, 1))


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_a_body_longer_than_it_said_is_refused(redis_url: str, cos: RunningCos, budget_bytes: int) -> None:
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        task = await world.create(size=len(DATA))

        with pytest.raises(PartTooLarge):
            await world.put_part(task, 1, sent(DATA[: MIB + 1], 1000), MIB)


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_a_client_that_leaves_mid_part_stores_nothing(redis_url: str, cos: RunningCos, budget_bytes: int) -> None:
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        task = await world.create(size=len(DATA))
        client = Client(DATA[:CHUNK_BYTES])
        post = asyncio.create_task(world.put_part(task, 1, client, MIB))
        await client.taken()

        client.leave()
        with pytest.raises(ClientLeft):
            await post

        assert await world.engine.owned.drain(5) == 0
        assert await world.stored(task) == []
        await world.put_part(task, 1, part_of(DATA, 1))


@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_a_request_that_is_cancelled_mid_part_leaves_nothing_behind(
    redis_url: str, cos: RunningCos, budget_bytes: int
) -> None:
    async with running_world(redis_url, cos, budget_bytes=budget_bytes) as world:
        task = await world.create(size=len(DATA))
        client = Client(DATA[:CHUNK_BYTES])
        post = asyncio.create_task(world.put_part(task, 1, client, MIB))
        await client.taken()

        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post

        assert await world.engine.owned.drain(5) == 0
        assert await world.stored(task) == []


@pytest.mark.parametrize(("came", "length"), [(b"", 1), (DATA[:1000], MIB)], ids=["refused", "short"])
async def test_after_a_body_that_ended_badly_cos_is_not_asked_which_one_it_kept(
    world: World, came: bytes, length: int
) -> None:
    task = await world.create(size=len(DATA))
    with pytest.raises((PartSizeMismatch, BodyIncomplete)):
        await world.put_part(task, 1, sent(came), length)
    assert await world.engine.owned.drain(5) == 0

    await world.put_part(task, 1, part_of(DATA, 1))

    assert (await world.stored(task), world.objects.calls["list_parts"]) == ([(1, MIB)], 0)


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_a_body_that_came_whole_is_committed_though_its_client_is_gone(world: World, how: str) -> None:
    task = await world.create(size=len(DATA))
    gate = world.objects.hold("upload_part", after=True)
    client = Client(part_of(DATA, 1))
    post = asyncio.create_task(world.put_part(task, 1, client, MIB))
    await gate.reached.wait()

    if how == "leave":
        client.leave()
    else:
        post.cancel()
    with pytest.raises((ClientLeft, asyncio.CancelledError)):
        await post
    assert await world.stored(task) == []
    assert world.engine.budget.used_bytes == MIB, "the bytes are needed until COS has spoken"
    gate.open()

    assert await world.engine.owned.drain(5) == 0
    assert await world.stored(task) == [(1, MIB)]


async def test_a_body_is_let_go_of_with_its_lease() -> None:
    budget, spoken = ReplayBudget(10), asyncio.Event()
    lease, body, chunk = budget.try_take(4, "alice"), IncomingBody(4, replayable=True), random_bytes(4)
    await body.feed(chunk)
    storing = asyncio.create_task(spoken.wait())
    release_after(storing, body, lease)
    held = sys.getrefcount(chunk)
    assert budget.used_bytes == 4

    spoken.set()
    await storing
    await asyncio.sleep(0)

    assert budget.used_bytes == 0
    assert sys.getrefcount(chunk) == held - 1


# --- COS fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["error", "reset", "lost_answer", "wrong_crc", "early_error"])
async def test_with_budget_the_gateway_repeats_what_cos_failed_to_take(world: World, action: str) -> None:
    task = await world.create(size=len(DATA))
    world.cos.fault(action, operation="UploadPart", key=task.at.key, after_bytes=100_000)

    await world.put_part(task, 1, part_of(DATA, 1))

    assert len(world.journal(task, "UploadPart")) == 2
    assert await world.stored(task) == [(1, MIB)]


async def test_without_budget_a_failure_of_cos_is_told_and_the_part_may_come_again(
    redis_url: str, cos: RunningCos
) -> None:
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=len(DATA))
        cos.fault("error", operation="UploadPart", key=task.at.key)

        with pytest.raises(GatewayError) as caught:
            await world.put_part(task, 1, part_of(DATA, 1))

        assert (caught.value.status_hint, caught.value.retryable) == (503, True)
        assert (await world.load(task)).state is TaskState.UPLOADING
        await world.put_part(task, 1, part_of(DATA, 1))


async def test_a_client_hears_at_once_when_cos_refuses_in_the_middle_of_its_part(
    redis_url: str, cos: RunningCos
) -> None:
    """The client still sends; nobody waits for its bytes."""
    async with running_world(redis_url, cos, budget_bytes=0) as world:
        task = await world.create(size=len(DATA))
        cos.fault("early_error", operation="UploadPart", key=task.at.key, status=403, code="AccessDenied")
        client = Client(DATA[:CHUNK_BYTES])

        async with asyncio.timeout(5):
            with pytest.raises(StorageDenied) as caught:
                await world.put_part(task, 1, client, MIB)

        assert caught.value.cos is not None
        assert caught.value.cos.status == 403
        now = await world.load(task)
        assert now.state is TaskState.ERROR
        assert now.error is not None
        assert now.error.code == "storage_denied"


async def test_with_budget_an_early_refusal_ends_the_body_at_once_too(world: World) -> None:
    task = await world.create(size=len(DATA))
    world.cos.fault("early_error", operation="UploadPart", key=task.at.key, status=403, code="AccessDenied")
    client = Client(DATA[:CHUNK_BYTES])

    async with asyncio.timeout(5):
        with pytest.raises(StorageDenied):
            await world.put_part(task, 1, client, MIB)

    with pytest.raises(TaskInError):
        await world.put_part(task, 2, part_of(DATA, 2))
    await world.control.restart(ALICE, task.id, None)
    await world.put_part(task, 2, part_of(DATA, 2))


async def test_an_upload_that_cos_lost_puts_the_task_into_error_and_a_restart_opens_another(world: World) -> None:
    task = await world.create(size=len(DATA))
    await world.put_part(task, 1, part_of(DATA, 1))
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)

    with pytest.raises(UploadLost):
        await world.put_part(task, 2, part_of(DATA, 2))
    failed = await world.load(task)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (TaskState.ERROR, "upload_lost")

    again = await world.control.restart(ALICE, task.id, None)
    assert again.upload_id not in (None, task.upload_id)
    assert (again.state, again.loaded, again.stored_count) == (TaskState.WAITING, 0, 0)
    for number in (1, 2, 3, 4):
        await world.put_part(again, number, part_of(DATA, number))
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), DATA)


async def test_a_late_part_of_a_lost_upload_does_not_fail_the_new_one(world: World) -> None:
    """Its client sends since before the restart; COS answers NoSuchUpload after it."""
    task = await world.create(size=len(DATA))
    held = world.objects.hold("upload_part", 1)
    late = asyncio.create_task(world.put_part(task, 1, part_of(DATA, 1)))
    await held.reached.wait()
    assert task.upload_id is not None
    await world.objects.abort(task.at, task.upload_id)
    with pytest.raises(UploadLost):
        await world.put_part(task, 2, part_of(DATA, 2))
    again = await world.control.restart(ALICE, task.id, None)

    held.open()
    with pytest.raises(GatewayError):
        await late

    now = await world.load(task)
    assert (now.state, now.upload_id, now.stored_count) == (TaskState.WAITING, again.upload_id, 0)


# --- control ends bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("event", "error"), [("pause", TaskPaused), ("cancel", TaskCanceled)])
@pytest.mark.parametrize("budget_bytes", [64 * MIB, 0])
async def test_control_ends_a_silent_body_within_a_second(
    redis_url: str, cos: RunningCos, event: str, error: type[Conflict], budget_bytes: int
) -> None:
    async with (
        running_world(redis_url, cos, budget_bytes=budget_bytes) as world,
        running_world(redis_url, cos) as elsewhere,
    ):
        task = await world.create(size=len(DATA))
        client = Client(DATA[:1000])
        post = asyncio.create_task(world.put_part(task, 1, client, MIB))
        await client.taken()

        started = time.monotonic()
        await getattr(elsewhere.control, event)(ALICE, task.id, None)
        with pytest.raises(error):
            await post

        assert time.monotonic() - started < 1
        assert await world.engine.owned.drain(5) == 0
        assert await world.stored(task) == []


async def test_a_part_that_had_come_whole_when_the_user_paused_is_kept(world: World) -> None:
    task = await world.create(size=len(DATA))
    gate = world.objects.hold("upload_part", 1)
    post = asyncio.create_task(world.put_part(task, 1, part_of(DATA, 1)))
    await gate.reached.wait()

    await world.control.pause(ALICE, task.id, None)
    gate.open()
    await asyncio.gather(post, return_exceptions=True)

    assert await world.engine.owned.drain(5) == 0
    now = await world.load(task)
    assert (now.state, now.loaded) == (TaskState.PAUSED, MIB)
    await world.control.restart(ALICE, task.id, None)
    for number in (2, 3, 4):
        await world.put_part(task, number, part_of(DATA, number))
    world.require_success(await world.control.complete(ALICE, task.id, CompleteWanted()), DATA)


async def test_a_failing_part_of_a_canceled_task_is_told_that_it_was_canceled(world: World) -> None:
    task = await world.create(size=len(DATA))
    gate = world.objects.hold("upload_part", 1)
    post = asyncio.create_task(world.put_part(task, 1, part_of(DATA, 1)))
    await gate.reached.wait()

    canceled = await world.control.cancel(ALICE, task.id, None)
    gate.open()
    with pytest.raises(TaskCanceled):
        await post

    assert canceled.state is TaskState.CANCELED
    assert not world.has_open_upload(task)


async def test_cos_that_stays_down_leaves_the_task_ready_for_the_part_again(world: World) -> None:
    task = await world.create(size=len(DATA))
    world.cos.fault("error", operation="UploadPart", key=task.at.key, times=None, code="InternalError", status=500)

    with pytest.raises(StorageUnavailable) as caught:
        await world.put_part(task, 1, part_of(DATA, 1))

    assert caught.value.cos is not None
    assert caught.value.cos.code == "InternalError"
    assert len(world.journal(task, "UploadPart")) == 3
    world.cos.clear_faults()
    await world.put_part(task, 1, part_of(DATA, 1))


async def test_a_body_that_nobody_reads_any_more_for_a_defect_of_ours_ends() -> None:
    async def defect() -> None:
        raise ZeroDivisionError

    async def read() -> None:
        async with asyncio.timeout(5), Interrupt() as interrupt:
            asyncio.create_task(defect()).add_done_callback(lambda done: pass_on_failure(done, interrupt))
            await asyncio.Event().wait()

    with pytest.raises(GatewayError) as caught:
        await read()
    assert caught.value.code == "internal"
