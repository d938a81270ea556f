"""COS's uploads by their ids: whose they are, and listings of one's own alone."""

import time
from dataclasses import replace

import pytest

from gateway.domain.errors import Forbidden, KeyNotAllowed, QuotaExceeded, StorageDenied, UploadLost
from gateway.domain.objects import UploadId
from gateway.domain.parts import MIB
from gateway.domain.policy import Action, Caller, Policy
from gateway.domain.task import Failed, Task, TaskError, TaskState
from gateway.store.ledgers import Ledgers, Shares
from gateway.store.redis_address import connect
from gateway.store.redis_keys import ledger_keys, owner_key
from gateway.store.task_quota import RedisTaskQuota
from gateway.transfer.control import Control
from gateway.transfer.drafts import NewTask
from gateway.transfer.uploads import SCAN_PAGES, Uploads, UploadsQuery
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, BOB, PLACES, TTL_SECONDS, World, random_bytes

PLACE = PLACES.all[0]


@pytest.fixture
def uploads(world: World) -> Uploads:
    return Uploads(world.engine, world.control)


async def opened(world: World, folder: str, *names: str, caller: Caller = ALICE) -> list[Task]:
    """Tasks with an upload each."""
    return [await world.control.create(caller, NewTask(key=f"{folder}/{name}")) for name in names]


def asks(folder: str, **query: object) -> UploadsQuery:
    return UploadsQuery(prefix=f"{folder}/", **query)  # type: ignore[arg-type]


async def test_an_upload_is_found_by_its_owner_at_its_own_key(world: World, uploads: Uploads) -> None:
    (task,) = await opened(world, "find", "a")
    assert task.upload_id is not None

    assert await uploads.find(ALICE, PLACE, task.at.key, task.upload_id, Action.READ) == task
    for caller, key, upload_id in (
        (BOB, task.at.key, task.upload_id),
        (ALICE, "find/b", task.upload_id),
        (ALICE, task.at.key, UploadId("unknown")),
    ):
        with pytest.raises(UploadLost):
            await uploads.find(caller, PLACE, key, upload_id, Action.READ)
    listing = replace(ALICE, policy=Policy(actions=frozenset({"list"})))
    with pytest.raises(Forbidden):
        await uploads.find(listing, PLACE, task.at.key, task.upload_id, Action.READ)
    overseer = replace(BOB, policy=Policy(actions=frozenset({"read", "all_tasks"})))
    assert await uploads.find(overseer, PLACE, task.at.key, task.upload_id, Action.READ) == task


@pytest.mark.promise(2)
async def test_an_upload_that_redis_forgot_goes_on_for_who_names_it(
    world: World, uploads: Uploads, redis_url: str
) -> None:
    (task,) = await opened(world, "forgotten", "a")
    assert task.upload_id is not None
    await world.put_part(task, 1, random_bytes(MIB, 1))
    send_command(redis_url, "FLUSHALL")

    found = await uploads.find_open(ALICE, PLACE, task.at.key, task.upload_id, Action.UPLOAD)
    assert (found.owner, found.stored_count, found.loaded, found.upload_id) == ("alice", 1, MIB, task.upload_id)
    assert await uploads.find(ALICE, PLACE, task.at.key, task.upload_id, Action.READ) == found
    with pytest.raises(UploadLost):
        await uploads.find(BOB, PLACE, task.at.key, task.upload_id, Action.READ)


async def test_an_upload_that_cos_does_not_hold_leaves_no_task_behind(
    world: World, uploads: Uploads, redis_url: str
) -> None:
    (task,) = await opened(world, "forgotten", "b")
    assert task.upload_id is not None
    send_command(redis_url, "FLUSHALL")
    for key, upload_id in ((task.at.key, UploadId("made-up")), ("forgotten/c", task.upload_id)):
        with pytest.raises(UploadLost):
            await uploads.find(ALICE, PLACE, key, upload_id, Action.READ)

    assert (await world.tasks.list_tasks("alice")).tasks == ()


