import json
import math
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.batch import BatchId
from gateway.domain.errors import RateLimited
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import Task
from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.progress_audience import Audience, Book
from gateway.web.progress_inbox import Inbox
from gateway.web.progress_messages import text_of
from gateway.web.progress_watch import Seen
from tests.web.sample_tasks import MIB, new_task, told

OVERSEER = Caller("boss", Policy(prefix="alice/seen", actions=frozenset({"read", "all_tasks"})), math.inf)


def seen(task: Task, *, is_news: bool = True, is_loss: bool = False) -> Seen:
    return Seen(task, text_of(told(task)), is_news, is_loss)


def audience(viewer: Caller = OVERSEER) -> tuple[Audience, Inbox]:
    told_to, inbox = Audience(viewer), Inbox(MemoryBudget(MIB), viewer.owner)
    told_to.inboxes.add(inbox)
    return told_to, inbox


async def read(inbox: Inbox) -> list[dict[str, Any]]:
    inbox.wake()
    return [json.loads(text) for text in await inbox.next()]


async def test_s7_nobody_hears_of_what_their_token_does_not_cover() -> None:
    told_to, inbox = audience()
    inside, outside = new_task("seen 1"), new_task("other")

    assert told_to.put([seen(outside)]) == 0
    assert await read(inbox) == []
    assert told_to.put([seen(outside), seen(inside)]) == 1
    assert await read(inbox) == [{"type": "task", "task": told(inside)}]


async def test_s7_a_snapshot_and_its_losses_are_of_what_the_token_covers() -> None:
    told_to, inbox = audience()
    tasks = [seen(new_task("seen 1"), is_loss=True), seen(new_task("other"), is_loss=True)]
    book = Book(OVERSEER, MemoryBudget(MIB))
    await book.add(tasks)
    snapshot = book.finished()
    told_to.show(snapshot, tasks)

    assert [message["task"]["id"] for message in await read(inbox)] == ["seen 1"]
    assert [task["id"] for task in (await read(inbox))[0]["tasks"]] == ["seen 1"]


async def test_s7_a_batch_adds_up_for_each_to_what_they_may_see() -> None:
    told_to, inbox = audience()
    batch_id, inside = BatchId("b1"), new_task("seen 1")

    assert told_to.put_totals(batch_id, [new_task("other")]) == 0
    assert told_to.put_totals(batch_id, [new_task("other"), inside]) == 1
    assert told_to.put_totals(batch_id, [inside]) == 0, "for them nothing has changed"
    assert told_to.put_totals(batch_id, [replace(inside, loaded=5)]) == 1
    assert [message["batch"]["loaded"] for message in await read(inbox)] == [5]


async def test_s6_a_snapshot_has_a_lease_for_all_of_it_until_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.progress_audience.WAIT_SECONDS", 0.0)
    budget = MemoryBudget(3000)
    book = Book(Caller("alice", Policy(), math.inf), budget)
    await book.add([seen(new_task(f"t{number}")) for number in range(20)])
    size = budget.used_bytes
    assert size >= 20 * len(text_of(told(new_task("t1"))))
    with pytest.raises(RateLimited):
        await book.add([seen(new_task(f"t{number}")) for number in range(30)])
    assert budget.used_bytes == size
    book.drop()

    assert budget.used_bytes == 0
