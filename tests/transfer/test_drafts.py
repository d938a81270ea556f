"""What a caller says of a file, as a task; who may say what is shown by test_control.py."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.errors import InvalidField, UnknownDestination
from gateway.domain.objects import Bucket
from gateway.domain.parts import MIB
from gateway.domain.policy import Caller, Destination, Destinations, Policy
from gateway.domain.task import Intent, TaskState
from gateway.transfer.drafts import MAX_OPTIONS_BYTES, MAX_SLICE_BYTES, Drafts, NewTask

FILES = Destination("files", Bucket("files-1250000000", "ap-guangzhou"), "team/", None)
PHOTOS = Destination("photos", Bucket("photos-1250000000", "ap-guangzhou"), "", ("image/*",))
NOW = 1_795_000_000.5
DRAFTS = Drafts(Destinations((FILES, PHOTOS)), 3600, lambda: NOW)


def alice(prefix: str = "") -> Caller:
    return Caller("alice", Policy(prefix=prefix), 2e9)


def test_a_task_lives_from_now_on_under_an_id_of_its_own() -> None:
    one, two = (DRAFTS.task(alice(), NewTask(key="team/a", size=1)) for _ in range(2))

    assert (one.owner, one.state, one.at.bucket) == ("alice", TaskState.WAITING, FILES.bucket)
    assert (one.created_at, one.updated_at, one.expires_at) == (NOW, NOW, NOW + 3600)
    assert one.id != two.id


@pytest.mark.parametrize(
    ("size", "slice_size", "opens"),
    [
        (None, MIB, True),
        (MIB, MIB, False),
        (MIB + 1, MIB, True),
        (MAX_SLICE_BYTES, 2 * MAX_SLICE_BYTES, False),
        (MAX_SLICE_BYTES + 1, 2 * MAX_SLICE_BYTES, True),
    ],
)
def test_a_file_that_may_not_go_in_one_put_opens_an_upload(size: int | None, slice_size: int, *, opens: bool) -> None:
    task = DRAFTS.task(alice(), NewTask(key="team/a", size=size, slice_size=slice_size))

    assert (task.intent is Intent.INITIATE) is opens


def test_where_only_some_types_may_be_a_browser_shows_none_of_them() -> None:
    plain = DRAFTS.task(alice(), NewTask(key="team/a", size=1))
    typed = DRAFTS.task(alice(), NewTask(key="a", bucket="photos", content_type="image/png", size=1))

    assert "content-disposition" not in plain.object_headers
    assert typed.object_headers["content-disposition"] == "attachment"


def test_a_file_without_a_key_goes_below_the_narrowest_prefix() -> None:
    assert DRAFTS.key_for(alice(), None, None, "a.png") == "team/a.png"
    assert DRAFTS.key_for(alice("team/alice/"), None, None, "a.png") == "team/alice/a.png"
    assert DRAFTS.key_for(alice("mine/"), "photos", None, "a.png") == "mine/a.png"
    with pytest.raises(UnknownDestination):
        DRAFTS.key_for(alice(), "nowhere", None, "a.png")


@pytest.mark.parametrize("where", ["object_headers", "part_headers"])
def test_s5_options_have_a_bound_in_all(where: str) -> None:
    """They stay in Redis until the task ends."""
    room = MAX_OPTIONS_BYTES - len("x-cos-a") - len("x-cos-b")
    fits = {"x-cos-a": "v" * (room - 1000), "x-cos-b": "v" * 1000}

    plain = NewTask(key="team/a")

    def given(headers: dict[str, str]) -> dict[str, Any]:
        return {where: headers}

    assert DRAFTS.task(alice(), replace(plain, **given(fits))).id
    with pytest.raises(InvalidField, match=f"{MAX_OPTIONS_BYTES + 1} bytes in all, expected at most"):
        DRAFTS.task(alice(), replace(plain, **given({**fits, "x-cos-b": "v" * 1001})))
