"""One watch for all who watch an owner, over a store in memory. What is sent of it is test_progress_socket's."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.domain.errors import Overloaded, StateStoreUnavailable
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import PauseRequested, Task, TaskId
from gateway.transfer.memory_budget import MemoryBudget
from gateway.transfer.ports import TaskPage
from gateway.web.progress_fanout import MESSAGES_PER_SECOND, WIDEST_GAP_SECONDS, Effort, Fanout, Sources, Timing
from gateway.web.progress_inbox import Inbox
from tests.fakes.store import MemoryTaskStore
from tests.web.sample_tasks import grow, new_task, told

ALICE = Caller("alice", Policy(), 1e9)
PREFIXED = Caller("boss", Policy(prefix="alice/seen", actions=frozenset({"read", "all_tasks"})), 1e9)


class CountingStore(MemoryTaskStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: Counter[TaskId] = Counter()
        self.lists = 0
        self.asked = asyncio.Event()
        self.stalled: asyncio.Event | None = None

    async def load_many(self, task_ids: Sequence[TaskId]) -> list[Task | None]:
        self.loaded.update(task_ids)
        return await super().load_many(task_ids)

    async def list_tasks(self, *arguments: Any, **options: Any) -> TaskPage:
        self.lists += 1
        self.asked.set()
        if self.stalled is not None:
            await self.stalled.wait()
        return await super().list_tasks(*arguments, **options)


class Scene:
    def __init__(self, timing: Timing | None = None, budget: MemoryBudget | None = None) -> None:
        self.store = CountingStore()
        self.rendered: Counter[str] = Counter()
        self.budget = budget or MemoryBudget(32 << 20)
        timing = timing or Timing(gap=0.01)
        self.fanout = Fanout(Sources(self.store, self.store.bus, self._render, self.budget, timing=timing))

    def _render(self, task: Task) -> dict[str, object]:
        self.rendered[f"{task.id} {task.version}"] += 1
        return told(task)

    @asynccontextmanager
    async def watching(
        self, count: int = 1, caller: Caller = ALICE, only: TaskId | None = None
    ) -> AsyncIterator[list[Inbox]]:
        async with AsyncExitStack() as stack:
            yield await asyncio.gather(
                *(stack.enter_async_context(self.fanout.watching(caller, "alice", only)) for _ in range(count))
            )


async def hear(inbox: Inbox) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [json.loads(text) for text in await inbox.next()]


async def hear_until(inbox: Inbox, task: Task) -> None:
    """Returns once *inbox* was told of *task* as it is."""
    while not any(told(task) in (message.get("task"), *message.get("tasks", ())) for message in await hear(inbox)):
        pass


@pytest.mark.parametrize("count", [1, 10, 50])
async def test_f10_what_changes_is_read_and_rendered_once_however_many_watch(count: int) -> None:
    scene = Scene()
    tasks = [await scene.store.create(new_task(f"t{number}")) for number in range(20)]
    async with scene.watching(count) as inboxes:
        assert scene.store.lists == 1, "those who come together share one look"
        assert set(scene.rendered.values()) == {1}
        for number in range(1, 4):
            scene.store.loaded.clear()
            tasks = [await grow(scene.store, task, number) for task in tasks]
            for inbox in inboxes:
                await hear_until(inbox, tasks[-1])

            assert scene.store.loaded == dict.fromkeys([task.id for task in tasks], 1)
        assert set(scene.rendered.values()) == {1}


@pytest.mark.parametrize("count", [1, 10, 50])
async def test_f10_a_snapshot_is_made_once_however_many_watch_and_its_text_is_shared(count: int) -> None:
    scene = Scene(Timing(snapshot=0.05))
    task = await scene.store.create(new_task("t1"))
    async with scene.watching(count) as inboxes:
        for _ in range(3):
            texts = [text for [text] in await asyncio.gather(*(inbox.next() for inbox in inboxes))]

            assert json.loads(texts[0]) == {"type": "snapshot", "tasks": [told(task)], "more": False}
            assert len(set(map(id, texts))) == 1
        assert scene.store.lists <= 4


async def test_f10_a_watch_of_one_task_reads_no_other() -> None:
    scene = Scene()
    tasks = [await scene.store.create(new_task(f"t{number}")) for number in range(3)]
    async with scene.watching(10, only=tasks[0].id) as inboxes:
        for task in reversed(tasks):
            grown = await grow(scene.store, task, 1)
        for inbox in inboxes:
            await hear_until(inbox, grown)

    assert (set(scene.store.loaded), scene.store.lists) == ({tasks[0].id}, 0)
    assert set(scene.rendered.values()) == {1}


async def test_callers_of_one_policy_share_and_others_hear_what_they_may() -> None:
    scene = Scene()
    inside = await scene.store.create(new_task("seen"))
    outside = await scene.store.create(new_task("other"))
    later = Caller(ALICE.owner, ALICE.policy, 2e9, issued_at=5.0, token_id="another")
    async with (
        scene.watching() as [mine],
        scene.watching(caller=later) as [too],
        scene.watching(caller=PREFIXED) as [theirs],
    ):
        assert [len((await hear(inbox))[0]["tasks"]) for inbox in (mine, too, theirs)] == [2, 2, 1]
        await grow(scene.store, outside, 1)
        grown = await grow(scene.store, inside, 1)

        texts = [await inbox.next() for inbox in (mine, too)]
        assert list(map(id, texts[0])) == list(map(id, texts[1]))
        assert await hear(theirs) == [{"type": "task", "task": told(grown)}]


async def test_who_joins_is_shown_what_is_there_now_and_the_others_what_was_news_in_it() -> None:
    scene = Scene(Timing(gap=60))
    async with scene.watching() as [first]:
        await hear(first)
        early = await scene.store.create(new_task("early"))
        await hear_until(first, early)
        late = await scene.store.create(new_task("late"))  # whose turn is in a minute
        async with scene.watching() as [second]:
            assert await hear(second) == [{"type": "snapshot", "tasks": [told(late), told(early)], "more": False}]
            assert await hear(first) == [{"type": "task", "task": told(late)}]


async def test_who_leaves_while_all_is_read_is_told_nothing_and_keeps_nobody_waiting() -> None:
    scene = Scene()
    scene.store.stalled = asyncio.Event()

    async def watch() -> list[dict[str, Any]]:
        async with scene.watching() as [inbox]:
            return await hear(inbox)

    leaving = asyncio.create_task(watch())
    await scene.store.asked.wait()
    staying = asyncio.create_task(watch())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    scene.store.stalled.set()

    assert await staying == [{"type": "snapshot", "tasks": [], "more": False}]
    assert leaving.cancelled()
    assert scene.budget.used_bytes == 0


async def test_without_redis_nobody_joins_and_nothing_is_kept_of_them() -> None:
    scene = Scene()
    scene.store.down = True
    for _ in range(2):
        asking = [asyncio.create_task(scene.watching().__aenter__()) for _ in range(3)]
        await asyncio.wait(asking)
        assert {type(one.exception()) for one in asking} == {StateStoreUnavailable}
    assert scene.store.lists == 2, "nobody asks again for those who came at the same time"

    scene.store.down = False
    async with scene.watching(3) as inboxes:
        assert [len(await hear(inbox)) for inbox in inboxes] == [1, 1, 1]


async def test_s6_without_memory_nobody_joins_and_all_of_it_is_given_back_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.web.progress_fanout.WAIT_SECONDS", 0.0)
    monkeypatch.setattr("gateway.web.progress_audience.WAIT_SECONDS", 0.0)
    scene = Scene(budget=MemoryBudget(100_000))
    for number in range(300):
        await scene.store.create(new_task(f"t{number}"))
    with pytest.raises(Overloaded):
        async with scene.watching():
            pass
    assert scene.budget.used_bytes == 0

    roomy = Scene(Timing(snapshot=0.02))
    roomy.store = scene.store
    roomy.fanout = Fanout(Sources(scene.store, scene.store.bus, told, roomy.budget, timing=Timing(snapshot=0.02)))
    async with roomy.watching(5) as inboxes:
        for inbox in inboxes[1:]:
            for _ in range(5):
                await hear(inbox)
        assert roomy.budget.used_bytes > 0

    assert roomy.budget.used_bytes == 0


async def test_a_defect_of_the_loop_ends_every_websocket_instead_of_leaving_it_in_silence() -> None:
    scene = Scene()
    async with scene.watching(2) as inboxes:
        task = await scene.store.create(new_task("t1"))
        for inbox in inboxes:
            await hear_until(inbox, task)
        scene.fanout._sources.tasks.load_many = None  # type: ignore[method-assign, assignment]
        await scene.store.apply(task, PauseRequested())
        for inbox in inboxes:
            with pytest.raises(TypeError):
                await hear(inbox)


def test_f10_the_more_is_told_the_rarer_each_is_told() -> None:
    effort = Effort()
    assert effort.gap(0.25) == 0.25
    effort.spend(MESSAGES_PER_SECOND // 2)
    assert 0.4 < effort.gap(0.25) <= 0.5
    effort.spend(100 * MESSAGES_PER_SECOND)
    assert effort.gap(0.25) == WIDEST_GAP_SECONDS
    assert effort.gap(9.0) == 9.0