@pytest.mark.parametrize("prefix", ["forgotten/mine/", "forgotten/e/"])
async def test_s2_a_forgotten_upload_is_nobody_s_outside_of_the_caller_s_prefix(
    world: World, uploads: Uploads, redis_url: str, prefix: str
) -> None:
    (task,) = await opened(world, "forgotten", "e", caller=BOB)
    assert task.upload_id is not None
    send_command(redis_url, "FLUSHALL")
    world.cos.clear_journal()

    with pytest.raises(KeyNotAllowed):
        await uploads.find(
            replace(ALICE, policy=Policy(prefix=prefix)), PLACE, task.at.key, task.upload_id, Action.UPLOAD
        )
    with pytest.raises(KeyNotAllowed):
        await uploads.find(ALICE, replace(PLACE, prefix=prefix), task.at.key, task.upload_id, Action.UPLOAD)
    elsewhere = replace(ALICE, policy=Policy(buckets=frozenset({"elsewhere"})))
    with pytest.raises(KeyNotAllowed):
        await uploads.find(elsewhere, PLACE, task.at.key, task.upload_id, Action.UPLOAD)

    assert world.cos.journal() == []


async def test_s2_who_may_only_look_makes_no_task_of_a_forgotten_upload(
    world: World, uploads: Uploads, redis_url: str
) -> None:
    (task,) = await opened(world, "forgotten", "f")
    assert task.upload_id is not None
    send_command(redis_url, "FLUSHALL")
    reader = replace(ALICE, policy=Policy(actions=frozenset({"read", "complete", "control", "list"})))

    for action in (Action.READ, Action.COMPLETE, Action.CONTROL):
        with pytest.raises(UploadLost):
            await uploads.find(reader, PLACE, task.at.key, task.upload_id, action)

    assert (await world.tasks.list_tasks("alice")).tasks == ()


async def test_s2_a_forgotten_upload_counts_as_a_new_task_does(world: World, redis_url: str) -> None:
    tasks = await opened(world, "forgotten", "g", "h")
    send_command(redis_url, "FLUSHALL")
    redis = connect(redis_url)
    quota = RedisTaskQuota(redis, Ledgers(Shares(tasks=1), TTL_SECONDS, time.time), world.tasks.load_many)
    control = Control(
        world.engine, world.completion, world.sequential, PLACES, task_ttl_seconds=TTL_SECONDS, quota=quota
    )
    uploads = Uploads(world.engine, control)
    first, second = (task.upload_id for task in tasks)
    assert first is not None
    assert second is not None

    await uploads.find(ALICE, PLACE, tasks[0].at.key, first, Action.READ)
    with pytest.raises(QuotaExceeded):
        await uploads.find(ALICE, PLACE, tasks[1].at.key, second, Action.READ)
    assert len((await world.tasks.list_tasks("alice")).tasks) == 1
    assert await redis.ttl(ledger_keys(owner_key("alice")).open) > TTL_SECONDS - 60
    await redis.aclose()


async def test_a_note_that_is_left_still_says_whose_an_upload_is(
    world: World, uploads: Uploads, redis_url: str
) -> None:
    (task,) = await opened(world, "forgotten", "d")
    assert task.upload_id is not None
    send_command(redis_url, "DEL", f"gw:{{{task.id}}}")

    with pytest.raises(UploadLost):
        await uploads.find(BOB, PLACE, task.at.key, task.upload_id, Action.READ)
    assert (await uploads.find(ALICE, PLACE, task.at.key, task.upload_id, Action.READ)).id == task.id


async def test_a_task_in_error_goes_on_unless_its_upload_is_worthless(world: World, uploads: Uploads) -> None:
    (task,) = await opened(world, "error", "a")
    assert task.upload_id is not None
    await world.tasks.apply(task, Failed(TaskError.of(StorageDenied())))
    found = await uploads.find_open(ALICE, PLACE, task.at.key, task.upload_id, Action.UPLOAD)
    await world.tasks.apply(found, Failed(TaskError.of(UploadLost())))

    assert (found.state, found.upload_id) == (TaskState.WAITING, task.upload_id)
    with pytest.raises(UploadLost):
        await uploads.find_open(ALICE, PLACE, task.at.key, task.upload_id, Action.UPLOAD)


