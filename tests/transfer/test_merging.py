"""One merge, judged by itself; tests/transfer/test_completion.py shows every doubt through a whole completion."""

from dataclasses import replace

import pytest

from gateway.domain.errors import IntegrityFailed, UploadLost
from gateway.domain.parts import MIB
from gateway.domain.task import Task
from gateway.transfer.completion_plan import CompleteWanted, CompletionPlan, plan_completion
from gateway.transfer.merging import held_etags, merge
from tests.transfer.kit import World, part_of, random_bytes

DATA = random_bytes(2 * MIB + 1)


@pytest.fixture
async def planned(world: World) -> tuple[Task, CompletionPlan]:
    task = await world.create(size=len(DATA))
    for number in (1, 2, 3):
        await world.put_part(task, number, part_of(DATA, number))
    task = await world.load(task)
    return task, plan_completion(task, await world.tasks.parts(task.id), CompleteWanted())


@pytest.mark.promise(12)
async def test_a_second_merge_of_one_upload_finds_what_the_first_made(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    first = await merge(world.objects, *planned)
    second = await merge(world.objects, *planned)

    assert (first.etag, first.crc64, first.size or len(DATA)) == (second.etag, second.crc64, second.size)
    assert world.read(planned[0].at) == DATA


@pytest.mark.promise(8)
async def test_an_object_that_is_not_what_was_planned_is_refused(
    world: World, planned: tuple[Task, CompletionPlan]
) -> None:
    task, plan = planned
    with pytest.raises(IntegrityFailed):
        await merge(world.objects, task, replace(plan, crc64=(plan.crc64 or 0) ^ 1))


async def test_what_cos_holds_is_listed_by_number(world: World, planned: tuple[Task, CompletionPlan]) -> None:
    task, plan = planned
    assert list((await held_etags(world.objects, task)).items()) == plan.parts

    await merge(world.objects, task, plan)
    with pytest.raises(UploadLost):
        await held_etags(world.objects, task)
