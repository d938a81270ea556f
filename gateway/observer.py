"""What the adapters tell of their calls, as metrics and as spans."""

from typing import Final

from gateway.audit import AuditEvent, audit
from gateway.domain.pseudonyms import subject_pseudonym
from gateway.domain.task import CancelRequested, Succeeded, Task, TaskState
from gateway.telemetry import DOOR, Metrics
from gateway.tracing import record

_AUDITED: Final = {
    "Created": AuditEvent.CREATE,
    Succeeded.__name__: AuditEvent.COMPLETE,
    CancelRequested.__name__: AuditEvent.CANCEL,
}
_STORING: Final = frozenset({"put_object", "upload_part", "append_object"})


class Observer:
    """Called by the stores and by the client of COS when a call has ended.

    ``cos_state``: one word on COS, for people.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.cos_state = "unknown"

    def redis(self, call: str, seconds: float, was_done: bool) -> None:
        """A call to Redis took *seconds*."""
        self._metrics.observe("gateway_redis_call_seconds", seconds, call)
        if not was_done:
            self._metrics.count("gateway_redis_failures_total", call)
        record(f"Redis {call}", seconds, {"db.system.name": "redis"}, failed=not was_done)

    def move(self, event: str, task: Task) -> None:
        """*event* made *task*, or led to it."""
        self._metrics.count("gateway_task_transitions_total", event, task.state, DOOR.get())
        done = [_AUDITED[event]] if event in _AUDITED else []
        if event == "Created" and task.state is TaskState.SUCCESS:
            done.append(AuditEvent.COMPLETE)  # a small file is written with its end in it
        for what in done:
            audit(what, task_id=task.id, owner=subject_pseudonym(task.owner), bucket=task.at.bucket.name)

    def cos(self, operation: str, status: int, seconds: float, sent_bytes: int) -> None:
        """An attempt at COS was answered *status*, 0 for not at all."""
        metrics = self._metrics
        self.cos_state = "ok" if 0 < status < 500 else "failing"
        metrics.count("gateway_cos_calls_total", operation, str(status))
        if sent_bytes:
            metrics.count("gateway_cos_bytes_total", by=sent_bytes)
        if status == 200 and operation in _STORING:
            metrics.count("gateway_parts_stored_total")
            metrics.observe("gateway_part_seconds", seconds)
        told = {"http.response.status_code": status, "http.request.body.size": sent_bytes}
        record(f"COS {operation}", seconds, told, failed=not 0 < status < 500)