async def test_parts_are_told_as_cos_holds_them(world: World, uploads: Uploads) -> None:
    (task,) = await opened(world, "parts", "a")
    assert task.upload_id is not None
    for number in (1, 2, 3):
        await world.put_part(task, number, random_bytes(MIB, number))

    first = await uploads.parts(ALICE, PLACE, task.at.key, task.upload_id, limit=2)
    rest = await uploads.parts(ALICE, PLACE, task.at.key, task.upload_id, marker=2)

    assert [part.number for part in first.parts] == [1, 2]
    assert (first.next_marker, [part.number for part in rest.parts], rest.next_marker) == (2, [3], None)
    with pytest.raises(UploadLost):
        await uploads.parts(BOB, PLACE, task.at.key, task.upload_id)


async def test_a_listing_is_of_one_s_own_in_cos_s_order(world: World, uploads: Uploads) -> None:
    mine = await opened(world, "list", "c", "a", "b/1", "b/2")
    await opened(world, "list", "aa", "b/0", "d", caller=BOB)

    page = await uploads.list(ALICE, PLACE, asks("list"))

    assert [upload.key for upload in page.uploads] == sorted(task.at.key for task in mine)
    assert (page.common_prefixes, page.next_key_marker) == ((), None)


async def test_pages_are_filled_by_reading_on(world: World, uploads: Uploads) -> None:
    await opened(world, "fill", *(f"{n:02}" for n in range(0, 20, 5)))
    await opened(world, "fill", *(f"{n:02}" for n in range(20) if n % 5), caller=BOB)

    first = await uploads.list(ALICE, PLACE, asks("fill", limit=3))
    assert first.next_key_marker is not None
    second = await uploads.list(
        ALICE,
        PLACE,
        asks("fill", limit=3, key_marker=first.next_key_marker, upload_id_marker=first.next_upload_id_marker or ""),
    )

    assert [upload.key for upload in first.uploads] == ["fill/00", "fill/05", "fill/10"]
    assert [upload.key for upload in second.uploads] == ["fill/15"]
    assert second.next_key_marker is None


async def test_a_listing_among_many_of_others_ends_short_and_goes_on(world: World, uploads: Uploads) -> None:
    """One row a page and ten pages at most show the rule that a thousand a page would take ten thousand uploads for."""
    await opened(world, "short", *["zz"] * (SCAN_PAGES * 2), caller=BOB)
    await opened(world, "short", "zz")
    query, rows, pages = asks("short", limit=1), [], 0
    world.objects.uploads_listed_most = 1

    while True:
        page = await uploads.list(ALICE, PLACE, query)
        rows += [upload.key for upload in page.uploads]
        pages += 1
        if page.next_key_marker is None:
            break
        query = replace(query, key_marker=page.next_key_marker, upload_id_marker=page.next_upload_id_marker or "")

    assert rows == ["short/zz"]
    assert pages > 1


async def test_groups_are_formed_of_one_s_own_alone_and_come_once(world: World, uploads: Uploads) -> None:
    await opened(world, "group", "a/1", "a/2", "b", "c/1")
    await opened(world, "group", "0/1", "a/3", "bb/1", caller=BOB)
    query, rows = asks("group", delimiter="/", limit=1), []

    while True:
        page = await uploads.list(ALICE, PLACE, query)
        rows += [upload.key for upload in page.uploads] + list(page.common_prefixes)
        if page.next_key_marker is None:
            break
        query = replace(query, key_marker=page.next_key_marker, upload_id_marker=page.next_upload_id_marker or "")

    assert rows == ["group/a/", "group/b", "group/c/"]


async def test_the_token_s_prefix_bounds_a_listing(world: World, uploads: Uploads) -> None:
    await opened(world, "scope", "in/a", "out/b")
    narrow = replace(ALICE, policy=Policy(prefix="scope/in/"))

    everything = await uploads.list(narrow, PLACE, UploadsQuery())
    wider = await uploads.list(narrow, PLACE, asks("scope"))

    assert [upload.key for upload in everything.uploads] == ["scope/in/a"]
    assert wider.uploads == everything.uploads
    with pytest.raises(KeyNotAllowed):
        await uploads.list(narrow, PLACE, asks("scope/out"))
    with pytest.raises(Forbidden):
        await uploads.list(replace(ALICE, policy=Policy(actions=frozenset({"read"}))), PLACE, UploadsQuery())
