"""Who sees a task: its owner, and an overseer inside the token's policy."""

import pytest

from gateway.domain.errors import Forbidden, TaskNotFound
from gateway.domain.objects import Bucket, ObjectAddress
from gateway.domain.policy import Action, Caller, Destination, Destinations, Policy
from gateway.domain.task import Task, TaskId
from gateway.transfer.access import is_visible, require_visible

TASK = Task(
    id=TaskId("t"),
    owner="alice",
    at=ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "photos/a"),
    size=1,
    part_size=1,
    slice_size=1,
    async_limit=1,
    created_at=0,
    updated_at=0,
    expires_at=0,
)


def bob(**policy: object) -> Caller:
    return Caller("bob", Policy(**policy), 2e9)  # type: ignore[arg-type]


OVERSEES = frozenset({"all_tasks", "read"})


def test_the_owner_sees_the_task() -> None:
    assert require_visible(Caller("alice", Policy(), 2e9), TASK, Action.READ) is TASK


def test_the_owner_needs_the_action_too() -> None:
    with pytest.raises(Forbidden):
        require_visible(Caller("alice", Policy(actions=frozenset({"read"})), 2e9), TASK, Action.UPLOAD)


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"actions": frozenset({"read"})},
        {"actions": OVERSEES, "prefix": "videos/"},
        {"actions": OVERSEES, "buckets": frozenset({"other-1250000000"})},
    ],
)
def test_for_anyone_else_the_task_does_not_exist(policy: dict[str, object]) -> None:
    with pytest.raises(TaskNotFound) as foreign:
        require_visible(bob(**policy), TASK, Action.READ)
    with pytest.raises(TaskNotFound) as unknown:
        require_visible(bob(**policy), None, Action.READ)

    assert (foreign.value.detail, foreign.value.facts) == (unknown.value.detail, unknown.value.facts)


@pytest.mark.parametrize("policy", [{}, {"prefix": "photos/"}, {"buckets": frozenset({"files-1250000000"})}], ids=str)
def test_an_overseer_sees_every_task_inside_the_policy(policy: dict[str, object]) -> None:
    assert require_visible(bob(actions=OVERSEES, **policy), TASK, Action.READ) is TASK


@pytest.mark.parametrize(("prefix", "seen"), [("", True), ("photos/", True), ("videos/", False)])
def test_an_overseer_s_alias_stands_for_its_bucket_below_its_prefix(prefix: str, *, seen: bool) -> None:
    places = Destinations((Destination("album", TASK.at.bucket, prefix),))
    policy = places.resolved(Policy(actions=OVERSEES, buckets=frozenset({"album"})))

    assert is_visible(Caller("bob", policy, 2e9), TASK) is seen


def test_an_overseer_who_may_not_act_is_told_so() -> None:
    with pytest.raises(Forbidden):
        require_visible(bob(actions=OVERSEES), TASK, Action.CONTROL)
