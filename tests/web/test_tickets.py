"""A ticket tells of its task what COS cannot, to this gateway only, and for as long as the task may be asked for."""

import time
from dataclasses import replace

import pytest

from gateway.domain.errors import TaskExpired, TicketInvalid
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import UploadId
from gateway.domain.task import BodyMode, Task, TaskId
from gateway.web.sealing import Sealer
from gateway.web.tickets import Tickets
from tests.web.sample_tasks import new_task

SEALER = Sealer({"a": "s" * 40}, "a")


def _task(**facts: object) -> Task:
    now = time.time()
    return replace(new_task("t1", created_at=now), expires_at=now + 600, **facts)  # type: ignore[arg-type]


def test_a_ticket_gives_its_task_back_with_nothing_stored() -> None:
    task = _task(
        mode=BodyMode.PARTS,
        batch_id="b1",
        client_ref="holiday",
        content="c0ffee",
        object_headers={"content-type": "video/mp4", FORBID_OVERWRITE: "true"},
        part_headers={"x-cos-traffic-limit": "819200"},
    )
    later = replace(task, stored_count=3, contiguous_count=3, loaded=3 << 20, next_offset=3 << 20, version=9)

    found = Tickets(SEALER).open(Tickets(SEALER).of(later), task.id)

    assert replace(found, expires_at=task.expires_at) == task


@pytest.mark.parametrize("facts", [{"size": None}, {"size": 0}, {"upload_id": None}])
def test_what_is_unknown_stays_unknown(facts: dict[str, object]) -> None:
    task = _task(**facts)

    found = Tickets(SEALER).open(Tickets(SEALER).of(task), task.id)

    assert (found.size, found.upload_id) == (task.size, task.upload_id)


def test_a_task_s_ticket_changes_only_with_what_it_tells() -> None:
    tickets, task = Tickets(SEALER), _task()
    ticket = tickets.of(task)

    assert tickets.of(replace(task, version=7, loaded=1)) == ticket
    for change in ({"upload_id": UploadId("u2")}, {"size": 5}, {"mode": BodyMode.CONTENT}):
        assert tickets.of(replace(task, **change)) != ticket
    assert tickets.of(replace(task, expires_at=task.expires_at + 86_400)) != ticket


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ticket: ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BA"),
        lambda ticket: "",
        lambda ticket: "ticket",
        lambda ticket: SEALER.seal("cursor", {"id": "t1"}),
        lambda ticket: Tickets(Sealer({"a": "x" * 40}, "a")).of(_task()),
    ],
    ids=["changed", "empty", "junk", "a cursor", "another gateway's"],
)
def test_what_was_not_sealed_here_as_a_ticket_is_refused(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(TicketInvalid, match="no ticket"):
        Tickets(SEALER).open(spoil(Tickets(SEALER).of(_task())), TaskId("t1"))


def test_another_task_s_ticket_is_refused() -> None:
    with pytest.raises(TicketInvalid, match="another task"):
        Tickets(SEALER).open(Tickets(SEALER).of(_task()), TaskId("t2"))


def test_a_ticket_holds_as_long_as_its_task_and_less_than_a_day_more() -> None:
    now = time.time()
    with pytest.raises(TaskExpired):
        Tickets(SEALER).open(Tickets(SEALER).of(replace(_task(), expires_at=now - 86_400)), TaskId("t1"))

    found = Tickets(SEALER).open(Tickets(SEALER).of(replace(_task(), expires_at=now + 1)), TaskId("t1"))
    assert now + 1 <= found.expires_at <= now + 86_401


def test_headers_too_long_for_a_ticket_are_left_to_the_open_upload() -> None:
    long = _task(object_headers={FORBID_OVERWRITE: "true", "x-cos-callback": "c" * 5000})
    tickets = Tickets(SEALER)

    assert tickets.open(tickets.of(long), long.id).object_headers == {FORBID_OVERWRITE: "true"}


def test_an_ordinary_ticket_is_a_short_header() -> None:
    task = _task(object_headers={"content-type": "video/mp4", "x-cos-meta-album": "summer"}, client_ref="holiday-1")

    assert len(Tickets(SEALER).of(task)) < 1024


def test_tickets_do_not_pile_up_in_memory() -> None:
    tickets = Tickets(SEALER)

    for number in range(5000):
        tickets.of(replace(_task(), id=TaskId(f"task {number}")))

    assert 0 < len(tickets._sealed) <= 4096
