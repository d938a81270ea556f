"""The task engine against a model of it: any calls, through two processes, with faults in between.

The model knows nothing of Redis, replicas or time: a state, what was acknowledged of each part, and what COS holds.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, ClassVar, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.domain.errors import (
    GatewayError,
    IllegalTransition,
    PartSizeMismatch,
    PartsMissing,
    TaskCanceled,
    TaskCompleting,
    TaskInError,
    TaskPaused,
    TaskSucceeded,
)
from gateway.domain.objects import ETag
from gateway.domain.parts import MIB
from gateway.domain.task import CompleteRequested, Intent, Task, TaskState
from gateway.transfer import completion, merging
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.replay import BufferedBody
from tests.fakes.local_cos import RunningCos
from tests.fakes.redis_server import send_command
from tests.transfer.kit import ALICE, World, random_bytes, running_world

T = TypeVar("T")

SIZES: Final = (MIB, MIB, 77)
BYTES: Final = {
    (number, variant): random_bytes(size, seed=10 * number + variant)
    for number, size in enumerate(SIZES, 1)
    for variant in range(2)
}
NUMBERS: Final = st.sampled_from(range(1, len(SIZES) + 1))
VARIANTS: Final = st.sampled_from(range(2))
PROCESSES: Final = st.sampled_from(range(2))
FAULTS: Final = (
    ("UploadPart", "error"),
    ("UploadPart", "reset"),
    ("UploadPart", "lost_answer"),
    ("UploadPart", "flip"),
    ("UploadPart", "wrong_crc"),
    ("CompleteMultipartUpload", "error"),
    ("CompleteMultipartUpload", "lost_answer"),
    ("CompleteMultipartUpload", "error_in_200"),
    ("CompleteMultipartUpload", "truncated"),
)
REFUSED: Final[dict[str, type[GatewayError]]] = {
    "paused": TaskPaused,
    "canceled": TaskCanceled,
    "lost": TaskInError,
}
STATES: Final = {
    "open": {TaskState.WAITING, TaskState.UPLOADING},
    "paused": {TaskState.PAUSED},
    "success": {TaskState.SUCCESS},
    "canceled": {TaskState.CANCELED},
    "lost": {TaskState.ERROR},
}


def etag(number: int, variant: int) -> ETag:
    return ETag(f'"{md5(BYTES[number, variant], usedforsecurity=False).hexdigest()}"')


@dataclass
class Model:
    """``known``: the variant of each part that the gateway acknowledged; ``held``: the one that COS holds."""

    state: str = "open"
    known: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.known) == len(SIZES)

    def lost_parts(self) -> list[int]:
        """Parts that were replaced at COS by bytes whose gateway died."""
        return [number for number, variant in self.known.items() if self.held[number] != variant]


class EngineMachine(RuleBasedStateMachine):
    """Two processes, one task, and everything that may happen to it."""

    redis_url: ClassVar[str]
    cos: ClassVar[RunningCos]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._worlds: list[World] = [
            self._run(self._stack.enter_async_context(running_world(self.redis_url, self.cos))) for _ in range(2)
        ]
        self.model = Model()
        self.task: Task = self._run(self._worlds[0].create(size=sum(SIZES)))
        self.version = self.task.version

    def teardown(self) -> None:
        """Heal everything: the client then ends the upload, whatever happened."""
        try:
            self.cos.clear_faults()
            self._finish()
        finally:
            self._run(self._stack.aclose())
            self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _outcome(self, work: Coroutine[Any, Any, T]) -> T | GatewayError:
        async def guarded() -> T | GatewayError:
            try:
                return await work
            except GatewayError as error:
                return error

        return self._run(guarded())

    # --- what callers do

    @rule(number=NUMBERS, variant=VARIANTS, process=PROCESSES)
    def put_part(self, number: int, variant: int, process: int) -> None:
        model = self.model
        outcome = self._outcome(self._worlds[process].put_part(self.task, number, BYTES[number, variant]))
        if model.state == "success":
            same = model.known.get(number) == variant
            # After Redis was lost nobody knows the bytes of a finished file any more.
            assert isinstance(outcome, TaskSucceeded) or (same and outcome.etag == etag(number, variant))  # type: ignore[union-attr]
        elif model.state != "open":
            assert isinstance(outcome, REFUSED[model.state]), outcome
        else:
            assert not isinstance(outcome, GatewayError), outcome
            assert (outcome.etag, outcome.size) == (etag(number, variant), SIZES[number - 1])
            model.known[number] = variant
            if self._sent_to_cos(number, variant):
                model.held[number] = variant

    def _sent_to_cos(self, number: int, variant: int) -> bool:
        """The same bytes as those that are recorded are not sent again."""
        held = self._run(self._held())
        return held.get(number) == etag(number, variant)

    @rule(process=PROCESSES)
    def put_part_of_another_length(self, process: int) -> None:
        outcome = self._outcome(self._worlds[process].put_part(self.task, 1, b"short"))
        expected: dict[str, type[GatewayError]] = {"open": PartSizeMismatch, "success": TaskSucceeded, **REFUSED}
        assert isinstance(outcome, expected[self.model.state]), outcome

    @rule(process=PROCESSES)
    def complete(self, process: int) -> None:
        model = self.model
        outcome = self._outcome(self._worlds[process].control.complete(ALICE, self.task.id, CompleteWanted()))
        if model.state in ("paused", "canceled", "lost"):
            assert isinstance(outcome, REFUSED[model.state]), outcome
        elif model.state == "success":
            assert isinstance(outcome, Task)
        elif model.is_whole and not model.lost_parts():
            assert isinstance(outcome, Task), outcome
            assert outcome.state is TaskState.SUCCESS
            self._succeeded()
        else:
            assert isinstance(outcome, PartsMissing), outcome
            model.state = "open"
            if model.is_whole:
                for number in model.lost_parts():
                    del model.known[number]

    def _succeeded(self) -> None:
        self.model.state = "success"
        data = b"".join(BYTES[number, self.model.held[number]] for number in sorted(self.model.held))
        assert self._worlds[0].read(self.task.at) == data

    @rule(process=PROCESSES, verb=st.sampled_from(["pause", "restart", "cancel"]))
    def control(self, process: int, verb: str) -> None:
        model = self.model
        outcome = self._outcome(getattr(self._worlds[process].control, verb)(ALICE, self.task.id, None))
        after = {
            ("open", "pause"): "paused",
            ("paused", "pause"): "paused",
            ("open", "restart"): "open",
            ("paused", "restart"): "open",
            ("lost", "restart"): "open",
            ("open", "cancel"): "canceled",
            ("paused", "cancel"): "canceled",
            ("lost", "cancel"): "canceled",
            ("canceled", "cancel"): "canceled",
        }.get((model.state, verb))
        if after is None:
            assert isinstance(outcome, IllegalTransition), outcome
            return
        assert isinstance(outcome, Task), outcome
        if model.state == "lost" or after == "canceled":
            model.known, model.held = {}, {}
        model.state = after

    # --- faults

    @rule(fault=st.sampled_from(FAULTS))
    def cos_fails_once(self, fault: tuple[str, str]) -> None:
        """At most one fault waits: two in a row for one part, with the third attempt, are the client's to see."""
        operation, action = fault
        self.cos.clear_faults()
        self.cos.fault(action, operation=operation, key=self.task.at.key, status=500, code="InternalError")

    @precondition(lambda self: self.model.state == "open")
    @rule(number=NUMBERS, variant=VARIANTS)
    def a_process_dies_between_cos_and_redis(self, number: int, variant: int) -> None:
        """Its bytes are at COS, its attempt is noted, and nobody was told."""
        world = self._worlds[0]

        async def die() -> None:
            task = await world.load(self.task)
            assert task.upload_id is not None
            await world.tasks.begin_part(task.id, number, "dead")
            await world.objects.upload_part(task.at, task.upload_id, number, BufferedBody([BYTES[number, variant]]), {})

        self._run(die())
        self.model.held[number] = variant

    @precondition(lambda self: self.model.state == "open")
    @rule(process=PROCESSES)
    def a_process_dies_while_it_completes(self, process: int) -> None:
        """The next completion takes over; one that looks sooner or later would do so by itself."""
        world = self._worlds[process]
        self._run(world.tasks.apply(self.task, CompleteRequested(Intent.COMPLETE)))
        outcome = self._outcome(world.put_part(self.task, 1, BYTES[1, 0]))
        assert isinstance(outcome, TaskCompleting), outcome
        self.complete(process)

    @rule(process=PROCESSES)
    def redis_loses_everything(self, process: int) -> None:
        """And the next caller shows the ticket."""
        model = self.model
        world = self._worlds[process]
        last = self._run(world.load(self.task))
        send_command(self.redis_url, "FLUSHALL")
        self._run(world.control.rebuild(ALICE, last))
        if model.state in ("canceled", "lost"):
            model.state, model.known, model.held = "lost", {}, {}
        elif model.state == "success":
            model.known = {}
        else:
            model.state, model.known = "open", dict(model.held)

    # --- what holds at any moment

    @invariant()
    def the_task_is_what_the_model_says(self) -> None:
        model = self.model
        now = self._run(self._worlds[0].load(self.task))
        assert now.state in STATES[model.state], (now.state, model)
        assert now.version >= self.version
        self.version = now.version
        if model.state in ("open", "paused"):
            stored = {part.number: part.etag for part in self._run(self._worlds[0].tasks.parts(now.id))}
            assert stored == {number: etag(number, variant) for number, variant in model.known.items()}
            assert now.loaded == sum(SIZES[number - 1] for number in model.known)
            assert self._run(self._held()) == {number: etag(number, v) for number, v in model.held.items()}

    async def _held(self) -> dict[int, ETag]:
        task = await self._worlds[0].load(self.task)
        return await merging.held_etags(self._worlds[0].objects, task)

    def _finish(self) -> None:
        """A plain client: restart what rests, send what is missing, complete."""
        model = self.model
        if model.state == "canceled":
            return
        if model.state in ("paused", "lost"):
            self.control(0, "restart")
        for _ in range(3):
            if model.state == "success":
                return
            self.complete(0)
            if model.state == "open":
                for number in set(range(1, len(SIZES) + 1)) - set(model.known):
                    self.put_part(number, 0, 1)
        assert model.state == "success"


@pytest.mark.promise(1, 8, 10, 12, 13, 16, 19)
def test_whatever_happens_the_engine_does_what_the_model_says(
    redis_url: str, cos: RunningCos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, seconds in (
        (completion, "POLL_SECONDS", 0.01),
        (completion, "LEASE_SECONDS", 0.05),
        (merging, "MERGE_PAUSE_SECONDS", 0.01),
        (merging, "OUTAGE_SECONDS", 0.2),
    ):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(EngineMachine, "redis_url", redis_url, raising=False)
    monkeypatch.setattr(EngineMachine, "cos", cos, raising=False)
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
