"""Tasks to watch."""

from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart, UploadId
from gateway.domain.task import Task, TaskId
from gateway.transfer.ports import TaskStore

MIB = 1 << 20


def new_task(task_id: str, owner: str = "alice", created_at: float = 1000.0) -> Task:
    return Task(
        id=TaskId(task_id),
        owner=owner,
        at=ObjectAddress(Bucket("b-1250000000", "ap-guangzhou"), f"{owner}/{task_id}"),
        size=100 * MIB,
        part_size=MIB,
        slice_size=MIB,
        async_limit=3,
        upload_id=UploadId("u1"),
        created_at=created_at,
        updated_at=created_at,
        expires_at=created_at + 600,
    )


def told(task: Task) -> dict[str, object]:
    return {"id": task.id, "version": task.version, "loaded": task.loaded, "state": task.state.value}


async def grow(store: TaskStore, task: Task, number: int) -> Task:
    """Store one more part of *task*."""
    claim = await store.begin_part(task.id, number, f"a{number}")
    return await store.store_part(claim.task, StoredPart(number, MIB, ETag('"e"'), 1), attempt=f"a{number}")
